//! The schedule of one holder's renewals, as a follower finds it.

use std::time::Duration;

use super::super::message::Moment;

/// The pause after a look that came too early. Four times as long the next time, up to the poll period: all followers of a holder
/// that has died look again at the same time.
const AGAIN: Duration = Duration::from_millis(20);
/// A renewal whose moment is known to within this, and a round trip, is found; one that is not is searched for, at such a distance.
const FOUND: Duration = Duration::from_millis(80);
/// Looks of one search, at most: where they would be more, the first search is coarser, and another one follows.
const SEARCH: u32 = 8;
/// How much earlier than the renewal was found the next one is looked for: the least step, which finds the edge again after
/// some heartbeats, and costs one more read then.
const CREEP: Duration = Duration::from_millis(2);
/// So many renewals found at the first look: the clocks run apart, or the schedule has moved. Steps grow until a look comes too early.
const STREAK: u32 = 8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Schedule {
    token: Option<u64>,
    heartbeat: Duration,
    poll: Duration,
    next: Option<Expected>,
    /// Looks that came too early since the last renewal.
    early: u32,
    /// Renewals in a row that the first look found.
    streak: u32,
}

/// The next renewal: it comes after this moment, and by that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Expected {
    after: Moment,
    by: Moment,
    /// When it is looked for first, and how far from there the next look is while it may still come in time.
    look: Moment,
    step: Duration,
}

impl Schedule {
    pub(super) fn new(token: Option<u64>, heartbeat: Duration, poll: Duration) -> Self {
        Self { token, heartbeat, poll, next: None, early: 0, streak: 0 }
    }

    /// Whose schedule it is, and its period: nothing of what is known holds for another one.
    pub(super) fn of(&self) -> (Option<u64>, Duration) {
        (self.token, self.heartbeat)
    }

    /// The earliest moment at which what a look shows for the first time was written, if it was on schedule.
    pub(super) fn last_renewal_after(&self, last: Option<Moment>, sent: Moment) -> Option<Moment> {
        last.max(self.next.map(|next| next.after).filter(|after| *after <= sent))
    }

    /// A look was answered: when to look next, if that is known. `written_after`: if what it showed is new.
    pub(super) fn looked(&mut self, written_after: Option<Moment>, sent: Moment, now: Moment) -> Option<Moment> {
        match (self.next, written_after) {
            // Between renewals: nothing is to be learnt, whatever is new.
            (Some(next), _) if sent < next.after => Some(next.look),
            (_, Some(after)) => {
                self.next = self.renewed(after, sent, now);
                self.early = 0;
                self.next.map(|next| next.look)
            }
            (Some(next), None) if sent < next.by => {
                self.early += 1;
                Some(now.after(next.step.max(AGAIN).min(self.poll)))
            }
            (Some(_) | None, None) => self.passed_by(now),
        }
    }

    /// A look told nothing of the schedule: if there is one the next look comes soon, and ever less soon.
    pub(super) fn passed_by(&mut self, now: Moment) -> Option<Moment> {
        self.next?;
        let pause = AGAIN.saturating_mul(1 << (2 * self.early.min(10)));
        self.early += 1;
        Some(now.after(pause.min(self.poll)))
    }

    /// A renewal was found, between these two: when the next one comes, unless there may have been several.
    fn renewed(&mut self, after: Moment, sent: Moment, now: Moment) -> Option<Expected> {
        let at_first = self.early == 0;
        // A look that came late, by whatever kept this process, leaves what was known as it was.
        let by = self.next.filter(|_| at_first).map_or(sent, |next| next.by.min(sent));
        let width = by.since(after);
        if width >= self.heartbeat {
            return None;
        }
        let is_found = width <= FOUND + now.since(sent);
        self.streak = if is_found && at_first { self.streak + 1 } else { 0 };
        let step = match self.next {
            _ if !is_found => (width / SEARCH).max(FOUND),
            Some(last) if self.streak >= STREAK => (last.step * 2).min(self.heartbeat / SEARCH),
            Some(last) if last.step < FOUND && at_first => last.step / 2,
            Some(last) if last.step < FOUND => CREEP,
            // Found by a search: from there on it is halved until it is known exactly.
            Some(_) | None => width / 2,
        };
        let step = step.max(CREEP);
        let (after, look) = if is_found { (by.before(step), by.before(step)) } else { (after, after.after(step)) };
        let next_look = look.after(self.heartbeat).next_after(now, self.heartbeat);
        let later = next_look.since(look);
        Some(Expected { after: after.after(later), by: by.after(later), look: next_look, step })
    }
}
