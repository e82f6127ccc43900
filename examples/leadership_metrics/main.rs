//! Copy this when a web service has routes that only the leader serves: `service.rs` is that service, on axum.
//!
//! - `/jobs` is served by the leader. Other replicas redirect to the address it advertises; while nobody leads
//!   they answer 503 with `Retry-After`. The extractor `LeaderOnly` does it for any route.
//! - `/livez` and `/readyz` are probes. Ready means that it can take part, not that it leads: a rollout that waits for
//!   all replicas to be ready would never end otherwise.
//! - `/leader` tells who leads, as JSON. `/metrics` is for Prometheus, with buckets for all durations.
//! - SIGTERM leads to a graceful exit: requests end, then the lease is released, then the process ends.
//!
//! `cargo run --example leadership_metrics` starts two replicas as processes on one database file, calls their routes, stops the
//! leader, and checks what both say. `-- --serve 127.0.0.1:8080` runs one replica until it is told to stop.

mod drill;
mod service;

use std::path::PathBuf;

use clap::Parser;
use dynamo_elector::{Embedded, Fault, Faults, LockClient, LockClientBuilder, Timing};

#[derive(Debug, Parser)]
struct Options {
    /// Serves on this address, like 127.0.0.1:8080; with port 0 the system chooses one. Default: the drill.
    #[arg(long)]
    serve: Option<String>,
    /// Stops by itself after so many seconds. Default: at SIGTERM or Ctrl-C.
    #[arg(long, requires = "serve")]
    seconds: Option<u64>,
    /// The database file that all replicas share. Default: an engine in memory, so one replica alone.
    #[arg(long, requires = "serve")]
    path: Option<PathBuf>,
    /// Loses some answers of the store, so that the metrics of failures have values.
    #[arg(long, requires = "serve")]
    faulty: bool,
}

impl Options {
    /// On AWS this is `LockClient::builder(&sdk_client, "locks")`.
    fn locks(&self) -> anyhow::Result<LockClientBuilder> {
        let engine = match &self.path {
            Some(path) => Embedded::open(path)?,
            None => Embedded::in_memory()?,
        };
        let faults = Faults::none();
        if self.faulty {
            // Several in a row: a single one is mended by the SDK's retry.
            faults.set(|call| match call.number % 60 {
                14..=17 => Fault::LoseReply,
                30..=45 => Fault::ConnectError,
                _ => Fault::Deliver,
            });
        }
        let builder = LockClient::builder(&engine.client_with_faults(&faults), "locks").share_http_client();
        Ok(builder.create_table().timing(Timing::aggressive()))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    match &options.serve {
        Some(address) => service::run(&options, address).await,
        None => drill::run().await,
    }
}
