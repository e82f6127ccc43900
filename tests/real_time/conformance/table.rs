//! A table of an engine, and requests in the form in which the crate sends them.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::operation::get_item::builders::GetItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};

use super::engine::Engine;

pub(super) type Item = HashMap<String, AttributeValue>;

/// The placeholders of `src/store/expression.rs`, with the names they stand for.
const NAMES: [(&str, &str); 11] = [
    ("#key", "key"),
    ("#version", "recordVersionNumber"),
    ("#stamp", "stampedVersion"),
    ("#owner", "ownerName"),
    ("#acquired", "acquiredAt"),
    ("#token", "fencingToken"),
    ("#released", "isReleased"),
    ("#lease", "leaseDuration"),
    ("#heartbeat", "heartbeatMillis"),
    ("#data", "data"),
    ("#more0", "team"),
];

pub(super) fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(super) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn b(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

pub(super) fn item(attributes: &[(&str, AttributeValue)]) -> Item {
    attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// What DynamoDB said to a conditional write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// With the attributes that it returned.
    Applied(Option<Item>),
    /// With the item that it returned.
    Refused(Option<Item>),
}

impl Answer {
    pub(super) fn applied(&self) -> bool {
        matches!(self, Self::Applied(_))
    }
}

/// A conditional write in the form of `Store::write_item`: refused, it shows the item as it was.
pub(super) struct Change<'a> {
    pub(super) update: &'a str,
    pub(super) condition: &'a str,
    pub(super) values: Vec<(&'a str, AttributeValue)>,
}

impl Change<'_> {
    fn names(&self) -> Option<HashMap<String, String>> {
        let used = |placeholder: &str| {
            let text = format!("{} {}", self.update, self.condition);
            text.split(|c: char| !(c == '#' || c.is_ascii_alphanumeric())).any(|word| word == placeholder)
        };
        let names = NAMES.iter().filter(|(placeholder, _)| used(placeholder));
        Some(names.map(|(placeholder, name)| ((*placeholder).to_owned(), (*name).to_owned())).collect())
    }

    fn values(&self) -> Option<Item> {
        Some(item(&self.values))
    }
}

pub(super) struct Table<'a> {
    pub(super) engine: &'a Engine,
    pub(super) name: String,
}

impl<'a> Table<'a> {
    pub(super) fn new(engine: &'a Engine, name: String) -> Self {
        Self { engine, name }
    }

    /// Stores an item whole, whatever there was: what other clients do.
    pub(super) async fn put(&self, attributes: &[(&str, AttributeValue)]) {
        let put = self.engine.client.put_item().table_name(&self.name).set_item(Some(item(attributes)));
        put.send().await.unwrap();
    }

    pub(super) fn get(&self, key: &[(&str, AttributeValue)]) -> GetItemFluentBuilder {
        let get = self.engine.client.get_item().table_name(&self.name).set_key(Some(item(key)));
        get.return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// The item under `key`, strongly consistent.
    pub(super) async fn read(&self, key: &str) -> Option<Item> {
        self.get(&[("key", s(key))]).consistent_read(true).send().await.unwrap().item
    }

    pub(super) fn update(&self, key: &str, change: &Change<'_>) -> UpdateItemFluentBuilder {
        let update = self.engine.client.update_item().table_name(&self.name).key("key", s(key));
        update
            .update_expression(change.update)
            .condition_expression(change.condition)
            .set_expression_attribute_names(change.names())
            .set_expression_attribute_values(change.values())
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    pub(super) fn delete(&self, key: &str, change: &Change<'_>) -> DeleteItemFluentBuilder {
        let delete = self.engine.client.delete_item().table_name(&self.name).key("key", s(key));
        delete
            .condition_expression(change.condition)
            .set_expression_attribute_names(change.names())
            .set_expression_attribute_values(change.values())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    pub(super) async fn apply(&self, key: &str, change: &Change<'_>) -> Answer {
        answer(self.update(key, change)).await
    }

    pub(super) async fn apply_delete(&self, key: &str, change: &Change<'_>) -> Answer {
        match self.delete(key, change).send().await {
            Ok(output) => Answer::Applied(output.attributes),
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                    Answer::Refused(failed.item().cloned())
                }
                _ => panic!("{error:?}"),
            },
        }
    }
}

pub(super) async fn answer(update: UpdateItemFluentBuilder) -> Answer {
    match update.send().await {
        Ok(output) => Answer::Applied(output.attributes),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => Answer::Refused(failed.item().cloned()),
            _ => panic!("{error:?}"),
        },
    }
}
