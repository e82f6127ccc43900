//! The crate dynamodb-lease as a driver.

#[path = "../../../src/clock.rs"]
mod clock;
#[path = "../../../src/driver/protocol.rs"]
mod protocol;

use std::time::Duration;

use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use dynamodb_lease::Lease;
use protocol::{About, Client, Held, Settings, Told, fail, serve};

const VERSION: &str = "0.22.1";

#[tokio::main(worker_threads = 2)]
async fn main() {
    let settings = Settings::from_env();
    let client = connect(&settings).await.unwrap_or_else(|error| fail(&error));
    // It always deletes what it releases, and tells nothing: `is_healthy` has to be asked.
    let about = About { name: "dynamodb-lease", version: VERSION, offers: &[], promise: None };
    serve(about, &settings, Leases { client, settings: settings.clone() }).await;
}

async fn connect(settings: &Settings) -> Result<dynamodb_lease::Client, String> {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&settings.endpoint)
        .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"));
    let config = match settings.attempt_timeout {
        None => config,
        Some(timeout) => config.timeout_config(TimeoutConfig::builder().operation_attempt_timeout(timeout).build()),
    };
    let client = dynamodb_lease::Client::builder()
        .table_name(&settings.table)
        .lease_ttl_seconds(whole_seconds(settings.lease))
        .extend_every(settings.heartbeat);
    let client = match settings.poll {
        None => client,
        Some(poll) => client.acquire_cooldown(poll),
    };
    let client = client.build_and_check_db(aws_sdk_dynamodb::Client::from_conf(config.build())).await;
    client.map_err(|error| format!("{error:#}"))
}

fn whole_seconds(lease: Duration) -> u32 {
    match u32::try_from(lease.as_secs()) {
        Ok(seconds) if lease.subsec_nanos() == 0 => seconds,
        _ => fail("its leases are whole seconds"),
    }
}

struct Leases {
    client: dynamodb_lease::Client,
    settings: Settings,
}

impl Client for Leases {
    type Held = Lease;

    /// It names its owners itself.
    async fn another(&self, _owner: String) -> Result<Self, String> {
        Ok(Self { client: connect(&self.settings).await?, settings: self.settings.clone() })
    }

    async fn acquire(&self, key: &str) -> Result<Lease, String> {
        self.client.acquire(key).await.map_err(|error| format!("{error:#}"))
    }

    async fn attempt(&self, key: &str) -> Result<Option<Lease>, String> {
        self.client.try_acquire(key).await.map_err(|error| format!("{error:#}"))
    }
}

impl Held for Lease {
    fn holds(&self) -> bool {
        self.is_healthy()
    }

    fn told(&self) -> Option<Told> {
        None
    }

    async fn release(self, keep: bool) -> Result<(), String> {
        if keep {
            return Err("not offered: it deletes what it releases".into());
        }
        Lease::release(self).await.map_err(|error| format!("{error:#}"))
    }
}
