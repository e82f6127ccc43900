//! Who claimed what, and whether the record bore it out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::network::Call;
use crate::peer::Event;

/// From when a lock was acquired until its user code was told that it is lost, within a window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Claim {
    pub(crate) key: String,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// All claims between `start` and `end`, and how many of them ended there with a loss.
pub(crate) fn claims(events: &[Event], start: u64, end: u64) -> (Vec<Claim>, usize) {
    let mut since: HashMap<&str, u64> = HashMap::new();
    let (mut claims, mut lost) = (Vec::new(), 0);
    let mut note = |key: &str, from: u64, until: u64| {
        let (from, until) = (from.clamp(start, end), until.clamp(start, end));
        if from < until {
            claims.push(Claim { key: key.into(), from, until });
        }
    };
    for event in events {
        match event {
            Event::Acquired { at, key } => drop(since.insert(key, *at)),
            Event::Lost { at, key, .. } => {
                if let Some(from) = since.remove(key.as_str()) {
                    note(key, from, *at);
                    lost += usize::from((start..end).contains(at));
                }
            }
            _ => {}
        }
    }
    for (key, from) in since {
        note(key, from, end);
    }
    (claims, lost)
}

/// A busy host wakes threads late.
const SLACK: Duration = Duration::from_millis(100);

/// Of how many locks, and for how many seconds of all of them, a claim outlasted the record: the lease had run out since the last
/// write that was applied, and whoever had asked would have got the lock. A driver that looks every `look` may be told by two of
/// them and a little later than its client would have said it: that much is not held against the client.
pub(crate) fn outlasted(claims: &[Claim], calls: &[Call], lease: Duration, look: Duration) -> (usize, f64) {
    let mut writes: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.applied) {
        writes.entry(&call.key).or_default().extend(call.served);
    }
    let allowed = lease + look * 2 + SLACK;
    let allowed = u64::try_from(allowed.as_nanos()).unwrap_or(u64::MAX);
    let mut of_lock: BTreeMap<&str, u64> = BTreeMap::new();
    for claim in claims {
        let times = writes.get_mut(claim.key.as_str()).map(|times| {
            times.sort_unstable();
            &*times
        });
        let times = times.map_or(&[][..], Vec::as_slice);
        for (index, at) in times.iter().enumerate() {
            let expired = at.saturating_add(allowed);
            let renewed = times.get(index + 1).copied().unwrap_or(u64::MAX);
            *of_lock.entry(&claim.key).or_default() += renewed.min(claim.until).saturating_sub(expired.max(claim.from));
        }
    }
    let outlasting: Vec<u64> = of_lock.into_values().filter(|nanos| *nanos > 0).collect();
    (outlasting.len(), outlasting.iter().sum::<u64>() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const LOOK: Duration = Duration::from_millis(450);
    /// With what looks may be late by: ten seconds.
    const LEASE: Duration = Duration::from_secs(9);

    fn acquired(at: u64, key: &str) -> Event {
        Event::Acquired { at: at * SECOND, key: key.into() }
    }

    fn lost(at: u64, key: &str) -> Event {
        Event::Lost { at: at * SECOND, key: key.into(), until: None }
    }

    fn claim(key: &str, from: u64, until: u64) -> Claim {
        Claim { key: key.into(), from: from * SECOND, until: until * SECOND }
    }

    fn write(key: &str, at: u64) -> Call {
        Call {
            client: 1,
            operation: "UpdateItem".into(),
            key: key.into(),
            arrived: at * SECOND,
            served: Some(at * SECOND),
            answered: None,
            applied: true,
            units: 1.0,
        }
    }

    #[test]
    fn losses_and_claims_are_counted_within_the_window_alone() {
        let events = [
            acquired(1, "a"),
            acquired(2, "b"),
            lost(3, "b"), // before the window
            lost(14, "a"),
            acquired(17, "a"),
            lost(31, "a"), // after it
        ];
        let (found, lost) = claims(&events, 10 * SECOND, 30 * SECOND);
        assert_eq!(lost, 1);
        assert_eq!(found, [claim("a", 10, 14), claim("a", 17, 30)]);
    }

    #[test]
    fn what_is_held_to_the_end_is_claimed_to_the_end() {
        let (found, lost) = claims(&[acquired(15, "a")], 10 * SECOND, 30 * SECOND);
        assert_eq!((found, lost), (vec![claim("a", 15, 30)], 0));
    }

    #[test]
    fn a_claim_outlasts_a_record_that_is_renewed_too_late_or_not_at_all() {
        // Expired from 11 to 14, and again from 24 on.
        let calls = [write("a", 14), write("a", 1), write("b", 5)];
        assert_eq!(outlasted(&[claim("a", 2, 20)], &calls, LEASE, LOOK), (1, 3.0));
        assert_eq!(outlasted(&[claim("a", 2, 12), claim("a", 15, 30)], &calls, LEASE, LOOK), (1, 7.0));
        assert_eq!(outlasted(&[claim("a", 2, 11), claim("b", 6, 15)], &calls, LEASE, LOOK), (0, 0.0));
        assert_eq!(outlasted(&[claim("a", 2, 20), claim("b", 6, 16)], &calls, LEASE, LOOK), (2, 4.0));
    }

    #[test]
    fn a_refused_write_renews_nothing() {
        let refused = Call { applied: false, ..write("a", 9) };
        assert_eq!(outlasted(&[claim("a", 2, 20)], &[write("a", 1), refused], LEASE, LOOK), (1, 9.0));
    }
}
