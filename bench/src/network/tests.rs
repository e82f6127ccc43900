use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;

use super::*;

const ROUND_TRIP: Duration = Duration::from_millis(40);

fn client(line: &Line) -> aws_sdk_dynamodb::Client {
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_millis(500)).build();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(format!("http://{}", line.address))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.into())
}

async fn create(client: &aws_sdk_dynamodb::Client, key: &str) -> bool {
    let put = client.put_item().table_name("locks").item("key", text(key));
    put.condition_expression("attribute_not_exists(#k)").expression_attribute_names("#k", "key").send().await.is_ok()
}

async fn exists(client: &aws_sdk_dynamodb::Client, key: &str) -> bool {
    let get = client.get_item().table_name("locks").key("key", text(key));
    get.send().await.unwrap().item.is_some()
}

#[tokio::test]
async fn a_line_delays_counts_and_tells_clients_apart() {
    let network = Network::start(ROUND_TRIP, &[("locks", None)]).await.unwrap();
    let (one, other) = (network.line().await.unwrap(), network.line().await.unwrap());
    let (mine, theirs) = (client(&one), client(&other));
    let start = now();
    assert!(create(&mine, "a").await);
    assert!(now() - start >= 40_000_000, "half the round trip each way");
    assert!(!create(&theirs, "a").await, "one engine behind both");
    assert!(exists(&theirs, "a").await);

    let round_trip = network.log().round_trip_ms();
    assert!((40.0..60.0).contains(&round_trip), "{round_trip}");

    let ours = network.log().of(one.client, start);
    assert_eq!(Cost::of(&ours), Cost { writes: 1, write_units: 1.0, ..Cost::default() });
    let call = &ours[0];
    let (served, answered) = (call.served.unwrap(), call.answered.unwrap());
    assert!(call.applied && call.key == "a" && call.operation == "PutItem");
    assert!(served - call.arrived >= 20_000_000 && answered - served >= 20_000_000, "applied in the middle");
    let cost = Cost::of(&network.log().of(other.client, start));
    assert_eq!(cost, Cost { reads: 1, read_units: 0.5, writes: 1, write_units: 1.0 }, "a refused write costs a unit");
    assert_eq!(network.log().writes_applied("a").len(), 1);
    assert!(network.log().of(one.client, answered + 1).is_empty());
}

#[tokio::test]
async fn a_line_loses_requests_and_replies_and_is_cut_off() {
    let network = Network::start(ROUND_TRIP, &[("locks", None)]).await.unwrap();
    let (one, other) = (network.line().await.unwrap(), network.line().await.unwrap());
    let (mine, theirs) = (client(&one), client(&other));
    one.set(Weather { request_loss: 1.0, ..network.fair() });
    assert!(!create(&mine, "request").await);
    assert!(!exists(&theirs, "request").await, "a lost request is not applied");
    one.set(Weather { reply_loss: 1.0, ..network.fair() });
    assert!(!create(&mine, "reply").await);
    assert!(exists(&theirs, "reply").await, "a lost reply was to something that is applied");
    one.set(Weather { cut: true, ..network.fair() });
    assert!(!create(&mine, "cut").await);
    assert!(!exists(&theirs, "cut").await);
    let calls = network.log().of(one.client, 0);
    assert_eq!(calls.iter().map(|call| call.applied).collect::<Vec<_>>(), [false, true, false]);
    assert!(calls.iter().all(|call| call.answered.is_none()));
    one.set(network.fair());
    assert!(create(&mine, "again").await, "the line is whole again");
}
