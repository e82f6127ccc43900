//! When a follower looks at a record next: phase-locked to its holder's heartbeats.
//!
//! The record says how often its holder renews, and the holder renews on an absolute schedule. So a follower that has found one
//! renewal knows about when the next one comes, and looks just after it: it learns of a crash almost as soon as can be, with one
//! read a heartbeat instead of one a poll. Only the moments of reads are decided here, so nothing in it can harm safety (R13); where
//! nothing is known of a schedule, the record is polled.

mod schedule;

use std::time::Duration;

use self::schedule::Schedule;
use super::message::{Moment, SentAt, Sighting};

/// The longest pause between two looks, or a poll if that is longer, however rarely the record is renewed: what a holder announces
/// is read within it.
pub(crate) const MOST_PAUSE: Duration = Duration::from_secs(5);
/// Looks that may come sooner than polls would: those that search for a renewal. In the long run there are no more looks than polls.
const BURST: u32 = 8;
/// So long before a holder may let go it is looked at more often: what it says is written that much later than it is counted from.
const AHEAD: Duration = Duration::from_millis(50);
/// The shortest pause while a holder that has announced its end winds down.
const EAGER: Duration = Duration::from_millis(15);
/// The longer it takes, the less often it is looked at: so much of the time that it has taken may be added to it.
const EAGER_SHARE: u32 = 10;
/// So many looks, at most, while nobody knows whether it has let go, because nobody knows when it said when.
const EAGER_LOOKS: u32 = 32;

/// Followers of a holder with this heartbeat look at least once in so long.
pub(crate) fn all_look_within(poll: Duration, heartbeat: Duration) -> Duration {
    poll.max(heartbeat.min(MOST_PAUSE))
}

/// What the record tells of its holder's plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Plan {
    /// From one renewal to the next.
    pub(crate) heartbeat: Option<Duration>,
    /// The holder lets go so long after this write, at the earliest: its token fires, and what it does winds down.
    pub(crate) ending: Option<Duration>,
}

/// When a follower looks next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pace {
    poll: Duration,
    /// Where heartbeats are followed; where there is none the record is polled, and needs no account.
    account: Option<Account>,
    schedule: Option<Schedule>,
    ends: Option<Ends>,
    /// The next look is one for an announced end, of which there is a bound of its own: the next schedule is to be found.
    hasty: bool,
}

/// What looks there have been beside the polls that there might have been.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Account {
    last: Option<Moment>,
    /// How much time has not been used for looks, each of which takes a poll period.
    unused: Duration,
}

/// An announced end, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    by: Moment,
    /// It may come that much sooner: so far apart were the looks between which it was announced.
    sooner: Duration,
}

impl Pace {
    pub(super) fn new(poll: Duration, locks: bool) -> Self {
        Self { poll, account: locks.then(|| Account::new(poll)), schedule: None, ends: None, hasty: false }
    }

    pub(super) fn poll(&self) -> Duration {
        self.poll
    }

    /// A look was answered: when to look next. `held`: what of ours it showed, if it is held, and since when that version is known;
    /// `is_new`: it had not been seen before.
    pub(super) fn looked(
        &mut self,
        sent: SentAt,
        now: Moment,
        held: Option<(&Sighting, Moment)>,
        is_new: bool,
    ) -> Moment {
        let SentAt(sent) = sent;
        let used = if self.hasty { Duration::ZERO } else { self.poll };
        let last = self.account.as_mut().and_then(|account| account.looked(sent, used, self.poll));
        // A schedule on which the lease runs out is none.
        let kept = |found: &Sighting| found.plan.heartbeat.filter(|heartbeat| *heartbeat < found.lease);
        let of = held.filter(|_| self.account.is_some()).and_then(|(found, _)| Some((found.token, kept(found)?)));
        let is_another = self.schedule.as_ref().map(Schedule::of) != of;
        if is_another {
            self.schedule = of.map(|(token, heartbeat)| Schedule::new(token, heartbeat, self.poll));
        }
        // What is new was written since the last look, and mostly on schedule; what the first look shows may be older.
        let after = self.schedule.as_ref().map_or(last, |schedule| schedule.last_renewal_after(last, sent));
        let ends = held.and_then(|(found, since)| Ends::new(found.plan, since, after));
        let is_announced = ends.is_some() && self.ends.is_none();
        self.ends = ends.map(|ends| self.ends.map_or(ends, |before| before.sooner_of(ends)));

        let scheduled = match &mut self.schedule {
            // An acquisition is not on the schedule that begins with it.
            Some(_) if is_another => None,
            // Nor is what was announced, and the renewal may be yet to come.
            Some(schedule) if is_announced => schedule.passed_by(now),
            Some(schedule) => schedule.looked(after.filter(|_| is_new), sent, now),
            None => None,
        };
        // A search that has used up what polls would cost goes on at their pace.
        let polled = now.after(self.poll);
        let next = match scheduled {
            Some(at) if self.account.as_ref().is_some_and(|account| account.unused < self.poll) => at.max(polled),
            Some(at) => at,
            None => polled,
        };
        let next = next.min(now.after(MOST_PAUSE.max(self.poll)));
        let eager = self.ends.map_or(Moment::NEVER, |ends| ends.looked_for(now, self.poll));
        self.hasty = eager < next.min(polled);
        next.min(eager)
    }
}

impl Account {
    fn new(poll: Duration) -> Self {
        Self { last: None, unused: poll.saturating_mul(BURST) }
    }

    /// A look was sent, which takes so much. Gives the one before.
    fn looked(&mut self, sent: Moment, used: Duration, poll: Duration) -> Option<Moment> {
        let last = self.last.replace(sent);
        let since_last = last.map_or(Duration::ZERO, |last| sent.since(last));
        self.unused = (self.unused + since_last).min(poll.saturating_mul(BURST)).saturating_sub(used);
        last
    }
}

impl Ends {
    /// Of a record that was written by then, and after that.
    fn new(plan: Plan, by: Moment, after: Option<Moment>) -> Option<Self> {
        let heartbeat = plan.heartbeat.unwrap_or(Duration::MAX);
        let sooner = after.map_or(heartbeat, |after| by.since(after).min(heartbeat));
        plan.ending.map(|ending| Self { by: by.after(ending), sooner })
    }

    /// Renewals go on while it winds down: what was said first stands.
    fn sooner_of(self, other: Self) -> Self {
        if other.by < self.by { other } else { self }
    }

    /// The holder is about to let go, or winds down: it is looked at often.
    fn looked_for(self, now: Moment, poll: Duration) -> Moment {
        let takes = now.since(self.by) / EAGER_SHARE;
        let pause = takes.max(self.sooner / EAGER_LOOKS).clamp(EAGER.min(poll), poll);
        self.by.before(self.sooner).before(AHEAD).max(now.after(pause))
    }
}
