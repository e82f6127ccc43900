//! This crate as a driver: its lock layer, or its electors.

mod protocol;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use dynamo_elector::{Elector, ErrorKind, Leadership, Lock, LockClient, ReleaseOutcome, Timing};
use protocol::{About, Client, Held, Settings, Told, fail, serve};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Layer {
    Lock,
    Elector,
}

pub(crate) async fn run(layer: Layer) {
    let settings = Settings::from_env();
    let timing = timing(&settings).unwrap_or_else(|error| fail(&error));
    let locks = connect(&settings).await.unwrap_or_else(|error| fail(&error));
    let about =
        |name| About { name, version: VERSION, offers: &OFFERS, promise: Some((timing.validity(), timing.guard())) };
    match layer {
        Layer::Lock => {
            serve(about("dynamo-elector (lock)"), &settings, Locks { locks, settings: settings.clone() }).await
        }
        Layer::Elector => {
            let electors = Electors { locks, settings: settings.clone(), electors: Mutex::default() };
            serve(about("dynamo-elector (elector)"), &settings, electors).await;
        }
    }
}

fn timing(settings: &Settings) -> Result<Timing, String> {
    let timing = Timing::builder().lease(settings.lease).heartbeat(settings.heartbeat);
    let timing = settings.poll.map_or(timing, |poll| timing.poll(poll));
    let timing = settings.attempt_timeout.map_or(timing, |timeout| timing.attempt_timeout(timeout));
    timing.build().map_err(|error| error.to_string())
}

async fn connect(settings: &Settings) -> Result<LockClient, String> {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&settings.endpoint)
        .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"));
    let locks = LockClient::builder(&aws_sdk_dynamodb::Client::from_conf(config.build()), &settings.table)
        .owner(&settings.owner)
        .timing(timing(settings)?);
    locks.build().await.map_err(|error| text(&error))
}

/// The results name the revision.
const VERSION: &str = "this revision";
const OFFERS: [&str; 2] = ["keep", "told"];

fn text(error: &dynamo_elector::Error) -> String {
    format!("{:?}: {error}", error.kind())
}

struct Locks {
    locks: LockClient,
    settings: Settings,
}

impl Client for Locks {
    type Held = Lock;

    async fn another(&self, owner: String) -> Result<Self, String> {
        let settings = Settings { owner, ..self.settings.clone() };
        Ok(Self { locks: connect(&settings).await?, settings })
    }

    async fn acquire(&self, key: &str) -> Result<Lock, String> {
        self.locks.acquire(key).await.map_err(|error| text(&error))
    }

    async fn attempt(&self, key: &str) -> Result<Option<Lock>, String> {
        self.locks.try_acquire(key).await.map_err(|error| text(&error))
    }
}

impl Held for Lock {
    fn holds(&self) -> bool {
        self.is_valid()
    }

    fn remaining(&self) -> Option<std::time::Duration> {
        Some(self.remaining())
    }

    fn told(&self) -> Option<Told> {
        Some(Box::pin(self.lost().clone().cancelled_owned()))
    }

    async fn release(self, _keep: bool) -> Result<(), String> {
        outcome(Lock::release(self).await.map_err(|error| text(&error))?)
    }
}

fn outcome(outcome: ReleaseOutcome) -> Result<(), String> {
    if outcome == ReleaseOutcome::Released { Ok(()) } else { Err(format!("release: {}", outcome.as_str())) }
}

struct Electors {
    locks: LockClient,
    settings: Settings,
    electors: Mutex<HashMap<String, Elector>>,
}

impl Client for Electors {
    type Held = Leadership;

    async fn another(&self, owner: String) -> Result<Self, String> {
        let settings = Settings { owner, ..self.settings.clone() };
        Ok(Self { locks: connect(&settings).await?, settings, electors: Mutex::default() })
    }

    async fn acquire(&self, key: &str) -> Result<Leadership, String> {
        let elector = {
            let mut electors = self.electors.lock().unwrap_or_else(PoisonError::into_inner);
            match electors.get(key) {
                Some(elector) => elector.clone(),
                None => {
                    let elector = Elector::builder(&self.locks, key).build().map_err(|error| text(&error))?;
                    electors.insert(key.into(), elector.clone());
                    elector
                }
            }
        };
        loop {
            match elector.campaign().await {
                // The term before is about to end.
                Err(error) if error.kind() == ErrorKind::Busy => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                other => return other.map_err(|error| text(&error)),
            }
        }
    }

    async fn attempt(&self, _key: &str) -> Result<Option<Leadership>, String> {
        Err("not offered: an elector campaigns".into())
    }
}

impl Held for Leadership {
    fn holds(&self) -> bool {
        self.is_valid()
    }

    fn remaining(&self) -> Option<std::time::Duration> {
        Some(self.remaining())
    }

    fn told(&self) -> Option<Told> {
        Some(Box::pin(self.cancelled()))
    }

    async fn release(self, _keep: bool) -> Result<(), String> {
        outcome(self.hand_over().await)
    }
}
