//! Listing: one page of a Scan, or of a Query of one partition key.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

use super::key::{Key, is_fence};
use super::record::{Item, key_of};
use super::{Found, Op, Store, classify};
use crate::error::Error;

/// Items a page: few enough that decoding them holds nobody up, many enough that requests are few.
const PAGE: i32 = 250;

/// One page of a listing, and where the next one starts.
#[derive(Debug)]
pub(crate) struct Page {
    /// Items whose key can't be read are left out: they are no locks of this table.
    pub(crate) found: Vec<(Key, Found)>,
    pub(crate) next: Option<Item>,
}

impl Store {
    /// The page that begins at `start`: of the whole table, or of one partition key. Strongly consistent.
    pub(crate) async fn page(&self, partition: Option<&str>, start: Option<Item>) -> Result<Page, Error> {
        let _place = self.place(None).await?;
        let (items, next) = match partition {
            None => self.scan(start).await?,
            Some(partition) => self.query(partition, start).await?,
        };
        // Fence records are no locks.
        let lock = |item: &Item| key_of(item, &self.schema).filter(|key| !is_fence(key.partition()));
        let found = items.iter().filter_map(|item| {
            let key = lock(item)?;
            let found = Found::from_item(Some(item), &key, &self.schema);
            Some((key, found))
        });
        Ok(Page { found: found.collect(), next: next.filter(|next| !next.is_empty()) })
    }

    async fn scan(&self, start: Option<Item>) -> Result<(Vec<Item>, Option<Item>), Error> {
        let table = &self.schema.table;
        let request = self
            .client
            .scan()
            .table_name(table)
            .consistent_read(true)
            .limit(PAGE)
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = super::boxed(request.send()).await.map_err(|error| classify(Op::Scan, table, error))?;
        self.spent(Op::Scan, output.consumed_capacity());
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key))
    }

    async fn query(&self, partition: &str, start: Option<Item>) -> Result<(Vec<Item>, Option<Item>), Error> {
        let table = &self.schema.table;
        let names = HashMap::from([("#key".to_owned(), self.schema.partition_key.clone())]);
        let request = self
            .client
            .query()
            .table_name(table)
            .key_condition_expression("#key = :key")
            .set_expression_attribute_names(Some(names))
            .expression_attribute_values(":key", AttributeValue::S(partition.to_owned()))
            .consistent_read(true)
            .limit(PAGE)
            .set_exclusive_start_key(start)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let output = super::boxed(request.send()).await.map_err(|error| classify(Op::Query, table, error))?;
        self.spent(Op::Query, output.consumed_capacity());
        Ok((output.items.unwrap_or_default(), output.last_evaluated_key))
    }
}
