//! The clock of one machine: off by a few parts per million, started whenever it did, and it may stand still.

use std::time::Duration;

use crate::protocol::Moment;

const MILLION: u64 = 1_000_000;

/// Runs at a constant rate from `since` on, and stands still before: a hypervisor may hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalClock {
    since: u64,
    shows: u64,
    /// Nanoseconds that it counts in a million of true ones.
    rate: u64,
}

impl LocalClock {
    pub(crate) fn new(shows: u64, drift: i64) -> Self {
        Self { since: 0, shows, rate: MILLION.saturating_add_signed(drift) }
    }

    /// What it shows at a true time. Runs of up to an hour or two fit.
    pub(crate) fn local(self, time: u64) -> Moment {
        let run = time.saturating_sub(self.since);
        // In two parts: the product of all of it would be too large for long runs.
        let run = run / MILLION * self.rate + run % MILLION * self.rate / MILLION;
        Moment::from_nanos(self.shows.saturating_add(run))
    }

    /// The first true time at which it shows `moment`.
    pub(crate) fn true_time(self, moment: Moment) -> u64 {
        let run = moment.nanos().saturating_sub(self.shows);
        let (whole, part) = (run / self.rate, run % self.rate);
        let run = whole.saturating_mul(MILLION).saturating_add((part * MILLION).div_ceil(self.rate));
        self.since.saturating_add(run)
    }

    /// How long it takes to count so much, in true time.
    pub(crate) fn span(self, length: Duration) -> u64 {
        let from = Moment::from_nanos(self.shows);
        self.true_time(from.after(length)) - self.since
    }

    /// Since when it runs, or from when on it will.
    pub(crate) fn runs_from(self) -> u64 {
        self.since
    }

    /// It shows the same until `until`, or for longer if it stands already.
    pub(crate) fn stop(&mut self, now: u64, until: u64) {
        self.shows = self.local(now).nanos();
        self.since = until.max(self.since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for drift in [-110_000, -200, -1, 0, 1, 200, 96_000] {
            let clock = LocalClock::new(77, drift);
            for time in [0, 1, 999_999, 1_000_000, 123_456_789_012, 7_200_000_000_001] {
                let shown = clock.local(time);
                let back = clock.true_time(shown);
                assert!(back <= time && clock.local(back) == shown, "{drift} {time}: {back}");
                assert!(back == 0 || clock.local(back - 1) < shown, "{drift} {time}: not the first");
            }
        }
    }

    #[test]
    fn a_stopped_clock_shows_the_same_and_runs_on() {
        let mut clock = LocalClock::new(5, 0);
        clock.stop(100, 1_000);
        assert_eq!([90, 100, 999, 1_000, 1_010].map(|time| clock.local(time).nanos()), [105, 105, 105, 105, 115]);
        assert_eq!(clock.true_time(Moment::from_nanos(115)), 1_010);
    }
}
