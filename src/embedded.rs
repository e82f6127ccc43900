//! DynamoDB in this process: the engine behind the SDK's HTTP client, without a server.

mod connector;
mod engine;
#[cfg(feature = "test-util")]
mod faults;

use std::path::Path;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};

use crate::error::Error;
use connector::Connector;
use engine::Engine;
#[cfg(feature = "test-util")]
pub use faults::{Call, Fault, Faults};

/// A DynamoDB engine in this process, in memory or on a file that several processes share.
///
/// For one machine and for tests. The file is an SQLite database: a process frozen in the middle of a
/// write blocks the writes of the others until it is thawed or killed. Leaders then step down in time,
/// as at any other outage of the store.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = dynamo_elector::Embedded::in_memory()?;
/// let tables = engine.client().list_tables().send().await?;
/// assert!(tables.table_names().is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Embedded {
    engine: Engine,
}

impl Embedded {
    /// A new engine in memory. Runs in the caller's thread, about 0.1 ms a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it can't be started.
    pub fn in_memory() -> Result<Self, Error> {
        Ok(Self { engine: Engine::in_memory()? })
    }

    /// Opens or creates a database file. Requests run on a thread of their own, so that a file locked
    /// by a frozen process holds nobody up but that thread.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if it can't be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self { engine: Engine::open(path.as_ref())? })
    }

    /// An SDK client of this engine.
    pub fn client(&self) -> aws_sdk_dynamodb::Client {
        self.connect(Connector::new(self.engine.clone()))
    }

    /// An SDK client of this engine whose requests suffer `faults` on their way.
    #[cfg(feature = "test-util")]
    pub fn client_with_faults(&self, faults: &Faults) -> aws_sdk_dynamodb::Client {
        self.connect(Connector::with_faults(self.engine.clone(), faults.clone()))
    }

    /// Answers one request of the DynamoDB protocol: status and body. For those who put a server around it.
    ///
    /// # Cancel safety
    ///
    /// A request whose future is dropped may have been applied, or may still be.
    pub async fn dispatch(&self, target: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let operation = target.rsplit('.').next().unwrap_or(target).to_owned();
        let answer = self.engine.answer(operation, body).await;
        (answer.status, answer.body)
    }

    fn connect(&self, connector: Connector) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("local"))
            .endpoint_url("http://embedded.invalid")
            .credentials_provider(Credentials::new("embedded", "embedded", None, None, "embedded"))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(connector)
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }
}
