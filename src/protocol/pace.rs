//! When a follower looks at a record next: phase-locked to its holder's heartbeats.
//!
//! The record says how often its holder renews, and the holder renews on an absolute schedule. So a follower that has seen one
//! renewal knows about when the next one comes, and looks just after it: it learns of a crash almost as soon as can be, with one
//! read a heartbeat instead of one a poll. Only the moments of reads are decided here, so nothing in it can harm safety (R13); where
//! nothing is known of a schedule, the record is polled.

use std::time::Duration;

use super::message::{Moment, SentAt};

/// The pause after a look that came too early. Four times as long the next time, up to the poll period: all followers of a holder
/// that has died look again at the same time.
const AGAIN: Duration = Duration::from_millis(20);
/// A renewal that was found to within this is found well enough; beyond it the search is taken up again.
const FOUND: Duration = Duration::from_millis(80);
/// How much earlier than the renewal was found the next one is looked for: the least step, which finds the edge again after
/// some heartbeats, and costs one more read then.
const CREEP: Duration = Duration::from_millis(2);
/// So many renewals found at the first look: the clocks run apart, or the schedule has moved. Steps grow until a look comes too early.
const STREAK: u32 = 8;
/// The longest pause between two looks, or a poll if that is longer, however rarely the record is renewed: what a holder announces
/// is read within it.
pub(crate) const MOST_PAUSE: Duration = Duration::from_secs(5);
/// Looks that may come sooner than polls would: those that search for a renewal. In the long run there are no more looks than polls.
const BURST: u32 = 8;
/// So long before a holder lets go it is looked at more often: what it said is known that much later, where the next heartbeat said it.
const AHEAD: Duration = Duration::from_millis(100);
/// The shortest pause while a holder that has announced its end winds down.
const EAGER: Duration = Duration::from_millis(50);
/// The longer it takes, the less often it is looked at: so much of the time that it has taken may be added to it.
const EAGER_SHARE: u32 = 20;

/// What the record tells of its holder's plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Plan {
    /// From one renewal to the next.
    pub(crate) heartbeat: Option<Duration>,
    /// The holder lets go so long after this write, at the earliest: its token fires, and what it does winds down.
    pub(crate) ending: Option<Duration>,
}

/// What is known of a holder's schedule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pace {
    poll: Duration,
    /// Whether heartbeats are followed, or the record is polled.
    locks: bool,
    heartbeat: Duration,
    /// When the next renewal is looked for, if a schedule is known.
    aim: Option<Moment>,
    /// How much earlier than found the next one is looked for.
    step: Duration,
    /// The last look that showed nothing new since the last renewal, and how many there were.
    same: Option<Moment>,
    looks: u32,
    /// Renewals in a row that the first look found.
    streak: u32,
    /// The last look, and how much time has not been used for looks: each takes a poll period of it.
    last: Moment,
    unused: Duration,
    /// When the holder lets go, if it has said so.
    ends: Option<Moment>,
}

impl Pace {
    pub(super) fn new(poll: Duration, locks: bool) -> Self {
        Self {
            poll,
            locks,
            heartbeat: Duration::ZERO,
            aim: None,
            step: CREEP,
            same: None,
            looks: 0,
            streak: 0,
            last: Moment::default(),
            unused: Duration::ZERO,
            ends: None,
        }
    }

    pub(super) fn poll(&self) -> Duration {
        self.poll
    }

    /// A look was answered: when to look next. `plan`: what the record says, and since when that is known; `None` where it is not
    /// held by one of ours. `is_new`: it had not been seen before.
    pub(super) fn looked(&mut self, sent: SentAt, now: Moment, plan: Option<(Plan, Moment)>, is_new: bool) -> Moment {
        let heartbeat = plan.and_then(|(plan, _)| plan.heartbeat).filter(|period| self.locks && *period > self.poll);
        let next = match heartbeat {
            Some(heartbeat) => {
                if heartbeat != self.heartbeat {
                    *self = Self { heartbeat, ends: self.ends, ..Self::new(self.poll, self.locks) };
                }
                let most = self.poll.saturating_mul(BURST);
                self.unused = (self.unused + sent.0.since(self.last)).min(most).saturating_sub(self.poll);
                self.last = sent.0;
                let next = match self.aim {
                    // Between renewals: nothing is to be learnt of the schedule, whatever is new.
                    Some(aim) if sent.0.after(FOUND) < aim => aim,
                    _ if is_new => self.renewed(sent.0, now),
                    _ => self.again(sent.0, now),
                };
                // A search that has used up what polls would cost goes on at their pace.
                let soonest = if self.unused < self.poll { now.after(self.poll) } else { now };
                next.max(soonest).min(now.after(MOST_PAUSE.max(self.poll)))
            }
            None => {
                *self = Self { ends: self.ends, ..Self::new(self.poll, self.locks) };
                now.after(self.poll)
            }
        };
        let ending = plan.and_then(|(plan, since)| plan.ending.map(|ending| since.after(ending)));
        // Renewals go on while it winds down: what was said first stands.
        self.ends = ending.map(|ending| self.ends.map_or(ending, |ends| ends.min(ending)));
        self.ends.map_or(next, |ends| next.min(self.eager(ends, now)))
    }

    /// Nothing new: too early, or the holder is gone.
    fn again(&mut self, sent: Moment, now: Moment) -> Moment {
        self.same = Some(sent);
        if self.aim.is_none() {
            return now.after(self.poll);
        }
        let soon = AGAIN.saturating_mul(1 << (2 * self.looks).min(20));
        self.looks += 1;
        now.after(soon.min(self.poll))
    }

    /// A renewal was found.
    fn renewed(&mut self, sent: Moment, now: Moment) -> Moment {
        let next = match (self.same.take(), self.aim) {
            // One is not enough to tell when it was written.
            (None, None) => return now.after(self.poll),
            // It was looked for late, by whatever kept this process: the schedule stands.
            (None, Some(aim)) if sent.since(aim) > FOUND => aim.after(self.heartbeat),
            (None, Some(_)) => {
                let step = self.step;
                self.streak += 1;
                self.step = if self.streak < STREAK { step / 2 } else { step * 2 }.max(CREEP);
                sent.after(self.heartbeat).before(step)
            }
            (Some(same), _) => {
                let gap = sent.since(same);
                let within = if gap > FOUND { gap / 2 } else { Duration::ZERO };
                (self.step, self.streak) = ((within / 2).max(CREEP), 0);
                sent.after(self.heartbeat).before(within)
            }
        };
        self.looks = 0;
        let next = next.next_after(now, self.heartbeat);
        self.aim = Some(next);
        next
    }

    /// The holder is about to let go, or winds down: it is looked at often.
    fn eager(&self, ends: Moment, now: Moment) -> Moment {
        let pause = (now.since(ends) / EAGER_SHARE).clamp(EAGER.min(self.poll), self.poll);
        ends.before(AHEAD).max(now.after(pause))
    }
}
