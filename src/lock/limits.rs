//! Ends that a holder's own settings ask for: it has held for long enough, or its work gives no sign of life.

use std::sync::Arc;
use std::time::Duration;

use super::beacon::{BEAT, Beacon};
use crate::ending::EndReason;
use crate::protocol::Moment;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) max_tenure: Option<Duration>,
    pub(crate) silence: Option<Silence>,
}

/// Ends when `beacon` has not beaten for so long.
#[derive(Debug, Clone)]
pub(crate) struct Silence {
    pub(crate) beacon: Arc<Beacon>,
    pub(crate) after: Duration,
}

/// The limits of one term.
pub(super) struct Watch<'a> {
    limits: &'a Limits,
    since: Moment,
    /// The beat that was found too old, and when. One look is not enough: after a pause of the whole process the
    /// work has had no chance to beat either.
    suspect: Option<(Moment, Moment)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(limits: &'a Limits, since: Moment) -> Self {
        Self { limits, since, suspect: None }
    }

    /// When to look next.
    pub(super) fn due(&self, now: Moment) -> Option<Moment> {
        let tenure = self.limits.max_tenure.map(|most| self.since.after(most));
        let silence = self.limits.silence.as_ref().map(|silence| {
            let last = silence.beacon.last().unwrap_or(now);
            match self.suspect {
                Some((beat, looked)) if beat == last => looked.after(BEAT * 2),
                Some(_) | None => last.after(silence.after).max(now.after(BEAT / 2)),
            }
        });
        tenure.into_iter().chain(silence).min()
    }

    pub(super) fn check(&mut self, now: Moment) -> Option<EndReason> {
        if self.limits.max_tenure.is_some_and(|most| now >= self.since.after(most)) {
            return Some(EndReason::MaxTenure);
        }
        let silence = self.limits.silence.as_ref()?;
        let last = silence.beacon.last().filter(|last| now >= last.after(silence.after));
        match (last, self.suspect) {
            (None, _) => self.suspect = None,
            (Some(beat), Some((suspect, looked))) if suspect == beat => {
                if now >= looked.after(BEAT * 2) {
                    return Some(EndReason::Silent);
                }
            }
            (Some(beat), _) => self.suspect = Some((beat, now)),
        }
        None
    }
}
