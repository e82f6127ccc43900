//! What a run showed: counted, so that a simulator that has gone blind is noticed.

/// What was seen to happen over all seeds: a simulator that shows none of it is blind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seldom {
    pub(crate) terms: u64,
    pub(crate) takeovers_after_expiry: u64,
    pub(crate) lost_by_deadline: u64,
    pub(crate) released: u64,
    pub(crate) release_unknown: u64,
    pub(crate) adopted: u64,
    pub(crate) duplicates_refused: u64,
    pub(crate) stale_reads: u64,
    pub(crate) claims_taken_back: u64,
    pub(crate) settled_by_read: u64,
    pub(crate) fenced_off: u64,
    pub(crate) foreign_terms: u64,
    pub(crate) thaws_past_deadline: u64,
    pub(crate) stubborn_work: u64,
}

impl Seldom {
    pub(crate) fn fields(&self) -> [(&'static str, u64); 14] {
        [
            ("terms", self.terms),
            ("take-overs after expiry", self.takeovers_after_expiry),
            ("lost by deadline", self.lost_by_deadline),
            ("released", self.released),
            ("release unknown", self.release_unknown),
            ("own writes adopted", self.adopted),
            ("duplicates refused", self.duplicates_refused),
            ("stale reads", self.stale_reads),
            ("claims taken back", self.claims_taken_back),
            ("settled by a read", self.settled_by_read),
            ("effects fenced off", self.fenced_off),
            ("terms of a foreign client", self.foreign_terms),
            ("thawed past the deadline", self.thaws_past_deadline),
            ("stubborn work", self.stubborn_work),
        ]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.terms += other.terms;
        self.takeovers_after_expiry += other.takeovers_after_expiry;
        self.lost_by_deadline += other.lost_by_deadline;
        self.released += other.released;
        self.release_unknown += other.release_unknown;
        self.adopted += other.adopted;
        self.duplicates_refused += other.duplicates_refused;
        self.stale_reads += other.stale_reads;
        self.claims_taken_back += other.claims_taken_back;
        self.settled_by_read += other.settled_by_read;
        self.fenced_off += other.fenced_off;
        self.foreign_terms += other.foreign_terms;
        self.thaws_past_deadline += other.thaws_past_deadline;
        self.stubborn_work += other.stubborn_work;
    }
}
