//! What a replica writes down of itself, by the clock that all processes of a host share.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// Nanoseconds of `CLOCK_BOOTTIME`: one clock for all processes, which no step of the wall clock moves.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap(), u64::try_from(time.tv_nsec).unwrap());
    seconds * 1_000_000_000 + nanos
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

pub(crate) fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// One life of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    pub(crate) replica: usize,
    pub(crate) number: usize,
}

impl std::fmt::Display for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "replica-{}.{}", self.replica, self.number)
    }
}

impl Life {
    pub(crate) fn file(self, folder: &Path, kind: &str) -> PathBuf {
        folder.join(format!("{self}.{kind}"))
    }
}

/// For how long a process has certainly believed that it leads: from after the first look that said so to before the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belief {
    pub(crate) life: Life,
    pub(crate) token: u64,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// Beliefs have slots of one size: the last is rewritten with every look, so that a kill loses no more than the last look.
const SLOT: usize = 64;

/// The two files of one life.
pub(crate) struct Journal {
    events: Mutex<File>,
    beliefs: File,
}

impl Journal {
    pub(crate) fn create(folder: &Path, life: Life) -> Self {
        let events = OpenOptions::new().create(true).append(true).open(life.file(folder, "events")).unwrap();
        let beliefs = File::create(life.file(folder, "beliefs")).unwrap();
        Self { events: Mutex::new(events), beliefs }
    }

    /// One line, with one write: no kill cuts it in two.
    pub(crate) fn note(&self, event: &str) {
        let mut events = self.events.lock().unwrap();
        events.write_all(format!("{event}\n").as_bytes()).unwrap();
    }

    pub(crate) fn believe(&self, index: u64, token: u64, from: u64, until: u64) {
        let slot = format!("{:<width$}\n", format!("{token} {from} {until}"), width = SLOT - 1);
        self.beliefs.write_all_at(slot.as_bytes(), index * SLOT as u64).unwrap();
    }
}

/// All beliefs of a life, in the order in which they began.
pub(crate) fn beliefs(text: &str, life: Life) -> Vec<Belief> {
    let belief = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        Belief { life, token: next(), from: next(), until: next() }
    };
    text.lines().map(belief).collect()
}

/// The last belief of a life, to see who leads.
pub(crate) fn last_belief(folder: &Path, life: Life) -> Option<Belief> {
    let file = File::open(life.file(folder, "beliefs")).ok()?;
    let slots = file.metadata().ok()?.len() / SLOT as u64;
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, slots.checked_sub(1)? * SLOT as u64).ok()?;
    beliefs(std::str::from_utf8(&slot).ok()?, life).pop()
}

/// What else a life has written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The work of a term has begun.
    Term { token: u64, at: u64 },
    /// Its token has fired, as seen by a task of the runtime or by a thread that waits for it.
    Told { token: u64, at: u64, by: String },
    /// The work of a term has ended.
    Ended { token: u64, at: u64, reason: String },
    /// An answer of `is_valid()` after a pause; the token is 0 where there was nothing to ask. `last` is the end of the look before.
    Look { token: u64, last: u64, from: u64, until: u64, valid: bool },
    /// A fenced write: when it was sent and answered, and how.
    Effect { token: u64, sent: u64, done: u64, outcome: String },
}

pub(crate) fn events(text: &str) -> Vec<Event> {
    text.lines().map(event).collect()
}

fn event(line: &str) -> Event {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
    let word = |index: usize| words[index].to_owned();
    match words[0] {
        "term" => Event::Term { token: number(1), at: number(2) },
        "told" => Event::Told { token: number(1), at: number(2), by: word(3) },
        "ended" => Event::Ended { token: number(1), at: number(2), reason: word(3) },
        "look" => Event::Look {
            token: number(1),
            last: number(2),
            from: number(3),
            until: number(4),
            valid: words[5] == "true",
        },
        "effect" => Event::Effect { token: number(1), sent: number(2), done: number(3), outcome: word(4) },
        other => panic!("no such event: {other}"),
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Term { token, at } => write!(f, "term {token} {at}"),
            Self::Told { token, at, by } => write!(f, "told {token} {at} {by}"),
            Self::Ended { token, at, reason } => write!(f, "ended {token} {at} {reason}"),
            Self::Look { token, last, from, until, valid } => write!(f, "look {token} {last} {from} {until} {valid}"),
            Self::Effect { token, sent, done, outcome } => write!(f, "effect {token} {sent} {done} {outcome}"),
        }
    }
}
