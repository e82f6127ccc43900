//! Metrics: the one place that sets them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::catalog::{self, Whose};
use super::standing::{Election, Standing};
use super::{Event, LockEvent, Name, Naming};

/// Lives with the herald.
pub(super) struct Meter {
    standing: Arc<Standing>,
    naming: Naming,
    /// Which recorder has been told what `told` and `locks_held` say.
    recorder: Option<usize>,
    /// What this client has added to gauges so far. Others of the process may have added to the same ones.
    told: BTreeMap<Name, Election>,
    locks_held: u32,
    beacons: Beacons,
}

/// The latest age of each beacon, and all of them in order.
#[derive(Default)]
struct Beacons {
    ages: BTreeMap<Name, Duration>,
    ordered: BTreeSet<(Duration, Name)>,
}

impl Beacons {
    fn set(&mut self, name: &Name, age: Option<Duration>) {
        if let Some(before) = self.ages.remove(name) {
            self.ordered.remove(&(before, Name::clone(name)));
        }
        if let Some(age) = age {
            self.ages.insert(Name::clone(name), age);
            self.ordered.insert((age, Name::clone(name)));
        }
    }

    fn oldest(&self) -> Duration {
        self.ordered.last().map_or(Duration::ZERO, |(age, _)| *age)
    }
}

impl Meter {
    pub(super) fn new(standing: Arc<Standing>, naming: Naming) -> Self {
        let (told, beacons) = (BTreeMap::new(), Beacons::default());
        let mut meter = Self { standing, naming, recorder: None, told, locks_held: 0, beacons };
        meter.meet_recorder();
        meter
    }

    /// `lost`: how many events before this one were dropped.
    pub(super) fn record(&mut self, event: &Event, lost: u64) {
        self.meet_recorder();
        if lost > 0 {
            catalog::EVENTS_DROPPED.counter(None, None).increment(lost);
            self.settle_all();
        }
        if let Some(name) = event.election() {
            self.settle(name);
        }
        self.count(event);
    }

    /// A recorder may be installed after the client was built: then everything begins, as it would have before.
    fn meet_recorder(&mut self) {
        let address = metrics::with_recorder(|recorder| std::ptr::from_ref(recorder).cast::<()>().addr());
        if self.recorder != Some(address) {
            self.recorder = Some(address);
            self.told.clear();
            self.locks_held = 0;
            catalog::begin_client();
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        let mut names = self.standing.names();
        names.extend(self.told.keys().cloned());
        for name in names {
            self.settle(&name);
        }
        self.settle_locks();
    }

    /// Brings the gauges of an election to what is so now, by what has changed since they were told last.
    fn settle(&mut self, name: &Name) {
        let now = self.standing.election(name);
        let whose = whose(self.naming, name);
        let before = match (self.told.get(name), now) {
            (None, None) => return,
            (None, Some(_)) => {
                catalog::begin_election(whose);
                Election::default()
            }
            (Some(told), _) => *told,
        };
        let after = now.unwrap_or_default();
        if before.leading != after.leading {
            let change = f64::from(after.leading) - f64::from(before.leading);
            catalog::MASTER_STATUS.gauge(whose, None).increment(change);
        }
        if before.paused != after.paused {
            let change = f64::from(u8::from(after.paused)) - f64::from(u8::from(before.paused));
            catalog::PAUSED.gauge(whose, None).increment(change);
        }
        if now.is_some() {
            self.told.insert(Name::clone(name), after);
        } else {
            self.told.remove(name);
            self.beacon(name, None);
        }
    }

    fn settle_locks(&mut self) {
        let now = self.standing.locks_held();
        if now != self.locks_held {
            catalog::LOCKS_HELD.gauge(None, None).increment(f64::from(now) - f64::from(self.locks_held));
            self.locks_held = now;
        }
    }

    /// Where elections are not told apart the oldest counts: one silent runtime must not hide behind many others.
    fn beacon(&mut self, name: &Name, age: Option<Duration>) {
        let whose = whose(self.naming, name);
        self.beacons.set(name, age);
        let age = if whose.is_some() { age.unwrap_or_default() } else { self.beacons.oldest() };
        catalog::BEACON_AGE.gauge(whose, None).set(age.as_secs_f64());
    }

    fn count(&mut self, event: &Event) {
        let naming = self.naming;
        let whose = |name| whose(naming, name);
        match event {
            Event::Request { op, units } => {
                catalog::REQUESTS.counter(None, Some(op.as_str())).increment(1);
                // A counter of the facade is a whole number and an eventually consistent read costs half a unit:
                // a gauge that only rises serves `rate()` as well.
                catalog::CAPACITY_UNITS.gauge(None, Some(op.as_str())).increment(*units);
            }
            Event::Lock { what, .. } => self.count_lock(what),
            Event::Elected { name, token, .. } => {
                if let Some(name) = whose(name) {
                    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; exact up to 2^53 terms")]
                    catalog::FENCING_TOKEN.gauge(Some(name), None).set(*token as f64);
                }
                catalog::TRANSITIONS.counter(whose(name), Some("leader")).increment(1);
            }
            Event::Ended { name, reason, tenure } => {
                catalog::LOST.counter(whose(name), Some(reason.as_str())).increment(1);
                catalog::TENURE.histogram(whose(name)).record(tenure.as_secs_f64());
            }
            Event::Released { name, outcome, drain } => {
                catalog::RELEASE.counter(whose(name), Some(outcome.as_str())).increment(1);
                catalog::DRAIN.histogram(whose(name)).record(drain.as_secs_f64());
            }
            Event::Renewed { name, took, margin } => {
                catalog::RENEW_DURATION.histogram(whose(name)).record(took.as_secs_f64());
                catalog::MARGIN.histogram(whose(name)).record(margin.as_secs_f64());
            }
            Event::Failed { name, kind, renewal, .. } => {
                catalog::STORE_FAILURES.counter(whose(name), Some(kind.as_str())).increment(1);
                if *renewal {
                    catalog::RENEW_FAILURES.counter(whose(name), Some(kind.as_str())).increment(1);
                }
            }
            Event::ForcedRead { name } => catalog::SLOWPATH.counter(whose(name), None).increment(1),
            Event::Ambiguous { name, resolved } => {
                catalog::AMBIGUOUS_WRITES.counter(whose(name), Some(resolved)).increment(1);
            }
            Event::Claimed { name, outcome } => {
                catalog::ACQUIRE_ATTEMPTS.counter(whose(name), Some(outcome)).increment(1);
            }
            Event::Follower { name } => catalog::TRANSITIONS.counter(whose(name), Some("follower")).increment(1),
            Event::Stopped { name } => {
                catalog::TRANSITIONS.counter(whose(name), Some("stopped")).increment(1);
                self.beacon(name, None);
            }
            Event::Leaderless { name, time } => {
                catalog::LEADERLESS.histogram(whose(name)).record(time.as_secs_f64());
            }
            Event::TokenRegressed { name, .. } => catalog::TOKEN_REGRESSIONS.counter(whose(name), None).increment(1),
            Event::CallbackFailed { name, callback, .. } => {
                catalog::CALLBACK_FAILURES.counter(whose(name), Some(callback)).increment(1);
            }
            Event::Beacon { name, age } => self.beacon(name, Some(*age)),
            Event::Registered { .. }
            | Event::Gone { .. }
            | Event::Paused { .. }
            | Event::Stuck { .. }
            | Event::Recovered { .. }
            | Event::LeaderChanged { .. }
            | Event::TableUnchecked { .. }
            | Event::TableExpires { .. } => {}
        }
    }

    /// Over all locks together: their keys may be as many as there are orders or files.
    fn count_lock(&mut self, what: &LockEvent) {
        self.settle_locks();
        match what {
            LockEvent::Acquired { .. } => catalog::LOCKS_ACQUIRED.counter(None, None).increment(1),
            LockEvent::Ended { reason, .. } => {
                catalog::LOCKS_ENDED.counter(None, Some(reason.as_str())).increment(1);
            }
            LockEvent::Released { outcome } => {
                catalog::LOCKS_RELEASED.counter(None, Some(outcome.as_str())).increment(1);
            }
            LockEvent::Failed { kind, renewal: true, .. } => {
                catalog::LOCKS_RENEW_FAILURES.counter(None, Some(kind.as_str())).increment(1);
            }
            LockEvent::Failed { renewal: false, .. } | LockEvent::Recovered => {}
        }
    }
}

fn whose(naming: Naming, name: &Name) -> Whose<'_> {
    (naming == Naming::Each).then_some(name)
}

#[cfg(test)]
mod tests;
