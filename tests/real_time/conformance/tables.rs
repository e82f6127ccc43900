//! Tables: creation, description, and what is refused.

use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput, ScalarAttributeType,
    TableDescription, Tag, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::engine::Engine;
use super::quirks::Quirk;
use super::table::{Change, Item, b, item, s};

/// In the form of `Store::send_create`.
fn create(engine: &Engine, table: &str, keys: &[(&str, KeyType)]) -> CreateTableFluentBuilder {
    keys.iter().fold(engine.client.create_table().table_name(table), |create, (name, kind)| {
        let element = KeySchemaElement::builder().attribute_name(*name).key_type(kind.clone());
        let definition = AttributeDefinition::builder().attribute_name(*name).attribute_type(ScalarAttributeType::S);
        create.key_schema(element.build().unwrap()).attribute_definitions(definition.build().unwrap())
    })
}

async fn describe(engine: &Engine, table: &str) -> TableDescription {
    engine.wait_until_active(table).await;
    engine.client.describe_table().table_name(table).send().await.unwrap().table.unwrap()
}

/// Its keys in their order, with their roles.
fn keys(table: &TableDescription) -> Vec<(&str, &str)> {
    table.key_schema().iter().map(|element| (element.attribute_name(), element.key_type().as_str())).collect()
}

fn types(table: &TableDescription) -> Vec<(&str, &str)> {
    let definitions = table.attribute_definitions().iter();
    let mut types: Vec<_> = definitions.map(|one| (one.attribute_name(), one.attribute_type().as_str())).collect();
    types.sort_unstable();
    types
}

fn billing(table: &TableDescription) -> Option<&str> {
    Some(table.billing_mode_summary()?.billing_mode()?.as_str())
}

pub(super) async fn a_table_on_demand_is_described_as_it_was_made(engine: &Engine) {
    let name = engine.table_name("demand");
    let create = create(engine, &name, &[("key", KeyType::Hash)]).billing_mode(BillingMode::PayPerRequest);
    create.clone().send().await.unwrap();
    let table = describe(engine, &name).await;
    assert_eq!((keys(&table), types(&table)), (vec![("key", "HASH")], vec![("key", "S")]));
    assert_eq!((table.table_name(), billing(&table)), (Some(name.as_str()), Some("PAY_PER_REQUEST")));
    assert!(table.replicas().is_empty(), "no global table: {table:?}");
    assert_ne!(table.deletion_protection_enabled(), Some(true));
    let again = create.send().await.unwrap_err();
    assert_eq!(again.code(), Some("ResourceInUseException"), "{again:?}");
}

pub(super) async fn a_provisioned_table_with_a_sort_key_and_tags_is_described_as_it_was_made(engine: &Engine) {
    let name = engine.table_name("provisioned");
    let units = ProvisionedThroughput::builder().read_capacity_units(5).write_capacity_units(3).build().unwrap();
    create(engine, &name, &[("id", KeyType::Hash), ("part", KeyType::Range)])
        .billing_mode(BillingMode::Provisioned)
        .provisioned_throughput(units)
        .tags(Tag::builder().key("team").value("billing").build().unwrap())
        .send()
        .await
        .unwrap();
    let table = describe(engine, &name).await;
    assert_eq!(keys(&table), [("id", "HASH"), ("part", "RANGE")]);
    assert_eq!(types(&table), [("id", "S"), ("part", "S")]);
    let units = table.provisioned_throughput().unwrap();
    assert_eq!((units.read_capacity_units(), units.write_capacity_units()), (Some(5), Some(3)));
    assert_ne!(billing(&table), Some("PAY_PER_REQUEST"), "no summary, or PROVISIONED");
    let tags = engine.client.list_tags_of_resource().resource_arn(table.table_arn().unwrap()).send().await;
    if engine.has(Quirk::TagsAreNotListed) {
        assert_eq!(tags.unwrap_err().code(), Some("UnknownOperationException"));
    } else {
        let tags = tags.unwrap();
        let tags: Vec<_> = tags.tags().iter().map(|tag| (tag.key(), tag.value())).collect();
        assert_eq!(tags, [("team", "billing")]);
    }
}

pub(super) async fn a_protected_table_is_not_deleted(engine: &Engine) {
    let name = engine.table_name("protected");
    let create = create(engine, &name, &[("key", KeyType::Hash)]).billing_mode(BillingMode::PayPerRequest);
    create.deletion_protection_enabled(true).send().await.unwrap();
    let table = describe(engine, &name).await;
    assert_eq!(table.deletion_protection_enabled(), Some(true));
    let refused = engine.client.delete_table().table_name(&name).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"), "{refused:?}");
}

pub(super) async fn the_attribute_that_expires_items_is_told(engine: &Engine) {
    let table = engine.table().await;
    let describe = async || {
        let output = engine.client.describe_time_to_live().table_name(&table.name).send().await.unwrap();
        let ttl = output.time_to_live_description.unwrap();
        (ttl.time_to_live_status.unwrap(), ttl.attribute_name)
    };
    assert_eq!(describe().await, (TimeToLiveStatus::Disabled, None));
    let on = TimeToLiveSpecification::builder().enabled(true).attribute_name("expires").build().unwrap();
    engine.client.update_time_to_live().table_name(&table.name).time_to_live_specification(on).send().await.unwrap();
    let (status, attribute) = describe().await;
    assert!(matches!(status, TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling), "{status:?}");
    assert_eq!(attribute.as_deref(), Some("expires"));
}

pub(super) async fn a_missing_table_is_said_by_every_operation(engine: &Engine) {
    let client = &engine.client;
    let table = engine.table_name("missing");
    let key: Item = item(&[("key", s("job"))]);
    let missing = Some("ResourceNotFoundException");
    let get = client.get_item().table_name(&table).set_key(Some(key.clone())).send().await;
    assert_eq!(get.unwrap_err().code(), missing, "GetItem");
    let update = client.update_item().table_name(&table).set_key(Some(key.clone())).update_expression("REMOVE a");
    assert_eq!(update.send().await.unwrap_err().code(), missing, "UpdateItem");
    let delete = client.delete_item().table_name(&table).set_key(Some(key)).send().await;
    assert_eq!(delete.unwrap_err().code(), missing, "DeleteItem");
    assert_eq!(client.scan().table_name(&table).send().await.unwrap_err().code(), missing, "Scan");
    let query = client.query().table_name(&table).key_condition_expression("#key = :key");
    let query = query.expression_attribute_names("#key", "key").expression_attribute_values(":key", s("job"));
    assert_eq!(query.send().await.unwrap_err().code(), missing, "Query");
    let describe = client.describe_table().table_name(&table).send().await;
    assert_eq!(describe.unwrap_err().code(), missing, "DescribeTable");
    let ttl = client.describe_time_to_live().table_name(&table).send().await;
    assert_eq!(ttl.unwrap_err().code(), missing, "DescribeTimeToLive");
}

pub(super) async fn a_key_that_is_not_the_tables_is_refused(engine: &Engine) {
    let table = engine.table().await;
    let sorted = engine.sorted_table().await;
    let long = "k".repeat(2_049);
    for (table, key, what) in [
        (&table, vec![("id", s("job"))], "another name"),
        (&table, vec![("key", b(b"job"))], "another type"),
        (&table, vec![("key", s("job")), ("part", s("a"))], "one attribute too many"),
        (&table, vec![("key", s(""))], "empty"),
        (&table, vec![("key", s(&long))], "too long"),
        (&sorted, vec![("key", s("job"))], "one attribute too few"),
        (&sorted, vec![("key", s("job")), ("part", s(&long[..1_025]))], "a sort key that is too long"),
    ] {
        let read = table.get(&key).send().await.expect_err(what);
        assert_eq!(read.code(), Some("ValidationException"), "GetItem, {what}: {read:?}");
        let update = engine.client.update_item().table_name(&table.name).set_key(Some(item(&key)));
        let update = update.update_expression("SET #owner = :owner").expression_attribute_names("#owner", "ownerName");
        let written = update.expression_attribute_values(":owner", s("me")).send().await.expect_err(what);
        assert_eq!(written.code(), Some("ValidationException"), "UpdateItem, {what}: {written:?}");
    }
    // The longest that the crate sends: a lock's key with the suffix of its fence record.
    let longest = [("key", s(&long[..2_048])), ("part", s(&long[..1_024]))];
    sorted.put(&longest).await;
    assert_eq!(sorted.get(&longest).consistent_read(true).send().await.unwrap().item, Some(item(&longest)));
}

/// The limit counts the whole item as it would be, whatever the request itself brings.
pub(super) async fn an_item_beyond_400_kilobytes_is_refused(engine: &Engine) {
    let table = engine.table().await;
    let set = |kilobytes: usize| Change {
        update: "SET #data = :data",
        condition: "attribute_not_exists(#released)",
        values: vec![(":data", b(&vec![7; kilobytes * 1024]))],
    };
    let refused = table.update("job", &set(400)).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"), "{refused:?}");
    // By this word the crate tells it from a wrong key.
    assert!(refused.message().unwrap().contains("size"), "{refused:?}");
    assert_eq!(table.read("job").await, None);
    table.update("job", &set(399)).send().await.unwrap();
    let more = Change {
        update: "SET #owner = :owner",
        condition: "attribute_exists(#key)",
        values: vec![(":owner", s(&"x".repeat(1_024)))],
    };
    let refused = table.update("job", &more).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("ValidationException"), "grown by an update: {refused:?}");
    assert!(refused.message().unwrap().contains("size"), "{refused:?}");
    assert_eq!(table.read("job").await.unwrap().len(), 2, "as it was");
}
