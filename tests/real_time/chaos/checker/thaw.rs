//! Leaders that were frozen for longer than a lease: what they saw first, and when they were told.

use std::time::Duration;

use dynamo_elector::Timing;

use super::super::faults::{Fired, Kind};
use super::super::journal::{Event, nanos, seconds};
use super::{Evidence, Verdict};

/// The guard: a token fires no later than this after its deadline, here after the first moment at which anything could run.
const TOLD_WITHIN: Duration = Duration::from_millis(250);

/// What a leader did when it could run again. All times from just before it was continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thaw {
    /// How long it was stopped.
    pub(crate) stopped: u64,
    /// The first look, which said that it leads no more.
    pub(crate) looked: u64,
    /// When the token had fired for a task of the runtime, and for a thread.
    pub(crate) told: u64,
    /// Of that, the time in which its other threads demonstrably did not run either.
    pub(crate) starved: u64,
}

pub(super) fn judge(evidence: &Evidence, verdict: &mut Verdict) {
    let lease = nanos(Timing::aggressive().lease());
    for fault in &evidence.faults {
        let stop = matches!(fault.kind, Kind::Stop | Kind::StopTwoLeases | Kind::Double);
        let (Some(token), Some(until), true) = (fault.led, fault.until, stop) else { continue };
        if until - fault.at < lease {
            continue;
        }
        let judged = one(evidence, fault, token, until);
        verdict.frozen += usize::from(judged != Ok(None));
        match judged {
            Ok(Some(thaw)) => {
                if thaw.told.saturating_sub(thaw.starved) > nanos(TOLD_WITHIN) {
                    let late = format!("the token fired {} s after the thaw: {thaw:?}", seconds(thaw.told));
                    verdict.failures.push(late);
                }
                verdict.thaws.push(thaw);
            }
            // Its term was over before it was stopped.
            Ok(None) => {}
            Err(failure) => verdict.failures.push(failure),
        }
    }
}

fn one(evidence: &Evidence, fault: &Fired, term: u64, thawed: u64) -> Result<Option<Thaw>, String> {
    let life = fault.life.ok_or("a stop that hit nobody")?;
    let events = evidence.events.get(&life).map_or(&[][..], Vec::as_slice);
    let told = |who: &str| {
        events.iter().find_map(|event| match event {
            Event::Told { token, at, by } if *token == term && by == who => Some(*at),
            _ => None,
        })
    };
    let looks = events.iter().filter_map(|event| match event {
        Event::Look { token, from, until, valid, .. } if *token == term => Some((*from, *until, *valid)),
        _ => None,
    });
    // A look that began before the stop and said `true` may have been answered before it: the next one counts.
    let first = looks.into_iter().find(|(from, until, valid)| *until >= thawed && (*from >= thawed || !valid));
    let Some((_, looked, valid)) = first else {
        let before = told("thread").is_some_and(|at| at < thawed);
        return if before { Ok(None) } else { Err(format!("{life} did not look at term {term} after {fault:?}")) };
    };
    if valid {
        return Err(format!("{life} believed in term {term} at its first look after {fault:?}"));
    }
    let (Some(task), Some(thread)) = (told("task"), told("thread")) else {
        return Err(format!("{life} was never told of the end of term {term} after {fault:?}"));
    };
    let told = task.max(thread);
    let starved = starved(events, thawed, told);
    let since = |at: u64| at.saturating_sub(thawed);
    Ok(Some(Thaw { stopped: thawed - fault.at, looked: since(looked), told: since(told), starved }))
}

/// Within these bounds, the time in which the thread that does nothing but look did not come to look.
fn starved(events: &[Event], from: u64, until: u64) -> u64 {
    let within = |start: u64, end: u64| end.min(until).saturating_sub(start.max(from));
    let pause = |event: &Event| match event {
        Event::Look { last, from, until, .. } => within(*last, *from) + within(*from, *until),
        _ => 0,
    };
    events.iter().map(pause).sum()
}
