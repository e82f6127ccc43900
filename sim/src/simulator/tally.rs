//! What happened in a run, or in many: a simulator that shows none of it is blind.

use std::fmt::Write;
use std::time::Duration;

macro_rules! counts {
    ($($(#[$doc:meta])* $field:ident: $what:literal,)+) => {
        /// How often each was seen to happen.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct Counts {
            $($(#[$doc])* pub(crate) $field: u64,)+
        }

        impl Counts {
            /// What is counted, in words, and how often it was seen.
            pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$(($what, self.$field)),+].into_iter()
            }

            fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

counts! {
    events: "events",
    reads: "requests: reads",
    claims: "requests: claims",
    renewals: "requests: renewals",
    releases: "requests: releases",
    retries: "requests: further attempts inside the SDK",
    effects: "effects sent to the fenced resource",
    fenced_off: "effects of a deposed leader, refused by the fence",
    terms: "terms",
    takeovers_after_expiry: "take-overs of an expired lease",
    takeovers_after_release: "take-overs after a release",
    creations: "records created",
    lost_by_deadline: "terms lost by the deadline",
    lost_otherwise: "terms lost to an operator, or after the clock stood still",
    released: "terms released",
    release_unknown: "releases never confirmed",
    adopted: "refusals that showed a write of the same acquisition",
    duplicates_refused: "duplicates refused",
    stale_reads: "reads of the past, noticed",
    claims_taken_back: "claims taken back",
    settled_by_read: "unknown writes settled by a read",
    requests_lost: "fault: request lost",
    replies_lost: "fault: reply lost",
    duplicated: "fault: request duplicated",
    old_duplicates: "fault: duplicate that arrives more than a lease later",
    slowed: "fault: message delayed",
    stale_answers: "fault: read answered from the past",
    throttled: "fault: request throttled, or refused by the server",
    pauses: "fault: process paused",
    suspends: "fault: machine suspended",
    clock_stops: "fault: machine and clock stopped by a hypervisor",
    crashes: "fault: crash",
    fast_restarts: "fault: restart within a second under the same name",
    cuts: "fault: partition, both ways",
    half_cuts: "fault: partition, one way",
    outages: "fault: the store fails for everybody",
    resigns: "resigned",
    announced: "ends announced",
    deletions: "operator: record deleted",
    restores: "operator: record restored from the past",
    forgeries: "operator: record forged",
    mended: "operator: record mended",
    rollouts: "restarted with another lease",
    leases_extended: "leases extended",
    leases_shortened: "leases shortened",
    foreign_terms: "terms of a client of another make",
    foreign_deletions: "records deleted by a client of another make",
    thaws_past_deadline: "thawed past the deadline",
    stubborn_work: "work that did not stop when told",
    tolerance: "runs with clocks at the profile's limit: work's hard limit is not judged in them",
    operated: "runs with an operator who writes the record: I1 is not judged in them",
    forgetful: "runs in which records may vanish, those among them: nor are I2 to I4, nor R4",
    exclusion_lost_to_hypervisor: "two valid leaders at a time, one of whose clocks had stood still",
}

/// A span of time, by its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    buckets: [u64; EDGES.len() + 1],
    pub(crate) min: Option<u64>,
    pub(crate) max: u64,
}

/// Upper edges, in nanoseconds.
const EDGES: [u64; 11] = {
    const MS: u64 = 1_000_000;
    [MS, 10 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, 1_000 * MS, 2_000 * MS, 5_000 * MS, 10_000 * MS, 30_000 * MS]
};

impl Histogram {
    pub(crate) fn note(&mut self, nanos: u64) {
        let bucket = EDGES.iter().position(|edge| nanos < *edge).unwrap_or(EDGES.len());
        self.buckets[bucket] += 1;
        self.min = Some(self.min.map_or(nanos, |min| min.min(nanos)));
        self.max = self.max.max(nanos);
    }

    pub(crate) fn note_all(&mut self, nanos: impl IntoIterator<Item = u64>) {
        nanos.into_iter().for_each(|nanos| self.note(nanos));
    }

    /// How many of them are as long, or longer: one of the edges.
    #[cfg(test)]
    pub(crate) fn count_from(&self, edge: Duration) -> u64 {
        let bucket = EDGES.iter().position(|is| u128::from(*is) == edge.as_nanos()).map_or(0, |index| index + 1);
        self.buckets[bucket..].iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.min = self.min.into_iter().chain(other.min).min();
        self.max = self.max.max(other.max);
    }

    /// One line for each bucket that holds something: from, to, count.
    pub(crate) fn lines(&self) -> Vec<(String, u64)> {
        let text = |nanos: u64| {
            if nanos < 1_000_000_000 {
                format!("{} ms", nanos / 1_000_000)
            } else {
                format!("{} s", nanos / 1_000_000_000)
            }
        };
        let named = |bucket: usize| match bucket {
            0 => format!("below {}", text(EDGES[0])),
            last if last == EDGES.len() => format!("{} or more", text(EDGES[last - 1])),
            inner => format!("{} to {}", text(EDGES[inner - 1]), text(EDGES[inner])),
        };
        (0..self.buckets.len()).map(|bucket| (named(bucket), self.buckets[bucket])).collect()
    }
}

/// Everything a run, or many, showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    /// Simulated seconds, and those of them in which all candidates had the default timing.
    pub(crate) seconds: u64,
    pub(crate) default_seconds: u64,
    /// Processor time that the latter took.
    pub(crate) default_cost: Duration,
    pub(crate) counts: Counts,
    /// From the end of validity to the next take-over of the expired lease: every one, and each run's smallest.
    pub(crate) margin: Histogram,
    pub(crate) smallest_margin: Histogram,
    /// From the token that fired on a running process to the next take-over of the expired lease.
    pub(crate) fired_margin: Histogram,
    /// From the token that fired to the next take-over of the released lease.
    pub(crate) handover: Histogram,
    /// From a write to a follower that has read it.
    pub(crate) lag: Histogram,
    /// From the end of all faults to a leader.
    pub(crate) recovery: Histogram,
    /// The longest recovery, as a share of its bound, in millionths.
    pub(crate) worst_recovery: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.seconds += other.seconds;
        self.default_seconds += other.default_seconds;
        self.default_cost += other.default_cost;
        self.counts.add(&other.counts);
        self.margin.add(&other.margin);
        self.smallest_margin.add(&other.smallest_margin);
        self.fired_margin.add(&other.fired_margin);
        self.handover.add(&other.handover);
        self.lag.add(&other.lag);
        self.recovery.add(&other.recovery);
        self.worst_recovery = self.worst_recovery.max(other.worst_recovery);
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "| what | how often |\n| --- | ---: |");
        for (what, count) in self.counts.fields() {
            let _ = writeln!(text, "| {what} | {} |", grouped(count));
        }
        let _ = writeln!(
            text,
            "\n| time | expired lease: validity over → take-over | of it, each run's smallest | token fired → take-over | released: token fired → take-over | write applied → seen by a follower | faults over → a leader |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        );
        let all = [&self.margin, &self.smallest_margin, &self.fired_margin, &self.handover, &self.lag, &self.recovery];
        let columns = all.map(Histogram::lines);
        for row in 0..columns[0].len() {
            let cells = columns.each_ref().map(|column| grouped(column[row].1));
            let _ = writeln!(text, "| {} | {} |", columns[0][row].0, cells.join(" | "));
        }
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let millis = |nanos: u64| format!("{:.3} ms", nanos as f64 / 1e6);
        let least = all.map(|histogram| histogram.min.map_or("-".into(), millis));
        let most = all.map(|histogram| millis(histogram.max));
        let _ = writeln!(text, "| **least** | {} |\n| **most** | {} |", least.join(" | "), most.join(" | "));
        let _ = writeln!(text, "\nThe longest recovery took {} % of its bound.", self.worst_recovery / 10_000);
        text
    }
}

/// 1,234,567
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
