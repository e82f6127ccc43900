//! The table itself, for those who set it up.

use super::LockClientBuilder;
use super::builder::default_patience;
use crate::error::{Error, ErrorKind};
use crate::store::{Store, TableOptions, TableReport, sdk_config};

/// The lock table: whether it is there, whether it fits, and its creation. Made by
/// [`LockClientBuilder::table`]; its requests run on your own runtime.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dynamo_elector::{Embedded, LockClient, TableOptions};
///
/// let engine = Embedded::in_memory()?;
/// let table = LockClient::builder(&engine.client(), "locks").partition_key_name("id").table()?;
/// assert!(!table.exists().await?);
/// table.ensure(&TableOptions::provisioned(5, 5).tag("team", "billing")).await?;
/// assert!(table.check().await?.is_active);
/// # Ok(()) }
/// ```
pub struct LockTable {
    store: Store,
    allow_mrec: bool,
}

impl LockTable {
    pub(super) fn new(builder: &LockClientBuilder) -> Result<Self, Error> {
        let schema = builder.schema()?;
        let (operation, attempt) = default_patience();
        let config = sdk_config(builder.config(), operation, attempt, "dynamo-elector table");
        let client = aws_sdk_dynamodb::Client::from_conf(config.build());
        let store = Store::new(client, schema, std::sync::Arc::new(|_, _| {}), operation);
        Ok(Self { store, allow_mrec: builder.allows_mrec() })
    }

    /// Whether there is such a table, usable or not.
    ///
    /// # Errors
    ///
    /// What kept it from being described.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request.
    pub async fn exists(&self) -> Result<bool, Error> {
        match self.store.table_report().await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::TableMissing => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the table can carry locks: its keys are the client's, it can exclude, and it is active. Also tells whether
    /// DynamoDB expires its items, if `dynamodb:DescribeTimeToLive` is permitted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TableMissing`], [`ErrorKind::TableUnfit`], [`ErrorKind::TableNotReady`], else what kept it from being described.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request.
    pub async fn check(&self) -> Result<TableReport, Error> {
        let mut report = self.store.table_report().await?;
        report.check(self.allow_mrec)?;
        report.ttl_attribute = match self.store.ttl_attribute().await {
            Ok(attribute) => attribute,
            // Not permitted: not told.
            Err(error) if error.kind() == ErrorKind::AccessDenied => None,
            Err(error) => return Err(error),
        };
        Ok(report)
    }

    /// Creates the table if it is missing, and waits until it is active. One that exists is not changed: it is success if
    /// its keys fit, whatever its billing or tags.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for options, [`ErrorKind::TableUnfit`] with what differs, [`ErrorKind::TableNotReady`] after a
    /// minute, else what kept it from being created.
    ///
    /// # Cancel safety
    ///
    /// A table that was being created when the future was dropped may come to exist.
    pub async fn ensure(&self, options: &TableOptions) -> Result<(), Error> {
        self.store.ensure_table(options).await
    }
}

impl std::fmt::Debug for LockTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockTable").field("schema", self.store.schema()).finish_non_exhaustive()
    }
}
