//! What a run showed: a simulator that shows none of it is blind.

macro_rules! counts {
    ($($field:ident: $what:literal,)+) => {
        /// How often each was seen to happen.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub(crate) struct Seldom {
            $(pub(crate) $field: u64,)+
        }

        impl Seldom {
            /// What is counted, in words, and how often it was seen.
            pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($what, self.$field)),+].into_iter()
            }

            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)+
            }
        }
    };
}

counts! {
    terms: "terms",
    takeovers_after_expiry: "take-overs after expiry",
    lost_by_deadline: "lost by deadline",
    released: "released",
    release_unknown: "release unknown",
    adopted: "own writes adopted",
    duplicates_refused: "duplicates refused",
    stale_reads: "stale reads",
    claims_taken_back: "claims taken back",
    settled_by_read: "settled by a read",
    fenced_off: "effects fenced off",
    foreign_terms: "terms of a foreign client",
    foreign_deletions: "records deleted by a foreign client",
    leases_extended: "leases extended",
    leases_shortened: "leases shortened",
    thaws_past_deadline: "thawed past the deadline",
    stubborn_work: "stubborn work",
}
