//! Tables: made, looked at, refused.

use dynamo_elector::{Call, Embedded, ErrorKind, Fault, Faults, LockClient, LockClientBuilder, TableOptions};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Lines, body, kind, millis, since, within};
use crate::{builder, client, operations};

fn plain(engine: &Embedded, faults: &Faults) -> LockClientBuilder {
    LockClient::builder(&engine.client_with_faults(faults), "locks").share_http_client().simulated(1)
}

/// The one request that makes the table.
fn create(calls: &[Call]) -> Value {
    let creates: Vec<_> = calls.iter().filter(|call| call.operation == "CreateTable").collect();
    assert_eq!(creates.len(), 1, "{calls:?}");
    body(creates[0])
}

#[tokio::test(start_paused = true)]
async fn a_table_is_made_as_it_was_asked_for() {
    let key = json!([{ "AttributeName": "key", "KeyType": "HASH" }]);
    for (options, expected) in [
        (TableOptions::on_demand(), json!({ "BillingMode": "PAY_PER_REQUEST" })),
        (
            TableOptions::provisioned(5, 7),
            json!({
                "BillingMode": "PROVISIONED",
                "ProvisionedThroughput": { "ReadCapacityUnits": 5, "WriteCapacityUnits": 7 },
            }),
        ),
        (
            TableOptions::on_demand().tag("team", "blue").tag("cost", "7").deletion_protection(),
            json!({
                "Tags": [{ "Key": "team", "Value": "blue" }, { "Key": "cost", "Value": "7" }],
                "DeletionProtectionEnabled": true,
            }),
        ),
    ] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let table = plain(&engine, &faults).table().unwrap();
        assert!(!table.exists().await.unwrap());
        assert_eq!(kind(table.check().await), ErrorKind::TableMissing);
        let from = faults.calls().len();
        table.ensure(&options).await.unwrap();
        let request = create(&since(&faults, from));
        assert_eq!(request["KeySchema"], key);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&request[name], value, "{options:?}");
        }
        if expected.get("ProvisionedThroughput").is_none() {
            assert_eq!(request.get("ProvisionedThroughput"), None);
        }
        assert!(table.exists().await.unwrap() && table.check().await.unwrap().is_active);
        let from = faults.calls().len();
        table.ensure(&TableOptions::provisioned(1, 1)).await.unwrap();
        assert_eq!(operations(&faults, from), ["DescribeTable"], "what exists is not changed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_with_a_sort_key_and_names_of_its_own_is_made_and_used() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let named = || plain(&engine, &faults).partition_key_name("id").sort_key_name("part");
    let locks = named().create_table().build().await.unwrap();
    let request = create(&since(&faults, 0));
    let keys = json!([{ "AttributeName": "id", "KeyType": "HASH" }, { "AttributeName": "part", "KeyType": "RANGE" }]);
    assert_eq!(request["KeySchema"], keys);
    let types = request["AttributeDefinitions"].as_array().unwrap();
    assert!(types.len() == 2 && types.iter().all(|definition| definition["AttributeType"] == "S"));
    assert!(locks.acquire(("job", "one")).await.unwrap().is_valid());
    // Another client's settings differ from it: each says what differs.
    for (other, words) in [
        (plain(&engine, &faults), ["partition key", "\"id\"", "\"key\""]),
        (plain(&engine, &faults).partition_key_name("id"), ["sort key", "\"part\"", "None"]),
        (named().sort_key_name("other"), ["sort key", "\"part\"", "\"other\""]),
    ] {
        let table = other.table().unwrap();
        for error in [
            table.check().await.unwrap_err(),
            table.ensure(&TableOptions::on_demand()).await.unwrap_err(),
            other.create_table().build().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::TableUnfit);
            for word in words {
                assert!(error.to_string().contains(word), "{error} does not say {word}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn options_that_can_not_be_are_refused_before_anything_is_sent() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let table = plain(&engine, &faults).table().unwrap();
    for options in [TableOptions::provisioned(0, 5), TableOptions::provisioned(5, 0)] {
        assert_eq!(kind(table.ensure(&options).await), ErrorKind::InvalidInput);
        let build = plain(&engine, &faults).create_table_with(options).build().await;
        assert_eq!(kind(build), ErrorKind::InvalidInput);
    }
    for builder in [plain(&engine, &faults).sort_key_value("v"), plain(&engine, &faults).partition_key_name("data")] {
        assert_eq!(kind(builder.table()), ErrorKind::InvalidInput);
        assert_eq!(kind(builder.build().await), ErrorKind::InvalidInput);
    }
    assert!(faults.calls().is_empty());
}

/// What DynamoDB says of the table, with these besides.
fn described(more: &Value) -> Fault {
    let mut table = json!({
        "TableName": "locks",
        "TableStatus": "ACTIVE",
        "KeySchema": [{ "AttributeName": "key", "KeyType": "HASH" }],
        "AttributeDefinitions": [{ "AttributeName": "key", "AttributeType": "S" }],
    });
    for (name, value) in more.as_object().unwrap() {
        table[name] = value.clone();
    }
    Fault::Respond { status: 200, body: json!({ "Table": table }).to_string() }
}

fn describing(more: Value) -> Faults {
    Faults::script(move |call| if call.operation == "DescribeTable" { described(&more) } else { Fault::Deliver })
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_not_ready_is_an_error_at_start_or_waited_for_by_whoever_may_create_it() {
    for status in ["CREATING", "DELETING"] {
        let engine = Embedded::in_memory().unwrap();
        drop(client(&engine, &Faults::none(), 1).await);
        let faults = describing(json!({ "TableStatus": status }));
        assert_eq!(kind(plain(&engine, &faults).build().await), ErrorKind::TableNotReady, "{status}");
        assert_eq!(kind(plain(&engine, &faults).table().unwrap().check().await), ErrorKind::TableNotReady, "{status}");
        assert!(plain(&engine, &faults).table().unwrap().exists().await.unwrap());
        let start = Instant::now();
        let ready = Faults::script(move |call| match call.operation.as_str() {
            "DescribeTable" if start.elapsed() < millis(20_000) => described(&json!({ "TableStatus": status })),
            _ => Fault::Deliver,
        });
        let locks = within(21_000, plain(&engine, &ready).create_table().build()).await.unwrap();
        assert!(start.elapsed() >= millis(20_000) && locks.table_was_checked());
        assert!(!operations(&ready, 0).contains(&"CreateTable".into()), "it exists already");
        assert!(locks.acquire("job").await.is_ok());
        // Not for ever.
        let build = within(70_000, plain(&engine, &faults).create_table().build()).await;
        assert_eq!(kind(build), ErrorKind::TableNotReady);
    }
    // Being changed is no hindrance.
    let engine = Embedded::in_memory().unwrap();
    drop(client(&engine, &Faults::none(), 1).await);
    let updating = describing(json!({ "TableStatus": "UPDATING" }));
    assert!(plain(&engine, &updating).build().await.unwrap().table_was_checked());
}

#[tokio::test(start_paused = true)]
async fn a_global_table_that_can_not_exclude_is_refused_unless_opted_out() {
    let engine = Embedded::in_memory().unwrap();
    drop(client(&engine, &Faults::none(), 1).await);
    let replicas = json!([{ "RegionName": "eu-west-1" }, { "RegionName": "us-east-1" }]);
    for mrec in [json!({ "Replicas": replicas }), json!({ "Replicas": replicas, "MultiRegionConsistency": "EVENTUAL" })]
    {
        let faults = describing(mrec);
        for build in [
            plain(&engine, &faults).build().await,
            // It would be made, but it exists and does not fit.
            plain(&engine, &faults).create_table().build().await,
        ] {
            let error = build.unwrap_err();
            assert!(error.to_string().contains("two holders"), "{error}");
            assert_eq!(error.kind(), ErrorKind::TableUnfit);
        }
        assert_eq!(kind(plain(&engine, &faults).table().unwrap().check().await), ErrorKind::TableUnfit);
        let allowed = || plain(&engine, &faults).allow_eventually_consistent_global_table();
        assert!(allowed().table().unwrap().check().await.unwrap().is_eventually_consistent);
        assert!(allowed().build().await.is_ok());
    }
    let strong = describing(json!({ "Replicas": replicas, "MultiRegionConsistency": "STRONG" }));
    assert!(plain(&engine, &strong).build().await.unwrap().table_was_checked());
    assert!(!plain(&engine, &strong).table().unwrap().check().await.unwrap().is_eventually_consistent);
}

/// Warnings told while a client is built and a lock of it is held for five minutes.
async fn warnings(faults: &Faults) -> (bool, Vec<String>) {
    let (lines, _guard) = Lines::record();
    let engine = Embedded::in_memory().unwrap();
    drop(builder(&engine, &Faults::none(), 1).build().await.unwrap());
    lines.clear();
    let locks = LockClient::builder(&engine.client_with_faults(faults), "locks").share_http_client().simulated(2);
    let locks = locks.build().await.unwrap();
    let lock = locks.acquire("job").await.unwrap();
    tokio::time::sleep(millis(300_000)).await;
    assert!(lock.is_valid(), "it goes on all the same");
    let text = lines.text();
    let told = text.lines().filter(|line| line.contains("WARN") && !line.contains("http_client"));
    (locks.table_was_checked(), told.map(str::to_owned).collect())
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_checked_or_endangers_the_record_is_said_once() {
    let ttl = |status: &str| {
        let ttl = json!({ "TimeToLiveDescription": { "TimeToLiveStatus": status, "AttributeName": "expires_at" } });
        Fault::Respond { status: 200, body: ttl.to_string() }
    };
    let answering = |operation: &'static str, fault: Fault| {
        Faults::script(move |call| if call.operation == operation { fault.clone() } else { Fault::Deliver })
    };
    for (faults, checked, words) in [
        (answering("DescribeTimeToLive", ttl("ENABLED")), true, vec!["expires_at"]),
        (answering("DescribeTimeToLive", ttl("ENABLING")), true, vec!["expires_at"]),
        (answering("DescribeTimeToLive", ttl("DISABLED")), true, vec![]),
        (answering("DescribeTimeToLive", Fault::AccessDenied), true, vec!["DescribeTimeToLive"]),
        (answering("DescribeTable", Fault::AccessDenied), false, vec!["DescribeTable"]),
        (answering("DescribeTable", Fault::LoseRequest), false, vec!["DescribeTable"]),
        (Faults::none(), true, vec![]),
    ] {
        let (was_checked, told) = warnings(&faults).await;
        assert_eq!(was_checked, checked, "{told:?}");
        assert_eq!(told.len(), words.len(), "{told:#?}");
        for (line, word) in told.iter().zip(words) {
            assert!(line.contains(word), "{line} does not say {word}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_tells_of_expiry_where_it_may() {
    let engine = Embedded::in_memory().unwrap();
    drop(client(&engine, &Faults::none(), 1).await);
    let ttl = json!({ "TimeToLiveDescription": { "TimeToLiveStatus": "ENABLED", "AttributeName": "ttl" } });
    let body = ttl.to_string();
    let on = Faults::script(move |call| match call.operation.as_str() {
        "DescribeTimeToLive" => Fault::Respond { status: 200, body: body.clone() },
        _ => Fault::Deliver,
    });
    let check = async |faults: &Faults| plain(&engine, faults).table().unwrap().check().await.unwrap().ttl_attribute;
    assert_eq!(check(&on).await.as_deref(), Some("ttl"));
    let denied = Faults::script(|call| match call.operation.as_str() {
        "DescribeTimeToLive" => Fault::AccessDenied,
        _ => Fault::Deliver,
    });
    assert_eq!((check(&denied).await, check(&Faults::none()).await), (None, None));
}

/// Replicas that start together all make it; one of them is the first.
#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_all_find_the_table_made() {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    faults.set(|call| match call.operation.as_str() {
        // All of them look before any has made it.
        "CreateTable" => Fault::Delay { request: millis(100), reply: millis(0) },
        _ => Fault::Deliver,
    });
    let builds = (0..5).map(|seed| builder(&engine, &faults, seed).build());
    let clients = within(5_000, futures::future::join_all(builds)).await;
    assert!(clients.iter().all(Result::is_ok), "{clients:?}");
    assert_eq!(operations(&faults, 0).iter().filter(|operation| *operation == "CreateTable").count(), 5);
}

crate::privileges::suite! {
    a_table_is_made_as_it_was_asked_for,
    a_table_with_a_sort_key_and_names_of_its_own_is_made_and_used,
    options_that_can_not_be_are_refused_before_anything_is_sent,
    a_table_that_is_not_ready_is_an_error_at_start_or_waited_for_by_whoever_may_create_it,
    a_global_table_that_can_not_exclude_is_refused_unless_opted_out,
    what_could_not_be_checked_or_endangers_the_record_is_said_once,
    a_check_tells_of_expiry_where_it_may,
    replicas_that_start_together_all_find_the_table_made,
}
