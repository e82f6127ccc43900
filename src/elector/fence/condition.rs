//! A condition on items of the user's own, put into requests that the user built.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::builders::{PutBuilder, UpdateBuilder};

use crate::error::{Error, ErrorKind};
use crate::store::{Clauses, and, and_set, attribute, is_closed};

/// The condition that an item has seen no newer term, and the change that makes it remember this one:
/// `attribute_not_exists(fencingToken) OR fencingToken <= :t`, and `fencingToken = :t`. From [`Fence::condition`](crate::Fence::condition).
///
/// # Guarantee
///
/// No write of a deposed leader is applied **on items that the newer leader has already written** with this condition. It holds if
///
/// - every writer of the item uses it, under the same attribute name and the same election. A
///   write without it passes whoever sends it; a whole-item put without it makes the item forget.
/// - the item **is not deleted**, by nobody and by no TTL: with it goes the number, and a late put of a deposed leader passes. That is why
///   no deletion can be guarded with it: one that is refused in time would be right, but the one that goes through undoes the fence.
///   Mark such items as deleted instead, or delete in a transaction with [`Fence::condition_check`](crate::Fence::condition_check).
///
/// A write that is refused fails with `ConditionalCheckFailedException`, as one that your own condition refuses. Ask for the item
/// (`ReturnValuesOnConditionCheckFailure::AllOld`) to tell the two apart: a larger number in it means that the term is over.
/// An item whose attribute is no number is refused always.
///
/// `BatchWriteItem` knows no conditions, so nothing can guard it; send updates, puts, or transactions.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use dynamo_elector::{Elector, Embedded, LockClient};
/// # let engine = Embedded::in_memory()?;
/// # let locks = LockClient::embedded(&engine, "locks").build().await?;
/// # LockClient::embedded(&engine, "schedule").build().await?;
/// # let leadership = Elector::builder(&locks, "nightly-billing").build()?.campaign().await?;
/// # let client = engine.client();
/// use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
///
/// let fenced = leadership.fence().condition().attribute("term");
/// let put = client.put_item().table_name("schedule").item("key", AttributeValue::S("next-run".into()));
/// fenced.apply_to(put.condition_expression("attribute_not_exists(done)"))?.send().await?;
///
/// // Parts of a transaction are guarded alike.
/// let update = Update::builder()
///     .table_name("schedule")
///     .key("key", AttributeValue::S("next-run".into()))
///     .update_expression("SET done = :yes")
///     .expression_attribute_values(":yes", AttributeValue::Bool(true));
/// let part = TransactWriteItem::builder().update(fenced.apply_to(update)?.build()?).build();
/// client.transact_write_items().transact_items(part).send().await?;
/// # leadership.resign().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a condition guards nothing until it is applied to a write"]
pub struct FenceCondition {
    number: u64,
    attribute: String,
}

impl FenceCondition {
    pub(super) fn new(number: u64) -> Self {
        Self { number, attribute: attribute::TOKEN.to_owned() }
    }

    /// The attribute of your items that holds the number. Default: `fencingToken`. All writers of an item must use the same.
    pub fn attribute(self, name: impl Into<String>) -> Self {
        Self { attribute: name.into(), ..self }
    }

    /// Guards a write: extends its condition to `(yours) AND (the fence's)`, and makes it set the attribute. Your expressions,
    /// placeholders and everything else stay as they are.
    ///
    /// Call it last, when the write is complete. An expression that is set afterwards replaces the extended one: DynamoDB then
    /// refuses the write, because the fence's placeholders are no longer used. (Only a later `set_item`, or an `item` under the same
    /// name, it can't see.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`], and the write is not to be sent: if it uses the legacy parameters `Expected`, `AttributeUpdates`
    /// or `ConditionalOperator`, which go with no expression; if the attribute is in its key, in the item that it puts, or changed by its update;
    /// if its condition's parentheses are not closed; if the attribute's name is empty.
    pub fn apply_to<W: FencedWrite>(&self, write: W) -> Result<W, Error> {
        let mut parts = write.parts(&self.attribute);
        self.check(&parts)?;
        // Placeholders of their own for the condition and for the change: an expression that replaces ours leaves them unused.
        let number = AttributeValue::N(self.number.to_string());
        let (name, value) = self.placeholders(&mut parts, "electorFence", &number);
        let ours = format!("attribute_not_exists({name}) OR {name} <= {value}");
        parts.condition = Some(and(parts.condition.as_deref(), &ours));
        if W::PUTS {
            parts.item = Some((self.attribute.clone(), number));
        } else {
            let (name, value) = self.placeholders(&mut parts, "electorFenceSet", &number);
            parts.update = Some(and_set(parts.update.as_deref(), &format!("{name} = {value}")));
        }
        Ok(write.with(parts))
    }

    fn check(&self, parts: &Parts) -> Result<(), Error> {
        let name = &self.attribute;
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if name.is_empty() {
            return invalid("the fence's attribute has no name: give attribute(…) one, or leave it out".into());
        }
        if let Some(legacy) = parts.legacy {
            return invalid(format!(
                "the write uses the legacy parameter {legacy}, which goes with no expression: write it as an expression"
            ));
        }
        let changes = parts.update.as_deref().map_or(vec![], |update| Clauses::of(update).targets);
        let touched = changes.iter().any(|target| *target == name || parts.names.get(*target) == Some(name));
        if parts.has_attribute || touched {
            return invalid(format!(
                "the write has the attribute {name:?} already: leave it to the fence, or give attribute(…) another name"
            ));
        }
        if parts.condition.as_deref().is_some_and(|condition| !is_closed(condition)) {
            return invalid("the parentheses of the write's condition don't match: close them".into());
        }
        Ok(())
    }

    /// A name and a value that nothing in the request is called like, defined for it.
    fn placeholders(&self, parts: &mut Parts, base: &str, number: &AttributeValue) -> (String, String) {
        let texts = [parts.update.as_deref(), parts.condition.as_deref()];
        let written = |placeholder: &str| texts.iter().flatten().any(|text| text.contains(placeholder));
        let mut word = base.to_owned();
        for count in 2.. {
            let (name, value) = (format!("#{word}"), format!(":{word}"));
            let defined = parts.names.contains_key(&name) || parts.values.contains_key(&value);
            if !(defined || written(&name) || written(&value)) {
                break;
            }
            word = format!("{base}{count}");
        }
        let (name, value) = (format!("#{word}"), format!(":{word}"));
        parts.names.insert(name.clone(), self.attribute.clone());
        parts.values.insert(value.clone(), number.clone());
        (name, value)
    }
}

/// A write that a [`FenceCondition`] can guard: `UpdateItem` and `PutItem` as the SDK builds them, and the updates and
/// puts of a transaction. Nothing else can be one.
pub trait FencedWrite: Sealed {}

impl<W: Sealed> FencedWrite for W {}

/// What of a write is looked at, and changed.
#[derive(Debug, Default)]
pub struct Parts {
    legacy: Option<&'static str>,
    /// The key, or the item that is put, has the fence's attribute.
    has_attribute: bool,
    update: Option<String>,
    condition: Option<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    /// One attribute more for the item that is put.
    item: Option<(String, AttributeValue)>,
}

pub trait Sealed: Sized {
    const PUTS: bool;
    fn parts(&self, attribute: &str) -> Parts;
    fn with(self, parts: Parts) -> Self;
}

macro_rules! updates {
    ($builder:ty, $legacy:expr) => {
        impl Sealed for $builder {
            const PUTS: bool = false;

            fn parts(&self, attribute: &str) -> Parts {
                Parts {
                    legacy: $legacy(self),
                    has_attribute: self.get_key().as_ref().is_some_and(|key| key.contains_key(attribute)),
                    update: self.get_update_expression().clone(),
                    condition: self.get_condition_expression().clone(),
                    names: self.get_expression_attribute_names().clone().unwrap_or_default(),
                    values: self.get_expression_attribute_values().clone().unwrap_or_default(),
                    item: None,
                }
            }

            fn with(self, parts: Parts) -> Self {
                self.set_update_expression(parts.update)
                    .set_condition_expression(parts.condition)
                    .set_expression_attribute_names(Some(parts.names))
                    .set_expression_attribute_values(Some(parts.values))
            }
        }
    };
}

macro_rules! puts {
    ($builder:ty, $legacy:expr) => {
        impl Sealed for $builder {
            const PUTS: bool = true;

            fn parts(&self, attribute: &str) -> Parts {
                Parts {
                    legacy: $legacy(self),
                    has_attribute: self.get_item().as_ref().is_some_and(|item| item.contains_key(attribute)),
                    update: None,
                    condition: self.get_condition_expression().clone(),
                    names: self.get_expression_attribute_names().clone().unwrap_or_default(),
                    values: self.get_expression_attribute_values().clone().unwrap_or_default(),
                    item: None,
                }
            }

            fn with(self, parts: Parts) -> Self {
                let this = self
                    .set_condition_expression(parts.condition)
                    .set_expression_attribute_names(Some(parts.names))
                    .set_expression_attribute_values(Some(parts.values));
                match parts.item {
                    Some((name, value)) => this.item(name, value),
                    None => this,
                }
            }
        }
    };
}

/// The first of them that is there.
fn first<const N: usize>(parameters: [(&'static str, bool); N]) -> Option<&'static str> {
    parameters.into_iter().find_map(|(name, is_there)| is_there.then_some(name))
}

updates!(UpdateItemFluentBuilder, |write: &UpdateItemFluentBuilder| first([
    ("Expected", write.get_expected().is_some()),
    ("AttributeUpdates", write.get_attribute_updates().is_some()),
    ("ConditionalOperator", write.get_conditional_operator().is_some()),
]));
puts!(PutItemFluentBuilder, |write: &PutItemFluentBuilder| first([
    ("Expected", write.get_expected().is_some()),
    ("ConditionalOperator", write.get_conditional_operator().is_some()),
]));
updates!(UpdateBuilder, |_| None);
puts!(PutBuilder, |_| None);

#[cfg(test)]
mod tests;
