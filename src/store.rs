//! The verbs on DynamoDB. Translates, decides nothing.

mod duration_text;
mod expression;
mod key;
mod outcome;
mod record;
mod table;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};

pub use duration_text::DurationText;
pub(crate) use key::{LockKey, Schema};
pub(crate) use record::Found;
pub use record::LockRecord;
pub(crate) use transport::sdk_config;

use crate::error::Error;
use crate::protocol::{Consistency, Write, WriteKind};
use expression::Expression;
use outcome::classify;

/// An operation of DynamoDB, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    GetItem,
    UpdateItem,
    DeleteItem,
    DescribeTable,
    CreateTable,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GetItem => "GetItem",
            Self::UpdateItem => "UpdateItem",
            Self::DeleteItem => "DeleteItem",
            Self::DescribeTable => "DescribeTable",
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
    pub(crate) heartbeat: Duration,
    pub(crate) data: DataChange,
    pub(crate) acquired_at: String,
    /// Whether the record keeps a token; not where it is deleted on release.
    pub(crate) fencing: bool,
    pub(crate) delete_on_release: bool,
}

/// What becomes of the record's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataChange {
    Keep,
    Set(Vec<u8>),
    Clear,
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
}

impl Store {
    pub(crate) fn new(client: Client, schema: Schema, meter: Meter) -> Self {
        Self { client, schema, meter }
    }

    /// Checks a key against the table's schema.
    pub(crate) fn key(&self, partition: String, sort: Option<String>) -> Result<LockKey, Error> {
        self.schema.key(partition, sort)
    }

    fn key_attributes(&self, key: &LockKey) -> Vec<(String, AttributeValue)> {
        let sort = self.schema.sort_key.clone().zip(key.sort().map(str::to_owned));
        std::iter::once((self.schema.partition_key.clone(), key.partition().to_owned()))
            .chain(sort)
            .map(|(name, value)| (name, AttributeValue::S(value)))
            .collect()
    }

    fn spent(&self, op: Op, capacity: Option<&ConsumedCapacity>) {
        (self.meter)(op, capacity.and_then(ConsumedCapacity::capacity_units).unwrap_or(0.0));
    }

    /// Reads the record.
    pub(crate) async fn read(&self, key: &LockKey, consistency: Consistency) -> Result<Found, Error> {
        let request = self
            .client
            .get_item()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(key).into_iter().collect()))
            .consistent_read(consistency == Consistency::Strong)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = request.send().await.map_err(|error| classify(Op::GetItem, &self.schema.table, error))?;
        self.spent(Op::GetItem, output.consumed_capacity());
        Ok(Found::from_item(output.item()))
    }

    /// Sends a conditional write.
    pub(crate) async fn write(&self, key: &LockKey, write: &Write, fill: &Fill) -> Result<Written, Error> {
        let expression = Expression::of(write, fill, &self.schema.partition_key);
        if write.kind == WriteKind::Release && fill.delete_on_release {
            self.delete(key, expression).await
        } else {
            self.update(key, expression, matches!(write.kind, WriteKind::Claim { .. })).await
        }
    }

    async fn update(&self, key: &LockKey, expression: Expression, show: bool) -> Result<Written, Error> {
        let request = self
            .client
            .update_item()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(key).into_iter().collect()))
            .update_expression(expression.update)
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(if show { ReturnValue::AllNew } else { ReturnValue::None })
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match request.send().await {
            Ok(output) => {
                self.spent(Op::UpdateItem, output.consumed_capacity());
                Ok(Written::Applied(show.then(|| Found::from_item(output.attributes()))))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    // A refused write costs a unit too; DynamoDB does not say so in the answer.
                    (self.meter)(Op::UpdateItem, 1.0);
                    Ok(Written::Refused(Found::from_item(failed.item())))
                }
                _ => Err(classify(Op::UpdateItem, &self.schema.table, error)),
            },
        }
    }

    async fn delete(&self, key: &LockKey, expression: Expression) -> Result<Written, Error> {
        let request = self
            .client
            .delete_item()
            .table_name(&self.schema.table)
            .set_key(Some(self.key_attributes(key).into_iter().collect()))
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match request.send().await {
            Ok(output) => {
                self.spent(Op::DeleteItem, output.consumed_capacity());
                Ok(Written::Applied(None))
            }
            Err(error) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(failed)) => {
                    (self.meter)(Op::DeleteItem, 1.0);
                    Ok(Written::Refused(Found::from_item(failed.item())))
                }
                _ => Err(classify(Op::DeleteItem, &self.schema.table, error)),
            },
        }
    }
}
