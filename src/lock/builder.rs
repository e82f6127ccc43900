//! Settings of a lock client, checked once.

use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::Config;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::context::{Context, Settings};
use super::entropy::Entropy;
use super::fencing::Fencing;
use super::keeper::{Keeper, Place, Ready};
use super::table::LockTable;
use super::{LockClient, no_entropy};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::protocol::Renewal;
use crate::store::{DurationText, Schema, Store, TableOptions, sdk_config};
use crate::telemetry::{Naming, Telemetry};
use crate::timing::Timing;

type Factory = Box<dyn FnOnce() -> BoxFuture<'static, Config> + Send>;

/// Builds a [`LockClient`]; see [`LockClient::builder`].
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | owner | `host-pid-<8 hex>` | readable in a listing, unique per client; it holds the host's name |
/// | timing | 10 s lease, 2.5 s heartbeat, 8 s validity | fail-over in about 9 s |
/// | partition key | `key` | dynamolock's default table |
/// | sort key, its value | none | |
/// | duration text | Go's | follows the record found; this serves creation only |
/// | fencing | tokens in the lock's record | costs nothing |
/// | delete on release | off | a deleted record forgets its fencing token |
/// | heartbeats | on | |
/// | create table | no | |
/// | election labels | on | an alert has to say which election |
#[must_use = "a builder does nothing until it is built"]
pub struct LockClientBuilder {
    config: Config,
    factory: Option<Factory>,
    table: String,
    owner: Option<String>,
    timing: Timing,
    partition_key: String,
    sort_key: Option<String>,
    sort_value: Option<String>,
    duration_text: DurationText,
    /// `None`: as the other settings allow.
    fencing: Option<Fencing>,
    delete_on_release: bool,
    renewal: Renewal,
    create_table: Option<TableOptions>,
    allow_mrec: bool,
    naming: Naming,
    transport: Transport,
    place: Place,
    #[cfg(feature = "test-util")]
    seed: Option<u64>,
}

/// What to do with an HTTP client that the user's configuration brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Own,
    Shared,
    /// The embedded engine: not bound to any runtime.
    #[cfg(feature = "embedded")]
    Embedded,
}

impl LockClientBuilder {
    pub(super) fn new(config: Config, table: String) -> Self {
        Self {
            config,
            factory: None,
            table,
            owner: None,
            timing: Timing::default(),
            partition_key: "key".into(),
            sort_key: None,
            sort_value: None,
            duration_text: DurationText::Go,
            fencing: None,
            delete_on_release: false,
            renewal: Renewal::Scheduled,
            create_table: None,
            allow_mrec: false,
            naming: Naming::Each,
            transport: Transport::Own,
            place: Place::Thread,
            #[cfg(feature = "test-util")]
            seed: None,
        }
    }

    #[cfg(feature = "embedded")]
    pub(super) fn embedded(config: Config, table: String) -> Self {
        Self { transport: Transport::Embedded, ..Self::new(config, table) }
    }

    /// Who holds, in the record. A label for people; nothing is decided by it.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// The durations of every lock of this client.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// The name of the table's partition key.
    pub fn partition_key_name(mut self, name: impl Into<String>) -> Self {
        self.partition_key = name.into();
        self
    }

    /// The name of the table's sort key, for tables that have one.
    pub fn sort_key_name(mut self, name: impl Into<String>) -> Self {
        self.sort_key = Some(name.into());
        self
    }

    /// The sort key's value for every [`Key`](crate::Key) that names none.
    pub fn sort_key_value(mut self, value: impl Into<String>) -> Self {
        self.sort_value = Some(value.into());
        self
    }

    /// How durations are written into records that this client creates: for fleets with Java clients
    /// set [`DurationText::JavaMillis`].
    pub fn duration_text(mut self, text: DurationText) -> Self {
        self.duration_text = text;
        self
    }

    /// Where fencing tokens come from.
    pub fn fencing(mut self, fencing: Fencing) -> Self {
        self.fencing = Some(fencing);
        self
    }

    /// Deletes records on release instead of marking them, as the Java client does. There are no
    /// fencing tokens then ([`Fencing::Off`]; any other setting of it is refused), since a deleted record forgets its
    /// number; an elector refuses such a client.
    pub fn delete_on_release(mut self) -> Self {
        self.delete_on_release = true;
        self
    }

    /// Sends no heartbeats but those that [`Lock::heartbeat`](crate::Lock::heartbeat) asks for: for locks held for less
    /// than a lease. An elector refuses such a client.
    pub fn without_heartbeats(mut self) -> Self {
        self.renewal = Renewal::OnDemand;
        self
    }

    /// Creates the table, billed on demand, if it is missing.
    pub fn create_table(self) -> Self {
        self.create_table_with(TableOptions::on_demand())
    }

    /// Creates the table if it is missing, like this.
    pub fn create_table_with(mut self, options: TableOptions) -> Self {
        self.create_table = Some(options);
        self
    }

    /// The table that these settings name, for those who set it up or look at it before clients use it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for names that can't be a table's or a key's.
    pub fn table(&self) -> Result<LockTable, Error> {
        LockTable::new(self)
    }

    /// Accepts a global table with eventual consistency between Regions. **It can't exclude**: a
    /// holder in each Region is possible. Only for clients that are all in one Region.
    pub fn allow_eventually_consistent_global_table(mut self) -> Self {
        self.allow_mrec = true;
        self
    }

    /// Leaves the label `name` off the metrics of this client's elections: for estates of thousands of elections, each of
    /// which would be about two hundred series of its own in every process. Their counters and histograms then
    /// sum up. `leader_election_master_status` is the number of elections that this process leads,
    /// `leader_election_paused` the number of those it is paused in, `leader_election_beacon_age_seconds` the age of the
    /// oldest beacon, and there is no `leader_election_fencing_token`. Trace events keep the name.
    pub fn without_election_labels(mut self) -> Self {
        self.naming = Naming::Together;
        self
    }

    /// Uses the HTTP client set in your SDK configuration instead of refusing it.
    ///
    /// Its connections are driven by whichever runtime opened them: if that is yours and you block
    /// it, renewals stall. Prefer [`sdk_factory`](Self::sdk_factory).
    pub fn share_http_client(mut self) -> Self {
        self.transport = Transport::Shared;
        self
    }

    /// Makes the SDK configuration on the keeper's thread, with an HTTP client and credentials
    /// providers that belong to it alone. Replaces the configuration that the builder was started with.
    pub fn sdk_factory<F, Fut>(mut self, factory: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Config> + Send + 'static,
    {
        self.factory = Some(Box::new(move || factory().boxed()));
        self
    }

    /// Runs the keeper on the current runtime and its clock, with versions and jitter drawn from
    /// `seed`: for tests in simulated time, which replay exactly.
    #[cfg(feature = "test-util")]
    pub fn simulated(mut self, seed: u64) -> Self {
        self.place = Place::CurrentRuntime;
        self.seed = Some(seed);
        self
    }

    /// Checks the settings, starts the keeper, and checks the table as far as it may.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] for settings, [`ErrorKind::TableMissing`], [`ErrorKind::TableUnfit`],
    /// [`ErrorKind::TableNotReady`], [`ErrorKind::KeeperFailed`]. When DynamoDB does not answer, or `DescribeTable` is not
    /// permitted, it goes on: see [`LockClient::table_was_checked`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the keeper that was being started; a table that was being created may exist.
    pub async fn build(self) -> Result<LockClient, Error> {
        let (clock, entropy) = self.sources();
        let schema = self.schema()?;
        let fencing = self.effective_fencing()?;
        if self.transport == Transport::Own && self.factory.is_none() && self.config.http_client().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the SDK configuration sets an http_client: its connections would hang when your runtime is blocked. \
                 Use sdk_factory to make one on the keeper's thread, or share_http_client to accept that",
            ));
        }
        if self.transport == Transport::Shared {
            tracing::warn!(
                "the keeper shares your http_client: if the runtime that drives its connections is blocked, renewals stall"
            );
        }
        let owner = match self.owner {
            Some(owner) => owner,
            None => default_owner(&entropy)?,
        };
        check_owner(&owner)?;
        let settings = Settings {
            owner,
            timing: self.timing,
            duration_text: self.duration_text,
            fencing,
            delete_on_release: self.delete_on_release,
            renewal: self.renewal,
        };
        let start = Start { create_table: self.create_table, allow_mrec: self.allow_mrec };
        let (config, factory) = (self.config, self.factory);
        let telemetry = Telemetry::start(matches!(self.place, Place::Thread), self.naming)?;
        let prepare = move || {
            async move {
                let config = match factory {
                    Some(factory) => factory().await,
                    None => config,
                };
                prepare(config, schema, settings, start, clock, entropy, telemetry).await
            }
            .boxed()
        };
        Ok(LockClient { keeper: std::sync::Arc::new(Keeper::start(self.place, prepare).await?) })
    }
}

/// The budget of requests about the table, which no lease depends on: `A`, and a bound on one attempt.
pub(super) fn default_patience() -> (Duration, Duration) {
    (Timing::economy().operation_timeout(), Timing::economy().attempt_timeout())
}

impl LockClientBuilder {
    pub(super) fn schema(&self) -> Result<Schema, Error> {
        Schema::new(self.table.clone(), self.partition_key.clone(), self.sort_key.clone(), self.sort_value.clone())
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn allows_mrec(&self) -> bool {
        self.allow_mrec
    }

    fn effective_fencing(&self) -> Result<Fencing, Error> {
        match self.fencing {
            Some(Fencing::Record | Fencing::FenceRecord) if self.delete_on_release => Err(Error::new(
                ErrorKind::InvalidInput,
                "delete_on_release and fencing tokens exclude each other: a deleted record forgets its number. Choose one",
            )),
            Some(fencing) => Ok(fencing),
            None if self.delete_on_release => Ok(Fencing::Off),
            None => Ok(Fencing::Record),
        }
    }

    #[cfg(feature = "test-util")]
    fn sources(&self) -> (Clock, Entropy) {
        match self.seed {
            Some(seed) => (Clock::simulated(), Entropy::Seeded(seed.into())),
            None => (Clock::System, Entropy::System),
        }
    }

    #[cfg(not(feature = "test-util"))]
    fn sources(&self) -> (Clock, Entropy) {
        (Clock::System, Entropy::System)
    }
}

impl std::fmt::Debug for LockClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockClientBuilder")
            .field("table", &self.table)
            .field("owner", &self.owner)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
struct Start {
    create_table: Option<TableOptions>,
    allow_mrec: bool,
}

/// Runs on the keeper: the SDK client is built there, with connections and a credentials cache of its own.
async fn prepare(
    config: Config,
    schema: Schema,
    settings: Settings,
    start: Start,
    clock: Clock,
    entropy: Entropy,
    telemetry: Telemetry,
) -> Result<Ready, Error> {
    let timing = settings.timing;
    // The SDK keeps retry tokens per partition name and process; a private name keeps other clients'
    // failures from eating our retries (R11).
    let partition = format!("dynamo-elector {}", settings.owner);
    let config = sdk_config(&config, timing.operation_timeout(), timing.attempt_timeout(), &partition);
    let client = aws_sdk_dynamodb::Client::from_conf(config.build());
    let meter = telemetry.clone();
    let meter = std::sync::Arc::new(move |op, units| meter.request(op, units));
    let store = Store::new(client, schema, meter, timing.operation_timeout());
    if let Some(options) = &start.create_table {
        store.ensure_table(options).await?;
    }
    let table_was_checked = match store.table_report().await {
        Ok(report) => {
            report.check(start.allow_mrec)?;
            match store.ttl_attribute().await {
                Ok(Some(attribute)) => telemetry.table_expires(&attribute),
                Ok(None) => {}
                Err(error) => telemetry.table_unchecked(&error),
            }
            true
        }
        Err(error) if matches!(error.kind(), ErrorKind::TableMissing | ErrorKind::TableUnfit) => return Err(error),
        Err(error) => {
            // Not permitted, or not answering: no reason not to start.
            telemetry.table_unchecked(&error);
            false
        }
    };
    Ok(Ready { context: Context::new(store, clock, entropy, settings, telemetry), table_was_checked })
}

fn default_owner(entropy: &Entropy) -> Result<String, Error> {
    let suffix = entropy.suffix().ok_or_else(no_entropy)?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(format!("{host}-{}-{suffix}", std::process::id()))
}

fn check_owner(owner: &str) -> Result<(), Error> {
    const MAX_OWNER: usize = 1_024;
    let problem = if owner.is_empty() {
        "is empty"
    } else if owner.len() > MAX_OWNER {
        "is longer than 1024 bytes"
    } else if owner.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("the owner name {owner:?} {problem}: use a short readable label")))
}
