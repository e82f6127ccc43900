//! The verbs on DynamoDB. Translates, decides nothing.

#[cfg(test)]
mod allocations;
mod duration_text;
mod expression;
mod fenced;
#[cfg(test)]
mod fuzz;
mod key;
mod list;
mod operator;
mod outcome;
mod places;
mod record;
mod table;
mod transport;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::get_item::builders::GetItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};

pub use duration_text::DurationText;
pub(crate) use fenced::{Clauses, and, and_set, is_closed};
pub use key::Key;
pub(crate) use key::{Schema, check_partition};
pub(crate) use operator::Sealed;
pub use record::LockRecord;
pub(crate) use record::{Found, attribute};
pub use table::{TableOptions, TableReport};
pub(crate) use transport::sdk_config;

use crate::error::{Error, ErrorKind};
use crate::protocol::{Consistency, Moment, Write, WriteKind};
use expression::Expression;
use outcome::classify;
use places::{Place, Places};
use record::Item;

/// Requests of one client under way at once, of each of two kinds: for leases that are held, and all others. A heartbeat takes
/// tens of milliseconds, so these carry thousands of locks, and a hundred hung ones leave room for the others.
const MAX_UNDER_WAY: usize = 256;

/// The SDK's futures take kilobytes. Whoever awaits one lives much longer as a rule, and would have room for it all the while:
/// a lock, for as long as it is held.
fn boxed<T>(request: impl Future<Output = T> + Send) -> Pin<Box<impl Future<Output = T> + Send>> {
    Box::pin(request)
}

/// An operation of DynamoDB, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    GetItem,
    UpdateItem,
    DeleteItem,
    Scan,
    Query,
    DescribeTable,
    DescribeTimeToLive,
    CreateTable,
}

impl Op {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::GetItem,
        Self::UpdateItem,
        Self::DeleteItem,
        Self::Scan,
        Self::Query,
        Self::DescribeTable,
        Self::DescribeTimeToLive,
        Self::CreateTable,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GetItem => "GetItem",
            Self::UpdateItem => "UpdateItem",
            Self::DeleteItem => "DeleteItem",
            Self::Scan => "Scan",
            Self::Query => "Query",
            Self::DescribeTable => "DescribeTable",
            Self::DescribeTimeToLive => "DescribeTimeToLive",
            Self::CreateTable => "CreateTable",
        }
    }
}

/// Told of every answered operation and the capacity units it cost.
pub(crate) type Meter = Arc<dyn Fn(Op, f64) + Send + Sync>;

/// What a write sets besides what the protocol says.
#[derive(Debug, Clone)]
pub(crate) struct Fill {
    pub(crate) owner: String,
    pub(crate) text: DurationText,
    pub(crate) data: DataChange,
    /// Set by the claim, kept by everybody after it.
    pub(crate) attributes: Vec<(String, AttributeValue)>,
    pub(crate) acquired_at: String,
    pub(crate) token: TokenChange,
    /// The token that was sealed in the fence record, from then on.
    pub(crate) sealed: Option<u64>,
    pub(crate) delete_on_release: bool,
}

#[cfg(test)]
impl Fill {
    /// Of a lock without data and attributes: tests say what is different.
    fn plain() -> Self {
        Self {
            owner: "me".into(),
            text: DurationText::Go,
            data: DataChange::Keep,
            attributes: Vec::new(),
            acquired_at: "2026-01-01T00:00:00Z".into(),
            token: TokenChange::Set,
            sealed: None,
            delete_on_release: false,
        }
    }
}

/// What becomes of the record's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataChange {
    Keep,
    Set(Vec<u8>),
    Clear,
}

/// What a claim does to the record's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenChange {
    /// Nothing: there are no tokens here.
    Keep,
    Set,
    /// Takes it out: nobody knows what was handed out before, and every later holder must see that.
    Forget,
}

/// The answer to a conditional write.
#[derive(Debug)]
pub(crate) enum Written {
    /// With the record as it is now, for a claim.
    Applied(Option<Found>),
    /// The condition did not hold; the record as it was.
    Refused(Found),
}

/// One table, reached through one SDK client.
pub(crate) struct Store {
    client: Client,
    schema: Schema,
    meter: Meter,
    under_way: Places,
    /// Apart, so that followers whose reads hang hold up no heartbeat.
    renewals_under_way: Places,
    /// `A`: also bounds how long a request waits for its turn.
    patience: Duration,
}

impl Store {
    pub(crate) fn new(client: Client, schema: Schema, meter: Meter, patience: Duration) -> Self {
        Self {
            client,
            schema,
            meter,
            under_way: Places::new(MAX_UNDER_WAY),
            renewals_under_way: Places::new(MAX_UNDER_WAY),
            patience,
        }
    }

    /// Checks a key against the table's schema.
    pub(crate) fn key(&self, key: Key) -> Result<Key, Error> {
        self.schema.key(key)
    }

    /// Checks what an acquisition wants to store, before anything is sent.
    pub(crate) fn check_content(
        &self,
        data: &DataChange,
        attributes: &[(String, AttributeValue)],
    ) -> Result<(), Error> {
        for (name, _) in attributes {
            self.schema.check_attribute(name)?;
        }
        check_data(data)
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// What an item under `key` is.
    pub(crate) fn found(&self, item: &Item, key: &Key) -> Found {
        Found::from_item(Some(item), key, &self.schema)
    }

    fn key_attributes(&self, key: &Key) -> Item {
        let sort = self.schema.sort_key.clone().zip(key.sort_value().map(str::to_owned));
        std::iter::once((self.schema.partition_key.clone(), key.partition().to_owned()))
            .chain(sort)
            .map(|(name, value)| (name, AttributeValue::S(value)))
            .collect()
    }

    fn spent(&self, op: Op, capacity: Option<&ConsumedCapacity>) {
        (self.meter)(op, capacity.and_then(ConsumedCapacity::capacity_units).unwrap_or(0.0));
    }

    /// A place among the requests under way. What serves a lease that is held goes apart, lest followers whose reads hang hold it up,
    /// and first goes the one that must be done soonest.
    pub(crate) async fn place(&self, held_until: Option<Moment>) -> Result<Place, Error> {
        let (places, by) = match held_until {
            Some(until) => (&self.renewals_under_way, until),
            None => (&self.under_way, Moment::NEVER),
        };
        let crowded = || {
            Error::new(
                ErrorKind::Throttled,
                format!("{MAX_UNDER_WAY} requests of this client wait for table {} already", self.schema.table),
            )
        };
        tokio::time::timeout(self.patience, places.take(by)).await.map_err(|_| crowded())
    }

    fn get(&self, key: &Key) -> GetItemFluentBuilder {
        self.client
            .get_item()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(key)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// No `async fn`: that would keep room for the request beside its future.
    fn fetch(
        &self,
        request: GetItemFluentBuilder,
        held_until: Option<Moment>,
    ) -> impl Future<Output = Result<Option<Item>, Error>> + Send {
        let answer = boxed(request.send());
        async move {
            let _place = self.place(held_until).await?;
            let output = answer.await.map_err(|error| classify(Op::GetItem, &self.schema.table, error))?;
            self.spent(Op::GetItem, output.consumed_capacity());
            Ok(output.item)
        }
    }

    /// Reads the record: for whoever holds it until then, or follows it.
    pub(crate) async fn read(
        &self,
        key: &Key,
        consistency: Consistency,
        held_until: Option<Moment>,
    ) -> Result<Found, Error> {
        let item = self.read_item(key, consistency, held_until).await?;
        Ok(Found::from_item(item.as_ref(), key, &self.schema))
    }

    /// Sends a conditional write from this place.
    pub(crate) async fn write(&self, _place: Place, key: &Key, write: &Write, fill: &Fill) -> Result<Written, Error> {
        let expression = Expression::of(write, fill, &self.schema.partition_key);
        if write.kind == WriteKind::Release && fill.delete_on_release {
            self.delete(key, expression).await
        } else {
            self.update(key, expression, matches!(write.kind, WriteKind::Claim { .. })).await
        }
    }

    async fn update(&self, key: &Key, expression: Expression, show: bool) -> Result<Written, Error> {
        Ok(match self.write_item(key, expression, show).await? {
            Ok(new) => Written::Applied(show.then(|| Found::from_item(new.as_ref(), key, &self.schema))),
            Err(old) => Written::Refused(Found::from_item(old.as_ref(), key, &self.schema)),
        })
    }

    fn update_request(&self, key: &Key, expression: Expression, show: bool) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(key)))
            .update_expression(expression.update)
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(if show { ReturnValue::AllNew } else { ReturnValue::None })
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// One conditional update: the item as it is now (where it is to be shown), or as it was when it was refused.
    async fn write_item(
        &self,
        key: &Key,
        expression: Expression,
        show: bool,
    ) -> Result<Result<Option<Item>, Option<Item>>, Error> {
        match boxed(self.update_request(key, expression, show).send()).await {
            Ok(output) => {
                self.spent(Op::UpdateItem, output.consumed_capacity());
                Ok(Ok(output.attributes))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    // A refused write costs a unit too; DynamoDB does not say so in the answer.
                    (self.meter)(Op::UpdateItem, 1.0);
                    Ok(Err(failed.item().cloned()))
                }
                _ => Err(classify(Op::UpdateItem, &self.schema.table, error)),
            },
        }
    }

    async fn delete(&self, key: &Key, expression: Expression) -> Result<Written, Error> {
        let request = self
            .client
            .delete_item()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(key)))
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match boxed(request.send()).await {
            Ok(output) => {
                self.spent(Op::DeleteItem, output.consumed_capacity());
                Ok(Written::Applied(None))
            }
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                    (self.meter)(Op::DeleteItem, 1.0);
                    Ok(Written::Refused(Found::from_item(failed.item(), key, &self.schema)))
                }
                _ => Err(classify(Op::DeleteItem, &self.schema.table, error)),
            },
        }
    }
}

/// DynamoDB's limit for a whole item. What else is in the record only the table knows: it refuses the rest.
const MAX_ITEM: usize = 400 * 1024;

/// Data that can never fit is refused before it is sent.
pub(crate) fn check_data(data: &DataChange) -> Result<(), Error> {
    match data {
        DataChange::Set(data) if data.len() >= MAX_ITEM => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("the data has {} bytes: a record holds less than {MAX_ITEM}, keep it elsewhere", data.len()),
        )),
        DataChange::Keep | DataChange::Set(_) | DataChange::Clear => Ok(()),
    }
}
