//! The journal of a contest: who believed to hold the lock, from when to when, with which token.

use std::collections::BTreeMap;

/// One unbroken belief, in nanoseconds of the machine's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Belief {
    pub(crate) who: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) token: Option<u64>,
}

/// Two beliefs at the same time. `first` began earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) first: Belief,
    pub(crate) second: Belief,
}

impl Overlap {
    pub(crate) fn nanos(&self) -> u64 {
        self.first.to.min(self.second.to).saturating_sub(self.second.from)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    open: BTreeMap<usize, Belief>,
    pub(crate) beliefs: Vec<Belief>,
    /// Tokens that the fenced record accepted and refused.
    pub(crate) accepted: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    pub(crate) troubles: Vec<String>,
}

impl Journal {
    /// One line of the contender number `who`.
    pub(crate) fn line(&mut self, who: usize, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{line:?} of {who}"));
        match words[..] {
            ["from", at, token] => {
                self.close(who);
                let token = (token != "-").then(|| number(token));
                self.open.insert(who, Belief { who, from: number(at), to: number(at), token });
            }
            ["tick" | "to", at] => {
                if let Some(belief) = self.open.get_mut(&who) {
                    belief.to = number(at);
                }
                if words[0] == "to" {
                    self.close(who);
                }
            }
            ["journal", token] => self.accepted.push(number(token)),
            ["fenced", token] => self.refused.push(number(token)),
            _ => self.troubles.push(format!("{who}: {line}")),
        }
    }

    /// It will say no more: it believed until its last word.
    pub(crate) fn close(&mut self, who: usize) {
        self.beliefs.extend(self.open.remove(&who));
    }

    /// All pairs of contenders that believed at the same time.
    pub(crate) fn overlaps(&self) -> Vec<Overlap> {
        let mut sorted = self.beliefs.clone();
        sorted.sort_by_key(|belief| belief.from);
        let mut found = Vec::new();
        for (index, first) in sorted.iter().enumerate() {
            let later = sorted[index + 1..].iter().take_while(|second| second.from < first.to);
            found.extend(later.map(|second| Overlap { first: first.clone(), second: second.clone() }));
        }
        found
    }

    /// The tokens of our terms, in the order in which they began.
    pub(crate) fn tokens(&self) -> Vec<u64> {
        let mut sorted: Vec<&Belief> = self.beliefs.iter().filter(|belief| belief.token.is_some()).collect();
        sorted.sort_by_key(|belief| belief.from);
        sorted.iter().filter_map(|belief| belief.token).collect()
    }
}

#[test]
fn the_journal_sees_overlaps_and_tokens() {
    let mut journal = Journal::default();
    for (who, line) in [
        (0, "from 10 1"),
        (0, "tick 20"),
        (1, "from 15 -"),
        (1, "to 40"),
        (0, "to 21"),
        (2, "from 40 2"),
        (2, "tick 50"),
        (2, "error odd"),
    ] {
        journal.line(who, line);
    }
    journal.close(2);
    let overlaps = journal.overlaps();
    assert_eq!(overlaps.len(), 1, "touching is no overlap: {overlaps:?}");
    assert_eq!((overlaps[0].first.who, overlaps[0].second.who, overlaps[0].nanos()), (0, 1, 6));
    assert_eq!((journal.tokens(), journal.troubles.len(), journal.beliefs.len()), (vec![1, 2], 1, 3));
}
