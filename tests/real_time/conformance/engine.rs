//! The engines, and how each is reached.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use dynamo_elector::{Embedded, LockClient, LockClientBuilder, Timing};

use super::quirks::Quirk;
use super::table::Table;
use crate::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The engine of this crate, in process.
    Embedded,
    /// The same behind a loopback port, reached with the SDK's own connections.
    Http,
    /// An emulator that shares no code with it, at `CONFORMANCE_ENDPOINT`.
    Ministack,
    /// DynamoDB itself, where `CONFORMANCE_AWS=1` permits the cost; Region and credentials from the environment.
    Aws,
}

/// One engine, for one case: no case sees another's tables.
pub(super) struct Engine {
    pub(super) kind: Kind,
    pub(super) client: Client,
    prefix: String,
    tables: Mutex<Vec<String>>,
}

/// DynamoDB makes a table in about ten seconds.
const LOOKS: u32 = 240;
const PAUSE: Duration = Duration::from_millis(250);

impl Engine {
    /// An engine that was asked for and can't be reached fails the case.
    pub(super) async fn open(kind: Kind) -> Self {
        let client = match kind {
            Kind::Embedded => Embedded::in_memory().unwrap().client(),
            Kind::Http => {
                static SERVER: OnceLock<Server> = OnceLock::new();
                at(&format!("http://{}", SERVER.get_or_init(Server::start).address))
            }
            Kind::Ministack => at(&std::env::var("CONFORMANCE_ENDPOINT").expect(
                "CONFORMANCE_ENDPOINT is not set: run .ci/conformance ministack, or name the endpoint of one that runs",
            )),
            Kind::Aws => {
                let permitted = std::env::var("CONFORMANCE_AWS").is_ok_and(|value| value == "1");
                assert!(permitted, "set CONFORMANCE_AWS=1: this makes tables in your AWS account, and deletes them");
                let config = aws_config::defaults(BehaviorVersion::latest()).load().await;
                Client::from_conf(bounded(Config::from(&config).to_builder()).build())
            }
        };
        let reached = client.list_tables().limit(1).send().await;
        assert!(reached.is_ok(), "{kind:?} can't be reached: {reached:?}");
        let prefix = format!("dynamo-elector-conformance-{:016x}", fastrand::u64(..));
        Self { kind, client, prefix, tables: Mutex::default() }
    }

    pub(super) fn has(&self, quirk: Quirk) -> bool {
        quirk.engines().contains(&self.kind)
    }

    /// A name that no other case uses. The table that may be made under it is deleted at the end.
    pub(super) fn table_name(&self, suffix: &str) -> String {
        let name = format!("{}-{suffix}", self.prefix);
        self.tables.lock().unwrap().push(name.clone());
        name
    }

    /// A table as the crate makes it, with the partition key `key`.
    pub(super) async fn table(&self) -> Table<'_> {
        let name = self.table_name("locks");
        self.builder(&name).table().unwrap().ensure(&dynamo_elector::TableOptions::on_demand()).await.unwrap();
        Table::new(self, name)
    }

    /// One that has the sort key `part` besides.
    pub(super) async fn sorted_table(&self) -> Table<'_> {
        let name = self.table_name("parts");
        let builder = self.builder(&name).sort_key_name("part");
        builder.table().unwrap().ensure(&dynamo_elector::TableOptions::on_demand()).await.unwrap();
        Table::new(self, name)
    }

    /// A client of the crate, in real time.
    pub(super) fn builder(&self, table: &str) -> LockClientBuilder {
        let builder = LockClient::builder(&self.client, table).timing(Timing::aggressive());
        if self.kind == Kind::Embedded { builder.share_http_client() } else { builder }
    }

    pub(super) async fn wait_until_active(&self, table: &str) {
        for _ in 0..LOOKS {
            let status = self.client.describe_table().table_name(table).send().await;
            let status = status.ok().and_then(|output| output.table?.table_status);
            if status.is_some_and(|status| status.as_str() == "ACTIVE") {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{table} does not become active");
    }

    /// Deletes what the case made, also after a failure: tables cost.
    pub(super) async fn clean_up(&self) {
        let tables = std::mem::take(&mut *self.tables.lock().unwrap());
        for table in tables {
            let mut left = LOOKS;
            while let Err(error) = self.client.delete_table().table_name(&table).send().await {
                if error.code() == Some("ResourceNotFoundException") {
                    break;
                }
                if error.code() == Some("ValidationException") {
                    let unprotect = self.client.update_table().table_name(&table).deletion_protection_enabled(false);
                    if unprotect.send().await.is_err() && matches!(self.kind, Kind::Embedded | Kind::Http) {
                        break; // It knows no UpdateTable; the table ends with the process.
                    }
                }
                left -= 1;
                assert!(left > 0, "the table {table} could not be deleted, delete it by hand: {error:?}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn at(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "conformance"))
        .endpoint_url(endpoint);
    Client::from_conf(bounded(config).build())
}

/// The SDK bounds nothing by default, and a case that hangs tells nothing.
fn bounded(config: aws_sdk_dynamodb::config::Builder) -> aws_sdk_dynamodb::config::Builder {
    let bound = Duration::from_secs(30);
    config.timeout_config(TimeoutConfig::builder().operation_timeout(bound).connect_timeout(bound / 6).build())
}
