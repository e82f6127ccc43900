//! Copy this when a leader writes to something that outlives it: a DynamoDB item, a row, an object, another service. No check in the
//! leader's own process covers a pause between the check and the write, or a packet that is late. So each write carries the
//! number of its term, and what is written to refuses a smaller number than it has seen.
//!
//! Here a leader is cut off from the lock table, another one takes over, and then the first one's late writes arrive: (a) on a
//! DynamoDB item, under `fence().condition()`; (b) in a DynamoDB transaction, beside `fence().condition_check()`, on an item that the new
//! leader has not even written yet; (c) on a row in SQLite, with `fence().number()`. All are refused, and the new leader's go through.
//!
//! `cargo run --example fenced_write` uses the embedded engine and takes about 4 seconds. What each way promises, and what not, is
//! in the documentation of `Fence`. For a service around it, copy `singleton_scheduler` instead.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use dynamo_elector::{Elector, Embedded, Fault, Faults, Fence, Fencing, Leadership, LockClient, Timing};
use rusqlite::{Connection, named_params};

/// A table of the application's own.
const TABLE: &str = "billing";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Applied,
    Refused,
}

use Outcome::{Applied, Refused};

fn lock(database: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    database.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// (a) One item. Refused once a newer leader has written it.
async fn update_item(client: &Client, fence: &Fence, by: &str) -> anyhow::Result<Outcome> {
    let update = client
        .update_item()
        .table_name(TABLE)
        .key("key", text("invoice run"))
        .update_expression("SET started_by = :by")
        .expression_attribute_values(":by", text(by));
    match fence.condition().apply_to(update)?.send().await {
        Ok(_) => Ok(Applied),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(Refused),
        Err(error) => Err(error.into()),
    }
}

/// (b) Any items, all or nothing. Refused once a newer leader has been elected, whatever that one has written.
async fn transact(client: &Client, fence: &Fence, by: &str) -> anyhow::Result<Outcome> {
    loop {
        let put = Put::builder().table_name(TABLE).item("key", text("report")).item("written_by", text(by)).build()?;
        let transaction = client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().condition_check(fence.condition_check()?).build())
            .transact_items(TransactWriteItem::builder().put(put).build());
        let Err(error) = transaction.send().await else { return Ok(Applied) };
        let reasons: Vec<_> = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or("None")).collect()
            }
            _ => bail!(error),
        };
        match reasons[..] {
            // The check is the first part: the term is over.
            ["ConditionalCheckFailed", ..] => return Ok(Refused),
            // Another transaction of the election, or a leader that is just being elected.
            _ if reasons.contains(&"TransactionConflict") => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            _ => bail!(error),
        }
    }
}

/// (c) A row. Refused once a newer leader has written it. The number is stored with what it guards, in one statement.
fn update_row(database: &Mutex<Connection>, fence: &Fence, by: &str) -> anyhow::Result<Outcome> {
    const SQL: &str = "UPDATE jobs SET started_by = :by, fence = :t WHERE id = :id AND fence <= :t";
    let number = i64::try_from(fence.number())?;
    let changed = lock(database).execute(SQL, named_params! { ":by": by, ":t": number, ":id": "invoice run" })?;
    Ok(if changed == 1 { Applied } else { Refused })
}

/// All three writes of one leader.
async fn write(
    who: &str,
    client: &Client,
    database: &Mutex<Connection>,
    leadership: &Leadership,
) -> anyhow::Result<[Outcome; 3]> {
    let fence = leadership.fence();
    let outcomes = [
        update_item(client, &fence, who).await?,
        transact(client, &fence, who).await?,
        update_row(database, &fence, who)?,
    ];
    let ways = ["condition()", "condition_check()", "number()"];
    for (way, outcome) in ways.iter().zip(outcomes) {
        println!("  {who:<11}  number {}  {way:<18} {outcome:?}", fence.number());
    }
    Ok(outcomes)
}

async fn campaign(locks: &LockClient) -> anyhow::Result<(Elector, Leadership)> {
    let elector = Elector::builder(locks, "nightly-billing").build()?;
    let leadership = elector.campaign().await?;
    Ok((elector, leadership))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let engine = Embedded::in_memory()?;
    let client = engine.client();
    // The application's tables. (Any client makes a table with the partition key `key`.)
    LockClient::embedded(&engine, TABLE).build().await?.shutdown().await;
    let database = Mutex::new(Connection::open_in_memory()?);
    lock(&database).execute_batch(
        "CREATE TABLE jobs (id TEXT PRIMARY KEY, started_by TEXT, fence INTEGER NOT NULL);
         INSERT INTO jobs VALUES ('invoice run', NULL, 0);",
    )?;

    // The first process reaches the lock table over a network that will fail. On AWS: LockClient::builder(&sdk_client, "locks").
    let network = Faults::none();
    let locks = |client: &Client| {
        let builder = LockClient::builder(client, "locks").share_http_client().create_table();
        builder.timing(Timing::aggressive()).fencing(Fencing::FenceRecord)
    };
    let first = locks(&engine.client_with_faults(&network)).build().await?;
    let second = locks(&client).build().await?;

    println!("the first process is elected and writes");
    let (_elector, deposed) = campaign(&first).await?;
    ensure!(write("first", &client, &database, &deposed).await? == [Applied; 3]);

    println!("it is cut off from the lock table, and stops in time");
    network.set(|_| Fault::LoseRequest);
    let takes_over = tokio::spawn(async move { campaign(&second).await.map(|won| (second, won)) });
    deposed.cancelled().await;
    ensure!(!deposed.is_valid(), "the token fires when leadership is over");

    println!("the second takes over");
    let (second, (elector, newer)) = takes_over.await??;
    ensure!(newer.fencing_token() > deposed.fencing_token());
    // (b) needs no write of the new leader: its number was sealed before it was handed out.
    let early = transact(&client, &deposed.fence(), "first late").await?;
    println!(
        "  first late   number {}  condition_check()  {early:?}, though nobody has written it since",
        deposed.fence().number()
    );
    ensure!(early == Refused);
    ensure!(write("second", &client, &database, &newer).await? == [Applied; 3]);

    println!("the first one's late writes arrive");
    ensure!(write("first late", &client, &database, &deposed).await? == [Refused; 3]);
    ensure!(write("second", &client, &database, &newer).await? == [Applied; 3], "a leader writes as often as it likes");

    for (key, attribute) in [("invoice run", "started_by"), ("report", "written_by")] {
        let item = client.get_item().table_name(TABLE).key("key", text(key)).send().await?.item.context("written")?;
        ensure!(item.get(attribute) == Some(&text("second")), "{item:?}");
    }
    let row: (String, u64) =
        lock(&database).query_row("SELECT started_by, fence FROM jobs", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    ensure!(row == ("second".to_owned(), newer.fence().number()), "{row:?}");

    newer.resign().await;
    elector.shutdown().await;
    let report = second.shutdown().await;
    ensure!(report.unreleased().count() == 0, "{report:?}");
    println!("done: everywhere stands what the second one wrote");
    Ok(())
}
