//! Copy this when you want plain locks, without an election around them: one owner at a time of a customer's
//! import, a migration, a file. It does what the README of dynamolock (Go) does, step by step: create the table
//! with provisioned throughput and a key name of its own, acquire a lock with data, read it without acquiring it,
//! release it. Here creation waits until the table is active, and every outcome is checked.
//!
//! `cargo run --example locks` uses the embedded engine; `-- --endpoint http://127.0.0.1:8000` a server that speaks
//! DynamoDB's protocol; `-- --aws` DynamoDB itself, with your usual settings.
//!
//! For a service of which exactly one replica may act, copy `singleton_scheduler` instead.

use std::time::Duration;

use anyhow::{Context, ensure};
use aws_config::BehaviorVersion;
use clap::Parser;
use dynamo_elector::{Embedded, LockClient, ReleaseOutcome, TableOptions, Timing};

#[derive(Debug, Parser)]
struct Options {
    /// A DynamoDB server, like http://127.0.0.1:8000. Default: the embedded engine, in memory.
    #[arg(long)]
    endpoint: Option<String>,
    /// DynamoDB on AWS with your usual settings.
    #[arg(long, conflicts_with = "endpoint")]
    aws: bool,
    /// The lock table.
    #[arg(long, default_value = "example-locks")]
    table: String,
}

impl Options {
    async fn builder(&self) -> anyhow::Result<dynamo_elector::LockClientBuilder> {
        if self.endpoint.is_none() && !self.aws {
            return Ok(LockClient::embedded(&Embedded::in_memory()?, &self.table));
        }
        let mut config = aws_config::defaults(BehaviorVersion::latest());
        if let Some(endpoint) = &self.endpoint {
            // A local server takes any credentials.
            let anybody = aws_credential_types::Credentials::new("local", "local", None, None, "local");
            config = config.endpoint_url(endpoint).credentials_provider(anybody);
            config = config.region(aws_config::Region::new("us-east-1"));
        }
        Ok(LockClient::builder(&aws_sdk_dynamodb::Client::new(&config.load().await), &self.table))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let timing = Timing::builder().lease(Duration::from_secs(3)).heartbeat(Duration::from_millis(750)).build()?;
    let builder = options.builder().await?.partition_key_name("key").timing(timing);

    println!("ensuring that table {} exists", options.table);
    builder.table()?.ensure(&TableOptions::provisioned(5, 5)).await.context("the table")?;
    let locks = builder.build().await?;

    println!("acquiring the lock on spock");
    let content = b"some content a";
    let lock = locks.acquire("spock").data(content).wait_up_to(Duration::from_secs(30)).await?;
    println!("lock content: {:?}", lock.data().map(|data| String::from_utf8_lossy(&data).into_owned()));
    ensure!(lock.data().as_deref() == Some(content), "the data is not what was stored");

    let record = locks.get("spock").await?.context("the record of a lock that is held")?;
    println!("read without acquiring: {} holds it for {:?} since its last heartbeat", record.owner(), record.lease());
    ensure!(record.owner() == locks.owner() && !record.is_expired() && record.data() == Some(content));
    ensure!(locks.try_acquire("spock").await?.is_none(), "one holder at a time");

    // Work goes here, under `lock.guard(…)`, or watching `lock.lost()`.
    ensure!(lock.is_valid());

    println!("releasing it");
    let outcome = lock.release().await?;
    ensure!(outcome == ReleaseOutcome::Released, "{outcome:?}");
    let next = locks.try_acquire("spock").await?.context("free for the next one at once")?;
    ensure!(next.data().as_deref() == Some(content), "its data was kept");

    // Releases whatever is held, and tells what became of it.
    let report = locks.shutdown().await;
    ensure!(report.unreleased().count() == 0, "{report:?}");
    println!("done");
    Ok(())
}
