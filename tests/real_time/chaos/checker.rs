//! Judges what the replicas and the table have written down.

mod failover;
mod thaw;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dynamo_elector::Timing;
pub(crate) use failover::Failover;
pub(crate) use thaw::Thaw;

use super::engine::Effect;
use super::faults::Fired;
use super::journal::{Belief, Event, Life, beliefs, events, nanos, seconds};

#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) beliefs: Vec<Belief>,
    pub(crate) events: BTreeMap<Life, Vec<Event>>,
    pub(crate) faults: Vec<Fired>,
    /// In the order in which the table took or refused them.
    pub(crate) effects: Vec<Effect>,
}

impl Evidence {
    pub(crate) fn read(folder: &Path, lives: &[Life], faults: Vec<Fired>, effects: Vec<Effect>) -> Self {
        let mut evidence = Self { faults, effects, ..Self::default() };
        for life in lives {
            // A life that was killed before it began has no journal.
            let text = |kind| std::fs::read_to_string(life.file(folder, kind)).unwrap_or_default();
            evidence.beliefs.extend(beliefs(&text("beliefs"), *life));
            evidence.events.insert(*life, events(&text("events")));
        }
        evidence
    }
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What must not be.
    pub(crate) failures: Vec<String>,
    pub(crate) terms: usize,
    /// How long anybody has certainly believed, together.
    pub(crate) led: u64,
    pub(crate) overlaps: usize,
    /// From the end of one belief to the beginning of the next, where that was the shortest.
    pub(crate) smallest_gap: Option<u64>,
    /// The same after a term that was neither handed over nor killed. Such a term is released as soon as its work has ended,
    /// so this is how long that took, and no margin.
    pub(crate) smallest_forced_gap: Option<u64>,
    /// Fenced writes that the table took, and refused, and took under a token lower than one that it had taken.
    pub(crate) applied: usize,
    pub(crate) refused: usize,
    pub(crate) stale: usize,
    /// The same writes without a fence.
    pub(crate) plain_applied: usize,
    pub(crate) plain_stale: usize,
    /// Why terms ended.
    pub(crate) reasons: BTreeMap<String, usize>,
    /// Leaders that were stopped for a lease or more, and what those of them did that were well.
    pub(crate) frozen: usize,
    pub(crate) thaws: Vec<Thaw>,
    pub(crate) failovers: Vec<Failover>,
    /// The median of a write's round trip.
    pub(crate) round_trip: u64,
}

pub(crate) fn judge(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    exclusion(evidence, &mut verdict);
    effects(&evidence.effects, &mut verdict);
    thaw::judge(evidence, &mut verdict);
    let mut trips = Vec::new();
    for event in evidence.events.values().flatten() {
        match event {
            Event::Ended { reason, .. } => *verdict.reasons.entry(reason.clone()).or_default() += 1,
            Event::Effect { sent, done, outcome, .. } if outcome == "applied" => trips.push(done - sent),
            _ => {}
        }
    }
    trips.sort_unstable();
    verdict.round_trip = trips.get(trips.len() / 2).copied().unwrap_or(0);
    verdict.failovers = failover::all(evidence);
    let timing = Timing::aggressive();
    let worst = nanos(timing.lease() + timing.poll()) + 2 * verdict.round_trip;
    failover::judge(&verdict.failovers, worst, &mut verdict.failures);
    if verdict.terms == 0 {
        verdict.failures.push("nobody ever led: there is nothing to judge".to_owned());
    }
    if verdict.applied == 0 {
        verdict.failures.push("no effect was ever applied: there is nothing to judge".to_owned());
    }
    verdict
}

/// I1, I2: at most one believes at a time, and who believes later has the larger token.
fn exclusion(evidence: &Evidence, verdict: &mut Verdict) {
    let forced = |event: &Event| match event {
        Event::Ended { token, reason, .. } => (reason != "shut_down").then_some(*token),
        _ => None,
    };
    let forced: BTreeSet<u64> = evidence.events.values().flatten().filter_map(forced).collect();
    let mut beliefs = evidence.beliefs.clone();
    beliefs.sort_unstable_by_key(|belief| (belief.from, belief.token));
    verdict.terms = beliefs.iter().map(|belief| belief.token).collect::<BTreeSet<_>>().len();
    for pair in beliefs.windows(2) {
        let [earlier, later] = pair else { unreachable!("windows of two") };
        if later.token <= earlier.token {
            verdict.failures.push(format!("the token did not rise: {earlier:?}, then {later:?}"));
        }
    }
    // Who was seen to lead by one look alone has no certain belief.
    let mut certain = beliefs.into_iter().filter(|belief| belief.from <= belief.until);
    let Some(mut longest) = certain.next() else { return };
    verdict.led = longest.until - longest.from;
    for belief in certain {
        verdict.led += belief.until - belief.from;
        match belief.from.checked_sub(longest.until) {
            Some(gap @ 1..) => {
                let least = |before: Option<u64>| Some(before.map_or(gap, |least| least.min(gap)));
                verdict.smallest_gap = least(verdict.smallest_gap);
                if forced.contains(&longest.token) {
                    verdict.smallest_forced_gap = least(verdict.smallest_forced_gap);
                }
            }
            _ => {
                verdict.overlaps += 1;
                let time = seconds(longest.until.min(belief.until) - belief.from);
                verdict.failures.push(format!("two led at once for {time} s: {longest:?} and {belief:?}"));
            }
        }
        if belief.until > longest.until {
            longest = belief;
        }
    }
}

/// I4: no fenced effect is taken after one of a later term.
fn effects(effects: &[Effect], verdict: &mut Verdict) {
    let (mut fenced, mut plain) = (0, 0);
    for effect in effects {
        let newest = if effect.fenced { &mut fenced } else { &mut plain };
        let stale = effect.token < *newest;
        match (effect.fenced, effect.accepted) {
            (true, false) => verdict.refused += 1,
            (true, true) => verdict.applied += 1,
            (false, true) => verdict.plain_applied += 1,
            (false, false) => verdict.failures.push(format!("a write without a fence was refused: {effect:?}")),
        }
        if effect.accepted && stale {
            if effect.fenced {
                verdict.stale += 1;
                verdict.failures.push(format!("a stale effect was taken after one of term {newest}: {effect:?}"));
            } else {
                verdict.plain_stale += 1;
            }
        }
        if effect.accepted {
            *newest = effect.token.max(*newest);
        } else if !stale {
            verdict.failures.push(format!("an effect was refused that is not stale: {effect:?}"));
        }
    }
}

#[cfg(test)]
mod tests;
