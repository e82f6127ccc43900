//! The table: whether it can carry locks, and its creation.

use std::time::Duration;

use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, MultiRegionConsistency, ScalarAttributeType,
    TableDescription, TableStatus,
};

use super::outcome::classify;
use super::{Op, Schema, Store};
use crate::error::{Error, ErrorKind};

/// How long a new table may take to become active, and how often to look.
const CREATION_LOOKS: u32 = 60;
const CREATION_PAUSE: Duration = Duration::from_millis(500);

/// What `DescribeTable` says of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableReport {
    table: String,
    mismatch: Option<String>,
    /// A global table whose Regions agree only eventually: it can't exclude (A1).
    eventually_consistent: bool,
    active: bool,
}

impl TableReport {
    /// Whether the table can carry locks.
    pub(crate) fn check(&self, allow_eventually_consistent: bool) -> Result<(), Error> {
        if let Some(mismatch) = &self.mismatch {
            return Err(Error::new(
                ErrorKind::TableUnfit,
                format!(
                    "table {} does not fit this client: {mismatch}; change the settings or use another table",
                    self.table
                ),
            ));
        }
        if self.eventually_consistent && !allow_eventually_consistent {
            return Err(Error::new(
                ErrorKind::TableUnfit,
                format!(
                    "table {} is a global table with eventual consistency between Regions: two holders are possible. \
                     Use a table of one Region or one with multi-Region strong consistency",
                    self.table
                ),
            ));
        }
        Ok(())
    }
}

impl Store {
    /// Asks for the table's description.
    pub(crate) async fn table_report(&self) -> Result<TableReport, Error> {
        let table = &self.schema.table;
        let request = self.client.describe_table().table_name(table);
        let output = request.send().await.map_err(|error| classify(Op::DescribeTable, table, error))?;
        (self.meter)(Op::DescribeTable, 0.0);
        let description = output.table();
        Ok(TableReport {
            table: table.clone(),
            mismatch: description.and_then(|description| mismatch(&self.schema, description)),
            eventually_consistent: description.is_some_and(is_eventually_consistent),
            active: description.and_then(TableDescription::table_status) == Some(&TableStatus::Active),
        })
    }

    /// Creates the table, billed on demand, and waits until it is active. One that exists and fits is success.
    pub(crate) async fn create_table(&self) -> Result<(), Error> {
        match self.table_report().await {
            Ok(report) if report.active => return report.check(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::TableMissing => self.send_create().await?,
            Err(error) => return Err(error),
        }
        for _ in 0..CREATION_LOOKS {
            match self.table_report().await {
                Ok(report) if report.active => return report.check(true),
                // Not yet visible everywhere, or still being created.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TableMissing || error.kind().is_transient() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(CREATION_PAUSE).await;
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("table {} was created but is not active after 30 s: try again later", self.schema.table),
        ))
    }

    async fn send_create(&self) -> Result<(), Error> {
        let Schema { table, partition_key, sort_key } = &self.schema;
        let mut request = self.client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in
            std::iter::once((partition_key, KeyType::Hash)).chain(sort_key.iter().map(|name| (name, KeyType::Range)))
        {
            let invalid =
                |error| Error::new(ErrorKind::InvalidInput, "the table's keys can't be named so").with_source(error);
            let element = KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(invalid)?;
            let definition = AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build()
                .map_err(invalid)?;
            request = request.key_schema(element).attribute_definitions(definition);
        }
        match request.send().await {
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
