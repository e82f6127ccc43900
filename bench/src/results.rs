//! What one run found, as it is written down.

use serde::{Deserialize, Serialize};

use crate::host::Busy;
use crate::scenario::{cost, cut, failover, growth, handover, ladder, loss, many, pause};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) date: String,
    pub(crate) revision: String,
    pub(crate) host: String,
    /// Of the build.
    pub(crate) profile: String,
    pub(crate) quick: bool,
    /// Of counts and durations, to those of a full run.
    pub(crate) scale: f64,
    pub(crate) round_trip_ms: f64,
    /// Of one minute, before the run and after it, which includes what the run itself did.
    pub(crate) load: (f64, f64),
    pub(crate) minutes: f64,
    pub(crate) scenarios: Vec<Ran>,
    pub(crate) clients: Vec<Client>,
}

/// How one scenario was run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) name: String,
    /// Side by side; with 1 they come one after the other.
    pub(crate) clients_at_once: usize,
    pub(crate) busy: Busy,
}

/// What was found of one client; a scenario that was not run, or failed, is not there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) cost: Option<cost::Found>,
    pub(crate) failover: Option<failover::Found>,
    pub(crate) handover: Option<handover::Found>,
    pub(crate) loss: Option<loss::Found>,
    pub(crate) cut: Option<cut::Found>,
    /// The same with all processors busy.
    pub(crate) cut_busy: Option<cut::Found>,
    pub(crate) pause: Option<pause::Found>,
    pub(crate) many: Option<many::Found>,
    pub(crate) ladder: Option<ladder::Found>,
    pub(crate) growth: Option<growth::Found>,
    /// Why a scenario failed.
    pub(crate) failures: Vec<String>,
}
