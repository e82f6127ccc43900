//! What elections cost, known before the bill comes: requests and capacity units, by formulas that tests hold against
//! counted requests.

use std::time::Duration;

use crate::protocol::MOST_PAUSE;
use crate::timing::Timing;

/// A month, as AWS counts it: 730 hours.
const MONTH: Duration = Duration::from_secs(730 * 60 * 60);
/// Looks that come too early, which is how a follower stays close behind the heartbeats: one in ten of them.
const EARLY: f64 = 0.1;
/// Looks around a change of leaders that come sooner than polls would: until the old one has let go, or is known to be late, and
/// while the schedule of the new one is searched for.
const SEARCH: f64 = 5.5;
/// For how many heartbeats it is polled for, before.
const POLLED: f64 = 2.0;
/// What one unit carries of a record, in bytes.
const WRITE_UNIT: u32 = 1_024;
const READ_UNIT: u32 = 4_096;

/// Elections of one kind: how many there are, who takes part, and how often leadership moves.
///
/// For each election, with `N` candidates, lease `L`, heartbeat `H` and poll `P` as [`Timing`] has them:
///
/// | | writes | eventually consistent reads |
/// | --- | --- | --- |
/// | in each second | `1 / H` | `(N - 1) l`, where `l = (⌈H / max(5 s, P)⌉ + 0.1) / H`, and `1 / P` if `H <= P` |
/// | at a hand-over | `N + 1/2`: announced, released, claimed by each of the others, and half a heartbeat less | `(N - 1) s`, where `s = 5.5 + 2 H/P`: its schedule is found |
/// | at a crash | `N - 1` claims, less the `L/H - 1/2` heartbeats that nobody sends | `(N - 1) (s + (L - H) (1/P - l))`: polled until it is over |
///
/// A write costs a unit for each KB of the record that was begun, refused or not; a read half a unit for each 4 KB. These are DynamoDB's rules for
/// [capacity units](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html). `0.1`, `5.5` and `2` are what
/// runs in simulated time show. Tests hold all of it against the requests of real runs, on every profile: within 2 % while nothing happens, and within
/// 10 % where leadership moves every three leases. Not in it: start-up (half a unit for each candidate), errors and what is tried again after
/// them, clocks that run apart by more than 0.1 %, observers, waiters for locks (`1 / P` reads a second each), storage, and whatever else AWS bills.
///
/// # Examples
///
/// A hundred elections of three replicas, each deployed once a day. Prices differ by Region and change: look yours up.
///
/// ```
/// use dynamo_elector::{Timing, Workload};
///
/// let month = Workload::new(Timing::default(), 3).elections(100).hand_overs(30).crashes(1).per_month();
/// assert_eq!(month.write_units.round(), 105_130_350.0);
/// let dollars = month.price(0.625, 0.125); // for a million write units, and for a million read units
/// assert!((80.1..80.4).contains(&dollars), "{dollars}");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Workload {
    timing: Timing,
    candidates: u32,
    elections: u32,
    hand_overs: u32,
    crashes: u32,
    record_bytes: u32,
}

impl Workload {
    /// One election with so many candidates, its leader among them, in which nothing happens.
    pub fn new(timing: Timing, candidates: u32) -> Self {
        Self { timing, candidates, elections: 1, hand_overs: 0, crashes: 0, record_bytes: 0 }
    }

    /// So many of them.
    pub fn elections(mut self, elections: u32) -> Self {
        self.elections = elections;
        self
    }

    /// How often in a month the leadership of each is given up: deployments, before all.
    pub fn hand_overs(mut self, a_month: u32) -> Self {
        self.hand_overs = a_month;
        self
    }

    /// How often in a month the leader of each dies, and is back before its lease is over.
    pub fn crashes(mut self, a_month: u32) -> Self {
        self.crashes = a_month;
        self
    }

    /// The size of a record, names and values. It counts from 1 KB on only, which takes data: without, it is about 250 bytes.
    pub fn record_bytes(mut self, bytes: u32) -> Self {
        self.record_bytes = bytes;
        self
    }

    /// What they cost in a month of 730 hours.
    #[must_use]
    pub fn per_month(&self) -> Usage {
        self.over(MONTH)
    }

    /// What they cost in any other time: in a second, to compare it with the limits of a table.
    #[must_use]
    pub fn over(&self, time: Duration) -> Usage {
        if self.candidates == 0 {
            return Usage::default();
        }
        let [lease, heartbeat, poll] =
            [self.timing.lease(), self.timing.heartbeat(), self.timing.poll()].map(|time| time.as_secs_f64());
        let others = f64::from(self.candidates - 1);
        let (looks, search) = if heartbeat > poll {
            let least = (heartbeat / poll.max(MOST_PAUSE.as_secs_f64())).ceil();
            ((least + EARLY) / heartbeat, SEARCH + POLLED * heartbeat / poll)
        } else {
            (1.0 / poll, 0.0)
        };
        let seconds = time.as_secs_f64();
        let share = seconds / MONTH.as_secs_f64();
        let (hand_overs, crashes) = (f64::from(self.hand_overs) * share, f64::from(self.crashes) * share);
        let writes = seconds / heartbeat + hand_overs * (others + 1.5) + crashes * (others + 0.5 - lease / heartbeat);
        let waiting = (lease - heartbeat) * (1.0 / poll - looks);
        let reads = others * (seconds * looks + hand_overs * search + crashes * (search + waiting));
        self.billed(writes.max(0.0), reads)
    }

    fn billed(&self, writes: f64, reads: f64) -> Usage {
        let elections = f64::from(self.elections);
        let units = |unit: u32| f64::from(self.record_bytes.div_ceil(unit).max(1));
        let (write_requests, read_requests) = (writes * elections, reads * elections);
        Usage {
            write_requests,
            read_requests,
            write_units: write_requests * units(WRITE_UNIT),
            read_units: read_requests * units(READ_UNIT) / 2.0,
        }
    }
}

/// Requests, and the capacity units that DynamoDB bills for them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Conditional writes.
    pub write_requests: f64,
    /// Eventually consistent reads.
    pub read_requests: f64,
    /// Units of writing.
    pub write_units: f64,
    /// Units of reading.
    pub read_units: f64,
}

impl Usage {
    /// What that costs at these prices, in their currency.
    #[must_use]
    pub fn price(&self, per_million_write_units: f64, per_million_read_units: f64) -> f64 {
        (self.write_units * per_million_write_units + self.read_units * per_million_read_units) / 1e6
    }
}
