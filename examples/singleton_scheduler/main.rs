//! Copy this when exactly one replica may run a schedule: `replica.rs` is such a process. It works while it leads, under
//! `Elector::run`, and every effect carries the fencing token, so that even one that was frozen in the middle of it
//! can do no harm.
//!
//! `drill.rs` starts replicas as real processes; exactly one runs the schedule, whatever happens to it.
//!
//! `cargo run --example singleton_scheduler` uses the embedded engine on a file; `-- --endpoint http://127.0.0.1:8000` a server
//! that speaks DynamoDB's protocol; `-- --aws` DynamoDB itself, with your usual settings.

mod drill;
mod replica;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use dynamo_elector::{Embedded, LockClient, LockClientBuilder, Timing};

/// Starts replicas that share one election, kills, stops and freezes leaders, and checks that every
/// tick of the schedule ran at most once and never by a deposed leader.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// How many replicas compete (at least 2).
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// Lease in seconds; the other durations follow from it. Default: the `aggressive` profile, 3 s.
    #[arg(long)]
    lease: Option<f64>,
    /// A DynamoDB server, like http://127.0.0.1:8000. Default: the embedded engine on --path.
    #[arg(long)]
    endpoint: Option<String>,
    /// Uses DynamoDB on AWS with your usual settings.
    #[arg(long, conflicts_with = "endpoint")]
    aws: bool,
    /// The table for election and schedule; it is created if it is missing.
    #[arg(long, default_value = "singleton-scheduler")]
    table: String,
    /// The Region, for --endpoint and --aws.
    #[arg(long)]
    region: Option<String>,
    /// The embedded engine's database file. Default: a temporary one.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Internal: runs as the replica of this name.
    #[arg(long, hide = true)]
    replica: Option<String>,
}

impl Options {
    fn timing(&self) -> anyhow::Result<Timing> {
        match self.lease {
            None => Ok(Timing::aggressive()),
            Some(seconds) => {
                let lease = Duration::try_from_secs_f64(seconds).context("--lease must be a number of seconds")?;
                Ok(Timing::builder().lease(lease).build()?)
            }
        }
    }

    /// The SDK client, and a lock client's builder on the same store.
    async fn connect(&self) -> anyhow::Result<(aws_sdk_dynamodb::Client, LockClientBuilder)> {
        if self.endpoint.is_none() && !self.aws {
            let path = self.path.as_ref().context("--path is missing")?;
            let engine = Embedded::open(path)?;
            return Ok((engine.client(), LockClient::embedded(&engine, &self.table)));
        }
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest());
        if let Some(region) = self.region.clone().or_else(|| self.endpoint.as_ref().map(|_| "us-east-1".into())) {
            loader = loader.region(aws_config::Region::new(region));
        }
        if let Some(endpoint) = &self.endpoint {
            let local = aws_credential_types::Credentials::new("local", "local", None, None, "example");
            loader = loader.endpoint_url(endpoint).credentials_provider(local);
        }
        let client = aws_sdk_dynamodb::Client::new(&loader.load().await);
        let builder = LockClient::builder(&client, &self.table).create_table();
        Ok((client, builder))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match start(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(mut options: Options) -> anyhow::Result<()> {
    if let Some(name) = options.replica.clone() {
        return replica::run(&options, name).await;
    }
    anyhow::ensure!(options.replicas >= 2, "--replicas must be at least 2: somebody has to take over");
    let scratch = tempfile::tempdir()?;
    options.path.get_or_insert_with(|| scratch.path().join("scheduler.db"));
    drill::run(&options).await
}
