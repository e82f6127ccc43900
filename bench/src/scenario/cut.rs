//! A holder of several locks is cut off: when its user code is told, and whether another had them by then.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{Plan, follow, taken_over};
use crate::busy::Spinners;
use crate::clock::now;
use crate::network::Weather;
use crate::peer::{Event, Kind, Lease, Peer, Promise};
use crate::statistics::{Summary, seconds};

const PREFIX: &str = "cut-";
const LOCKS: usize = 20;
/// So many repetitions may fail before all of it does.
const SPOILED: usize = 2;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) lease: f64,
    pub(crate) repetitions: usize,
    /// Why some were made again: an acquisition that ended in an error, for instance.
    pub(crate) spoiled: Vec<String>,
    /// All that were cut off: so many in each repetition.
    pub(crate) locks: usize,
    /// Seconds from when its last heartbeat that was answered was sent until user code was told; of those that were told at all.
    pub(crate) told_after: Summary,
    /// How often it was not told while it was watched.
    pub(crate) never_told: usize,
    pub(crate) watched_seconds: f64,
    /// Of clients that say until when they tell.
    pub(crate) promised: Option<Promised>,
    /// Seconds from when it was told until the next one's acquisition was applied; of those that did not overlap.
    pub(crate) margin_seconds: Summary,
    /// How often the next one's acquisition was applied before the former holder was told.
    pub(crate) overlaps: usize,
    /// Seconds for which both believed to hold it, of those that overlapped; to the end of the watch where it was never told.
    pub(crate) overlap_seconds: Summary,
}

/// Milliseconds after the end of the validity: until when the client counted on its last answered heartbeat, as it says itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Promised {
    pub(crate) validity_seconds: f64,
    pub(crate) guard_ms: f64,
    /// Until a task that waits for nothing else knew: the token.
    pub(crate) fired_ms: Summary,
    /// Until a thread that asks every 5 ms was told no.
    pub(crate) seen_ms: Summary,
    /// Of either, those that were later than the guard.
    pub(crate) beyond_guard: usize,
    /// From then until the validity had passed since the heartbeat arrived, whose send was before that.
    pub(crate) before_arrival_ms: Summary,
    /// Those that counted on it for longer than that, which they must not.
    pub(crate) overclaimed: usize,
}

/// What became of one lock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cut {
    /// When its last heartbeat that was answered arrived.
    sent: u64,
    until: Option<u64>,
    told: Option<u64>,
    seen: Option<u64>,
    /// When the next one's acquisition was applied.
    taken: u64,
    /// When it was no longer watched.
    end: u64,
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    measure(plan, kind, plan.count(1, kind.repetitions(10, 5)), 30).await
}

/// Each processor has a thread that computes all the time.
pub(crate) async fn run_busy(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let _busy = Spinners::start()?;
    measure(plan, kind, plan.count(1, kind.repetitions(10, 3)), 20).await
}

async fn measure(plan: &Plan, kind: &Kind, repetitions: usize, watched: u64) -> anyhow::Result<Found> {
    let lease = Lease::millis(4_000, 1_000);
    let watch = plan.seconds(20, watched).max(lease.lease * 5);
    let (mut cuts, mut promise, mut spoiled) = (Vec::new(), None, Vec::new());
    while cuts.len() < repetitions * LOCKS {
        match once(plan, kind, lease, watch).await {
            Ok((more, promised)) => {
                cuts.extend(more);
                promise = promised;
            }
            Err(error) if spoiled.len() < SPOILED => spoiled.push(format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    Ok(Found {
        lease: lease.lease.as_secs_f64(),
        repetitions,
        spoiled,
        watched_seconds: watch.as_secs_f64(),
        promised: promise.map(|promise| promised(&cuts, promise)),
        ..judge(&cuts)
    })
}

/// All locks of one holder, and what it promises.
async fn once(plan: &Plan, kind: &Kind, lease: Lease, watch: Duration) -> anyhow::Result<(Vec<Cut>, Option<Promise>)> {
    // An engine each: nothing of the former repetition may come through later.
    let network = plan.network().await?;
    let keys: Vec<String> = (0..LOCKS).map(|number| format!("{PREFIX}{number}")).collect();
    let mut holder = Peer::start(kind, &network, lease).await?;
    let mark = holder.hold(PREFIX, LOCKS, Duration::from_secs(60)).await?;
    let mut next = Peer::start(kind, &network, lease).await?;
    let follows = follow(&mut next, &network, lease, &keys).await?;
    anyhow::ensure!(lost(&holder.since(mark)).is_empty(), "lost before it was cut off");
    holder.line.set(Weather { cut: true, ..network.fair() });
    for key in &keys {
        next.until_acquired(follows, key, lease.lease * 8).await?;
    }
    let end = tokio::time::Instant::now() + watch;
    let all_told = || lost(&holder.since(mark)).len() == LOCKS && denied(&holder.since(mark)).len() == LOCKS;
    while !all_told() && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (end, events) = (now(), holder.since(mark));
    let (told, seen) = (lost(&events), denied(&events));
    let until = |key: &String| told.get(key).and_then(|(_, until)| *until);
    let calls = network.log().of(holder.line.client, 0);
    let cut = |key: &String| {
        let answered = calls.iter().rfind(|call| call.applied && call.key == *key && call.answered.is_some());
        let sent = answered.context("no heartbeat was answered")?.arrived;
        let (_, taken) = taken_over(&network, key, &holder, &next)?;
        let at = told.get(key).map(|(at, _)| *at);
        Ok(Cut { sent, until: until(key), told: at, seen: seen.get(key).copied(), taken, end })
    };
    Ok((keys.iter().map(cut).collect::<anyhow::Result<_>>()?, holder.promise))
}

/// When each was told to be lost, and until when its client had counted on it.
fn lost(events: &[Event]) -> HashMap<String, (u64, Option<u64>)> {
    let lost = |event: &Event| match event {
        Event::Lost { at, key, until } => Some((key.clone(), (*at, *until))),
        _ => None,
    };
    events.iter().filter_map(lost).collect()
}

/// When the driver asked for each and was told no.
fn denied(events: &[Event]) -> HashMap<String, u64> {
    let denied = |event: &Event| match event {
        Event::Look { at, key, holds: false } => Some((key.clone(), *at)),
        _ => None,
    };
    events.iter().filter_map(denied).collect()
}

fn judge(cuts: &[Cut]) -> Found {
    let (mut told_after, mut margins, mut overlaps) = (Vec::new(), Vec::new(), Vec::new());
    for cut in cuts {
        told_after.extend(cut.told.map(|told| seconds(cut.sent, told)));
        let until = cut.told.unwrap_or(cut.end);
        if until > cut.taken {
            overlaps.push(seconds(cut.taken, until));
        } else {
            margins.push(seconds(until, cut.taken));
        }
    }
    Found {
        locks: cuts.len(),
        told_after: Summary::of(&told_after),
        never_told: cuts.iter().filter(|cut| cut.told.is_none()).count(),
        margin_seconds: Summary::of(&margins),
        overlaps: overlaps.len(),
        overlap_seconds: Summary::of(&overlaps),
        ..Found::default()
    }
}

fn promised(cuts: &[Cut], promise: Promise) -> Promised {
    let late = |cut: &Cut, at: Option<u64>| Some(seconds(cut.until?, at?) * 1e3);
    let all = |of: fn(&Cut) -> Option<u64>| {
        let late: Vec<f64> = cuts.iter().filter_map(|cut| late(cut, of(cut))).collect();
        Summary::of(&late)
    };
    let guard_ms = promise.guard as f64 / 1e6;
    let is_beyond =
        |cut: &&Cut| [cut.told, cut.seen].iter().any(|at| late(cut, *at).is_none_or(|late| late > guard_ms));
    let before_arrival = |cut: &Cut| Some(seconds(cut.until?, cut.sent.saturating_add(promise.validity)) * 1e3);
    let before_arrival: Vec<f64> = cuts.iter().filter_map(before_arrival).collect();
    Promised {
        validity_seconds: promise.validity as f64 / 1e9,
        guard_ms,
        fired_ms: all(|cut| cut.told),
        seen_ms: all(|cut| cut.seen),
        beyond_guard: cuts.iter().filter(is_beyond).count(),
        overclaimed: before_arrival.iter().filter(|time| **time < 0.0).count(),
        before_arrival_ms: Summary::of(&before_arrival),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn cut(told: Option<u64>, seen: Option<u64>) -> Cut {
        let at = |millis: u64| millis * MS;
        let until = Some(at(4_199));
        Cut { sent: at(1_000), until, told: told.map(at), seen: seen.map(at), taken: at(5_100), end: at(9_000) }
    }

    #[test]
    fn two_have_it_until_the_first_is_told() {
        let found = judge(&[cut(Some(4_200), None), cut(Some(5_600), None), cut(None, None)]);
        assert_eq!((found.locks, found.overlaps, found.never_told), (3, 2, 1));
        assert_eq!((found.told_after.count, found.told_after.max), (2, 4.6));
        assert_eq!((found.margin_seconds.count, found.margin_seconds.min), (1, 0.9));
        assert_eq!((found.overlap_seconds.min, found.overlap_seconds.max), (0.5, 3.9));
    }

    #[test]
    fn a_promise_is_counted_from_the_send_and_kept_within_the_guard() {
        let promise = Promise { validity: 3_200 * MS, guard: 250 * MS };
        let kept = promised(&[cut(Some(4_202), Some(4_207)), cut(Some(4_449), Some(4_449))], promise);
        assert_eq!((kept.fired_ms.min, kept.fired_ms.max, kept.beyond_guard), (3.0, 250.0, 0));
        assert_eq!((kept.seen_ms.min, kept.validity_seconds, kept.guard_ms), (8.0, 3.2, 250.0));
        assert_eq!((kept.before_arrival_ms.max, kept.overclaimed), (1.0, 0));
        for late in [cut(Some(4_450), Some(4_210)), cut(Some(4_201), Some(4_500)), cut(None, Some(4_201))] {
            assert_eq!(promised(&[late], promise).beyond_guard, 1, "{late:?}");
        }
        let claims_too_much = Cut { until: Some(4_201 * MS), ..cut(Some(4_201), Some(4_201)) };
        assert_eq!(promised(&[claims_too_much], promise).overclaimed, 1);
    }

    #[test]
    fn what_is_told_and_what_is_seen_are_two_things() {
        let key = || "cut-1".to_owned();
        let events = [
            Event::Look { at: 1, key: key(), holds: true },
            Event::Lost { at: 5, key: key(), until: Some(4) },
            Event::Look { at: 7, key: key(), holds: false },
        ];
        assert_eq!((lost(&events)[&key()], denied(&events)[&key()]), ((5, Some(4)), 7));
    }
}
