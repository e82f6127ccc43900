//! A leader and a follower of the core in a calm network, one step after the other: what is timed, and whose instructions and
//! allocations are counted.

use std::hint::black_box;
use std::time::Duration;

use crate::protocol::{
    Absence, Candidate, Holder, Moment, Next, Observation, Phase, Plan, ReceivedAt, Renewal, Reply, Seen, SentAt,
    Sighting, Step, Terms, Version, Writer,
};

const HEARTBEAT: Duration = Duration::from_millis(2_500);
const LEASE: Duration = Duration::from_secs(10);
const ROUND_TRIP: Duration = Duration::from_millis(10);
const START: Moment = Moment::from_nanos(1_000_000_000);

/// More than are remembered, so that they can come again as new ones; made before anything is measured.
fn versions() -> Vec<Version> {
    (0..100).map(|number| Version::new(format!("0f9c2a52-6d3a-4a86-9b35-{number:012}"))).collect()
}

pub(crate) struct Leader {
    holder: Holder,
    versions: Vec<Version>,
    beats: usize,
    now: Moment,
}

impl Leader {
    /// One that holds.
    pub(crate) fn new() -> Self {
        let terms = Terms {
            lease: LEASE,
            validity: Duration::from_secs(8),
            heartbeat: HEARTBEAT,
            renewal: Renewal::Scheduled,
            hard_limit: Duration::from_millis(9_500),
        };
        let holder = Holder::claim(None, 1, terms, START);
        let mut this = Self { holder, versions: versions(), beats: 0, now: START };
        this.beat();
        assert_eq!(this.holder.phase(), Phase::Holding);
        this
    }

    /// All that a heartbeat asks of the core: its time has come, it is sent, it is answered, and when the next one is due.
    pub(crate) fn beat(&mut self) {
        let version = self.versions[self.beats % self.versions.len()].clone();
        assert!(self.holder.poll(self.now) == Step::Send, "the heartbeat is due");
        black_box(self.holder.begin(SentAt(self.now), version));
        assert!(self.holder.poll(self.now) != Step::Send, "one at a time");
        self.now = self.now.after(ROUND_TRIP);
        self.holder.on_reply(&Reply::Applied, self.now, 0.5);
        let Step::Wait(until) = self.holder.poll(self.now) else { panic!("not held: {:?}", self.holder.phase()) };
        self.now = until;
        self.beats += 1;
    }
}

pub(crate) struct Follower {
    /// What the record shows from one heartbeat of its holder to the next.
    records: Vec<Seen>,
    known: Observation,
    candidate: Candidate,
    now: Moment,
}

impl Follower {
    /// One that has found the schedule, and remembers as much as it ever will.
    pub(crate) fn new() -> Self {
        let plan = Plan { heartbeat: Some(HEARTBEAT), ending: None };
        let record = |version| {
            Seen::Record(Sighting {
                version,
                lease: LEASE,
                released: false,
                writer: Writer::Ours,
                token: Some(7),
                plan,
            })
        };
        let candidate = Candidate::new(Duration::from_secs(1), LEASE, Absence::WaitsOutLease, false).phase_locked();
        let records = versions().into_iter().map(record).collect();
        let mut this = Self { records, known: Observation::default(), candidate, now: START };
        (0..200).for_each(|_| this.look());
        this
    }

    pub(crate) fn heartbeats(&self) -> usize {
        usize::try_from(self.now.since(START).as_nanos() / HEARTBEAT.as_nanos()).unwrap_or(usize::MAX)
    }

    /// All that a look asks of the core: its time has come, it is answered, and when the next one is due.
    pub(crate) fn look(&mut self) {
        let Next::Read(consistency) = self.candidate.next(&self.known, self.now) else { panic!("no look is due") };
        let (seen, sent) = (self.records[self.heartbeats() % self.records.len()].clone(), SentAt(self.now));
        self.now = self.now.after(ROUND_TRIP);
        self.known.observe(seen, sent, ReceivedAt(self.now), consistency);
        self.candidate.answered(&self.known, sent, self.now);
        let Next::Wait(until) = self.candidate.next(&self.known, self.now) else { panic!("it is held") };
        self.now = until;
    }
}
