//! The table: whether it can carry locks, and its creation.

use std::time::Duration;

use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, MultiRegionConsistency, ProvisionedThroughput,
    ScalarAttributeType, TableDescription, TableStatus, Tag, TimeToLiveStatus,
};

use super::outcome::classify;
use super::{Op, Schema, Store};
use crate::error::{Error, ErrorKind};

/// How long a new table may take to become active, and how often to look.
const CREATION_LOOKS: u32 = 120;
const CREATION_PAUSE: Duration = Duration::from_millis(500);

/// How a table is made, where it has to be made. What exists is never changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "options do nothing until a table is made with them"]
pub struct TableOptions {
    /// Read and write units; `None`: on demand.
    provisioned: Option<(u32, u32)>,
    tags: Vec<(String, String)>,
    deletion_protection: bool,
}

impl TableOptions {
    /// Billed on demand: nothing to plan, and no throttling of one lock by another's traffic. The default.
    pub fn on_demand() -> Self {
        Self::default()
    }

    /// Billed for so many read and write capacity units. A held lock costs one write unit a heartbeat.
    pub fn provisioned(read_units: u32, write_units: u32) -> Self {
        Self { provisioned: Some((read_units, write_units)), ..Self::default() }
    }

    /// Adds a tag. Needs the permission `dynamodb:TagResource`.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Protects the table from being deleted.
    pub fn deletion_protection(mut self) -> Self {
        self.deletion_protection = true;
        self
    }

    fn check(&self) -> Result<(), Error> {
        match self.provisioned {
            Some((0, _) | (_, 0)) => Err(Error::new(
                ErrorKind::InvalidInput,
                "provisioned capacity is 0: give at least 1 unit each, or bill on demand",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn apply(&self, request: CreateTableFluentBuilder) -> Result<CreateTableFluentBuilder, Error> {
        let mut request = match self.provisioned {
            None => request.billing_mode(BillingMode::PayPerRequest),
            Some((read, write)) => {
                let units = ProvisionedThroughput::builder()
                    .read_capacity_units(read.into())
                    .write_capacity_units(write.into());
                let units = units.build().map_err(invalid)?;
                request.billing_mode(BillingMode::Provisioned).provisioned_throughput(units)
            }
        };
        for (key, value) in &self.tags {
            request = request.tags(Tag::builder().key(key).value(value).build().map_err(invalid)?);
        }
        if self.deletion_protection {
            request = request.deletion_protection_enabled(true);
        }
        Ok(request)
    }
}

fn invalid(error: aws_sdk_dynamodb::error::BuildError) -> Error {
    Error::new(ErrorKind::InvalidInput, "the table can't be described so").with_source(error)
}

/// What DynamoDB says of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableReport {
    /// Whether it can be used yet: `false` while it is being created or deleted.
    pub is_active: bool,
    /// A global table whose Regions agree only eventually: it can't exclude.
    pub is_eventually_consistent: bool,
    /// The attribute that expires items, where the table has one. A lock record must never carry it:
    /// DynamoDB would delete it, and its fencing token with it. `None` also where it can't be told.
    pub ttl_attribute: Option<String>,
    table: String,
    mismatch: Option<String>,
}

impl TableReport {
    /// Whether the table can carry locks.
    pub(crate) fn check(&self, allow_eventually_consistent: bool) -> Result<(), Error> {
        let table = &self.table;
        if let Some(mismatch) = &self.mismatch {
            let message =
                format!("table {table} does not fit this client: {mismatch}; change the settings or use another table");
            return Err(Error::new(ErrorKind::TableUnfit, message));
        }
        if self.is_eventually_consistent && !allow_eventually_consistent {
            let message = format!(
                "table {table} is a global table with eventual consistency between Regions: two holders are possible. \
                 Use a table of one Region or one with multi-Region strong consistency"
            );
            return Err(Error::new(ErrorKind::TableUnfit, message));
        }
        if !self.is_active {
            let message = format!("table {table} is being created or deleted: wait until it is active");
            return Err(Error::new(ErrorKind::TableNotReady, message));
        }
        Ok(())
    }
}

impl Store {
    /// Asks for the table's description.
    pub(crate) async fn table_report(&self) -> Result<TableReport, Error> {
        let table = &self.schema.table;
        let request = self.client.describe_table().table_name(table);
        let output = super::boxed(request.send()).await.map_err(|error| classify(Op::DescribeTable, table, error))?;
        (self.meter)(Op::DescribeTable, 0.0);
        let description = output.table();
        let status = description.and_then(TableDescription::table_status);
        Ok(TableReport {
            table: table.clone(),
            mismatch: description.and_then(|description| mismatch(&self.schema, description)),
            is_eventually_consistent: description.is_some_and(is_eventually_consistent),
            is_active: matches!(status, Some(TableStatus::Active | TableStatus::Updating)),
            ttl_attribute: None,
        })
    }

    /// The attribute that expires items, if the table has one.
    pub(crate) async fn ttl_attribute(&self) -> Result<Option<String>, Error> {
        let table = &self.schema.table;
        let request = self.client.describe_time_to_live().table_name(table);
        let output =
            super::boxed(request.send()).await.map_err(|error| classify(Op::DescribeTimeToLive, table, error))?;
        (self.meter)(Op::DescribeTimeToLive, 0.0);
        let on = [TimeToLiveStatus::Enabled, TimeToLiveStatus::Enabling];
        let ttl =
            output.time_to_live_description().filter(|ttl| ttl.time_to_live_status().is_some_and(|s| on.contains(s)));
        Ok(ttl.and_then(|ttl| ttl.attribute_name()).map(str::to_owned))
    }

    /// Creates the table if it is missing, waits until it is active, and checks its keys.
    pub(crate) async fn ensure_table(&self, options: &TableOptions) -> Result<(), Error> {
        options.check()?;
        match self.table_report().await {
            Ok(report) if report.is_active => return report.check(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::TableMissing => self.send_create(options).await?,
            Err(error) => return Err(error),
        }
        for _ in 0..CREATION_LOOKS {
            match self.table_report().await {
                Ok(report) if report.is_active => return report.check(true),
                // Not yet visible everywhere, or still being created.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TableMissing || error.kind().is_transient() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(CREATION_PAUSE).await;
        }
        Err(Error::new(
            ErrorKind::TableNotReady,
            format!("table {} was created but is not active after a minute: try again later", self.schema.table),
        ))
    }

    async fn send_create(&self, options: &TableOptions) -> Result<(), Error> {
        let Schema { table, partition_key, sort_key, .. } = &self.schema;
        let mut request = options.apply(self.client.create_table().table_name(table))?;
        for (name, kind) in
            std::iter::once((partition_key, KeyType::Hash)).chain(sort_key.iter().map(|name| (name, KeyType::Range)))
        {
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(invalid)?;
            let definition = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build()
                .map_err(invalid)?;
            request = request.key_schema(element).attribute_definitions(definition);
        }
        match super::boxed(request.send()).await {
            Ok(_) => {
                (self.meter)(Op::CreateTable, 0.0);
                Ok(())
            }
            Err(error) => match error.as_service_error() {
                // Another replica was faster.
                Some(CreateTableError::ResourceInUseException(_)) => Ok(()),
                _ => Err(classify(Op::CreateTable, table, error)),
            },
        }
    }
}

fn mismatch(schema: &Schema, table: &TableDescription) -> Option<String> {
    let named = |kind: &KeyType| {
        table.key_schema().iter().find(|element| element.key_type() == kind).map(KeySchemaElement::attribute_name)
    };
    let (partition, sort) = (named(&KeyType::Hash), named(&KeyType::Range));
    if partition != Some(schema.partition_key.as_str()) {
        return Some(format!("its partition key is {partition:?}, the client's setting is {:?}", schema.partition_key));
    }
    if sort != schema.sort_key.as_deref() {
        return Some(format!("its sort key is {sort:?}, the client's setting is {:?}", schema.sort_key));
    }
    let odd = table.attribute_definitions().iter().find(|definition| {
        (Some(definition.attribute_name()) == partition || Some(definition.attribute_name()) == sort)
            && definition.attribute_type() != &ScalarAttributeType::S
    });
    odd.map(|definition| {
        format!(
            "its key {:?} has the type {}, text (S) is needed",
            definition.attribute_name(),
            definition.attribute_type()
        )
    })
}

fn is_eventually_consistent(table: &TableDescription) -> bool {
    !table.replicas().is_empty() && table.multi_region_consistency() != Some(&MultiRegionConsistency::Strong)
}
