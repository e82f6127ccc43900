//! What a heartbeat's request allocates before the SDK has it: counted, so that noise can't fail it.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};

use super::expression::Expression;
use super::{Fill, Key, Schema, Store};
use crate::protocol::{Plan, Version, Write, WriteKind};

/// 39 at present, and some for another version of the SDK. A map that outgrew its room would show.
const MOST: u64 = 42;

#[test]
fn building_a_renewal_allocates_little() {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .build();
    let schema = Schema::new("locks".into(), "key".into(), None, None).unwrap();
    let store = Store::new(Client::from_conf(config), schema, Arc::new(|_, _| {}), Duration::from_secs(2));
    let fill = Fill::plain();
    let version = || Version::new("0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11");
    let write = Write {
        kind: WriteKind::Renew,
        version: version(),
        names: [version(), version()].into_iter().collect(),
        or_absent: false,
        lease: Duration::from_secs(10),
        plan: Plan { heartbeat: Some(Duration::from_millis(2_500)), ending: None },
    };
    let key = Key::from("job");
    let mut request = None;
    let expression = measure(|| drop(Expression::of(&write, &fill, "key")));
    let whole = measure(|| request = Some(store.update_request(&key, Expression::of(&write, &fill, "key"), false)));
    println!("expression {expression:?}\nwhole {whole:?}");
    assert!(request.is_some() && whole.count_total > 0);
    assert!(whole.count_total <= MOST, "{} allocations", whole.count_total);
}
