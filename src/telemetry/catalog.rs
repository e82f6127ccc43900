//! Every metric there is: kind, name, labels, unit, meaning. `docs/observability.md` lists the same; a test compares them.

use metrics::{Counter, Gauge, Histogram, Label, SharedString, Unit};

use super::{CALLBACKS, Name};
use crate::ending::{EndReason, ReleaseOutcome};
use crate::error::ErrorKind;
use crate::store::Op;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The values that a label can have. All are known in advance, so that every series exists at 0 from the start:
/// `increase()` does not see the first event of a series that comes into being with it.
#[derive(Debug, Clone, Copy)]
enum Values {
    Reasons,
    Outcomes,
    /// What a request to the store can end with.
    RequestKinds,
    /// The same, and what can be wrong with a record.
    StoreKinds,
    Ops,
    Callbacks,
    Roles,
    Claims,
    Resolutions,
}

impl Values {
    fn all(self) -> Vec<&'static str> {
        let requests = ErrorKind::OF_REQUESTS.iter().map(|kind| kind.as_str());
        match self {
            Self::Reasons => EndReason::ALL.iter().map(|reason| reason.as_str()).collect(),
            Self::Outcomes => ReleaseOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect(),
            Self::RequestKinds => requests.collect(),
            Self::StoreKinds => requests.chain(ErrorKind::OF_RECORDS.iter().map(|kind| kind.as_str())).collect(),
            Self::Ops => Op::ALL.iter().map(|op| op.as_str()).collect(),
            Self::Callbacks => CALLBACKS.to_vec(),
            Self::Roles => vec!["leader", "follower", "stopped"],
            Self::Claims => vec!["acquired", "refused", "failed"],
            Self::Resolutions => vec!["applied"],
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    kind: Kind,
    name: &'static str,
    /// Whether it has the label `name`: it is one of an election, not of the client.
    per_election: bool,
    /// Its own label.
    label: Option<(&'static str, Values)>,
    unit: Unit,
    help: &'static str,
}

macro_rules! catalog {
    ($($metric:ident: $kind:ident $name:literal [$($election:ident)? $(; $label:ident = $values:ident)?] $unit:ident, $help:literal;)+) => {
        $(pub(super) const $metric: Metric = Metric {
            kind: Kind::$kind,
            name: $name,
            per_election: !stringify!($($election)?).is_empty(),
            label: [$(Some((stringify!($label), Values::$values)),)? None][0],
            unit: Unit::$unit,
            help: $help,
        };)+
        const ALL: &[Metric] = &[$($metric),+];
    };
}

catalog! {
    MASTER_STATUS: Gauge "leader_election_master_status" [name] Count, "1 while this process leads, else 0";
    FENCING_TOKEN: Gauge "leader_election_fencing_token" [name] Count, "Fencing token of the latest term of this process; 0 before its first";
    PAUSED: Gauge "leader_election_paused" [name] Count, "1 while this process is told not to lead, else 0";
    BEACON_AGE: Gauge "leader_election_beacon_age_seconds" [name] Seconds, "How long ago the runtime that the work runs on last made progress";
    TRANSITIONS: Counter "leader_election_transitions_total" [name; to = Roles] Count, "Changes of role, by new role";
    LOST: Counter "leader_election_lost_total" [name; reason = Reasons] Count, "Terms that ended, by reason";
    RELEASE: Counter "leader_election_release_total" [name; outcome = Outcomes] Count, "Releases, by outcome";
    ACQUIRE_ATTEMPTS: Counter "leader_election_acquire_attempts_total" [name; outcome = Claims] Count, "Claims, by outcome";
    RENEW_FAILURES: Counter "leader_election_renew_failures_total" [name; kind = RequestKinds] Count, "Heartbeats that did not come through, by kind of failure";
    STORE_FAILURES: Counter "leader_election_store_failures_total" [name; kind = StoreKinds] Count, "Requests that failed, heartbeats included, and records that can not be used, by kind";
    AMBIGUOUS_WRITES: Counter "leader_election_ambiguous_writes_total" [name; resolved = Resolutions] Count, "Writes without a reply that were settled later, by what had become of them";
    SLOWPATH: Counter "leader_election_slowpath_total" [name] Count, "Reads that were needed to settle writes without a reply";
    TOKEN_REGRESSIONS: Counter "leader_election_token_regressions_total" [name] Count, "How often the record's fencing token was found to have gone back";
    CALLBACK_FAILURES: Counter "leader_election_callback_failures_total" [name; callback = Callbacks] Count, "Work and callbacks that failed, panicked or did not return in time";
    RENEW_DURATION: Histogram "leader_election_renew_duration_seconds" [name] Seconds, "From the send to the reply of a heartbeat that came through";
    MARGIN: Histogram "leader_election_margin_seconds" [name] Seconds, "Validity that was left when a heartbeat came through";
    TENURE: Histogram "leader_election_tenure_seconds" [name] Seconds, "Length of a term";
    DRAIN: Histogram "leader_election_drain_seconds" [name] Seconds, "From the end of a term to the end of its release";
    LEADERLESS: Histogram "leader_election_leaderless_seconds" [name] Seconds, "Time between two leaders, as this process saw it";
    REQUESTS: Counter "leader_election_requests_total" [; op = Ops] Count, "Requests that DynamoDB answered, by operation";
    CAPACITY_UNITS: Gauge "leader_election_capacity_units_total" [; op = Ops] Count, "Capacity units consumed, by operation; only rises";
    EVENTS_DROPPED: Counter "leader_election_events_dropped_total" [] Count, "Events that no other metric and no trace tells of, since a recorder or subscriber was too slow";
    LOCKS_HELD: Gauge "locks_held" [] Count, "Plain locks that this process holds";
    LOCKS_ACQUIRED: Counter "locks_acquired_total" [] Count, "Plain locks acquired";
    LOCKS_ENDED: Counter "locks_ended_total" [; reason = Reasons] Count, "Plain locks that ended, by reason";
    LOCKS_RELEASED: Counter "locks_released_total" [; outcome = Outcomes] Count, "Releases of plain locks, by outcome";
    LOCKS_RENEW_FAILURES: Counter "locks_renew_failures_total" [; kind = RequestKinds] Count, "Heartbeats of plain locks that did not come through, by kind of failure";
}

/// Whose a value is: of the client, or of an election under its name, if names are told.
pub(super) type Whose<'a> = Option<&'a Name>;

impl Metric {
    fn labels(self, whose: Whose<'_>, value: Option<&'static str>) -> Vec<Label> {
        let name = whose.filter(|_| self.per_election);
        let name = name.map(|name| Label::new("name", SharedString::from_shared(Name::clone(name))));
        let own = self.label.zip(value).map(|((label, _), value)| Label::from_static_parts(label, value));
        name.into_iter().chain(own).collect()
    }

    /// Handles are looked up at each use: one taken before a recorder is installed would go nowhere.
    pub(super) fn counter(self, whose: Whose<'_>, value: Option<&'static str>) -> Counter {
        metrics::counter!(self.name, self.labels(whose, value))
    }

    pub(super) fn gauge(self, whose: Whose<'_>, value: Option<&'static str>) -> Gauge {
        metrics::gauge!(self.name, self.labels(whose, value))
    }

    pub(super) fn histogram(self, whose: Whose<'_>) -> Histogram {
        metrics::histogram!(self.name, self.labels(whose, None))
    }

    fn describe(self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.unit, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.unit, self.help),
            Kind::Histogram => metrics::describe_histogram!(self.name, self.unit, self.help),
        }
    }

    /// Adds nothing, so that all its series exist. (Another client of this process may have the same ones.)
    fn begin(self, whose: Whose<'_>) {
        let values: Vec<_> = match self.label {
            Some((_, values)) => values.all().into_iter().map(Some).collect(),
            None => vec![None],
        };
        for value in values {
            match self.kind {
                Kind::Counter => self.counter(whose, value).increment(0),
                Kind::Gauge => self.gauge(whose, value).increment(0.0),
                Kind::Histogram => drop(self.histogram(whose)),
            }
        }
    }
}

/// Describes everything, and begins what is the client's.
pub(super) fn begin_client() {
    ALL.iter().for_each(|metric| metric.describe());
    ALL.iter().filter(|metric| !metric.per_election).for_each(|metric| metric.begin(None));
}

/// Begins what is an election's.
pub(super) fn begin_election(whose: Whose<'_>) {
    // Tokens of several elections have nothing in common that a number could say.
    let told = |metric: &&Metric| metric.per_election && (whose.is_some() || metric.name != FENCING_TOKEN.name);
    ALL.iter().filter(told).for_each(|metric| metric.begin(whose));
}
