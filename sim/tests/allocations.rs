//! What the core allocates: counted, so that noise can't fail it.

#[path = "../benches/common/mod.rs"]
mod common;
#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

use allocation_counter::measure;
use common::{Follower, Leader};

const STEPS: u64 = 100;

#[test]
fn a_heartbeat_allocates_nothing() {
    let mut leader = Leader::new();
    let counted = measure(|| (0..STEPS).for_each(|_| leader.beat()));
    println!("{counted:?}");
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_look_allocates_nothing() {
    let mut follower = Follower::new();
    let before = follower.heartbeats();
    let counted = measure(|| (0..STEPS).for_each(|_| follower.look()));
    let heartbeats = follower.heartbeats() - before;
    println!("{heartbeats} heartbeats followed: {counted:?}");
    assert!((80..=100).contains(&heartbeats), "{heartbeats} heartbeats in {STEPS} looks");
    assert_eq!(counted.count_total, 0);
}
