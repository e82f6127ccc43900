//! The lock layer and the elector on the real SDK and the embedded engine, in simulated time.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

mod cancel;
mod candidacy;
mod content;
mod costs;
mod defects;
mod elections;
mod faults;
mod fences;
mod fencing;
mod handing_over;
mod handles;
mod heartbeats;
mod hostile;
mod input;
mod isolation;
mod leases;
mod locks;
mod losses;
mod monitor;
mod observability;
mod observers;
mod operators;
mod privileges;
mod reading;
mod refusals;
mod requests;
mod scripted;
mod services;
mod shutdown;
mod soak;
mod support;
mod tables;
mod telemetry;
mod waiting;
mod watching;

use dynamo_elector::{Embedded, Faults, LockClient, LockClientBuilder};

/// A client in simulated time, on the table `locks`.
fn builder(engine: &Embedded, faults: &Faults, seed: u64) -> LockClientBuilder {
    privileges::record(faults);
    LockClient::builder(&engine.client_with_faults(faults), "locks")
        .share_http_client()
        .create_table()
        .owner(format!("node-{seed}"))
        .simulated(seed)
}

async fn client(engine: &Embedded, faults: &Faults, seed: u64) -> LockClient {
    builder(engine, faults, seed).build().await.unwrap()
}

fn operations(faults: &Faults, from: usize) -> Vec<String> {
    faults.calls()[from..].iter().map(|(call, _)| call.operation.clone()).collect()
}
