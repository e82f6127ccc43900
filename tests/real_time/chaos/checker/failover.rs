//! How long nobody led after a fault of the leader.

use super::super::faults::{Fired, Kind};
use super::super::journal::Belief;
use super::Evidence;

/// A leader that lives and has not lost its term by then has not lost it through the fault.
const AT_MOST: u64 = 20_000_000_000;
/// Faults that ended this long before are over, also for those who have to catch up.
const CATCHES_UP: u64 = 3_000_000_000;

/// From a fault of the leader to the next belief of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failover {
    pub(crate) kind: Kind,
    pub(crate) took: u64,
    /// Nothing else went wrong meanwhile or shortly before: what a formula can be held against.
    pub(crate) undisturbed: bool,
}

/// Where all else is well a killed leader is followed within the worst case of the formula, and a second for a busy host.
pub(super) fn judge(failovers: &[Failover], worst: u64, failures: &mut Vec<String>) {
    let slow = |failover: &&Failover| {
        failover.kind == Kind::Kill && failover.undisturbed && failover.took > worst + 1_000_000_000
    };
    failures.extend(failovers.iter().filter(slow).map(|slow| format!("nobody led in time after a crash: {slow:?}")));
}

pub(super) fn all(evidence: &Evidence) -> Vec<Failover> {
    evidence.faults.iter().enumerate().filter_map(|(index, fault)| one(evidence, index, fault)).collect()
}

fn one(evidence: &Evidence, index: usize, fault: &Fired) -> Option<Failover> {
    let term = fault.led?;
    let newer = |belief: &&Belief| belief.token > term && belief.from > fault.at;
    let next = evidence.beliefs.iter().filter(newer).min_by_key(|belief| belief.token)?;
    let others = || evidence.faults.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other);
    // The same term was hit again before it ended: this fault did not end it.
    let again = others().any(|other| other.led == Some(term) && (fault.at..next.from).contains(&other.at));
    if again || (fault.kind != Kind::Kill && next.from - fault.at > AT_MOST) {
        return None;
    }
    let disturbs = |other: &Fired| {
        let until = other.until.unwrap_or(u64::MAX).saturating_add(CATCHES_UP);
        other.at < next.from && until > fault.at
    };
    let undisturbed = !others().any(disturbs);
    Some(Failover { kind: fault.kind, took: next.from - fault.at, undisturbed })
}
