//! How many instructions steps of the core take: counted by Valgrind, so that noise can't fail it. `just counts`.
//!
//! Another compiler makes other code of them, hence the room below each limit; a step that has become dearer is known by more.

#![allow(missing_docs, reason = "the macros make functions without")]

#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

use std::hint::black_box;
use std::time::Duration;

use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use protocol::{
    Absence, Candidate, Consistency, Holder, Moment, Next, Observation, Phase, Plan, ReceivedAt, Renewal, Reply, Seen,
    SentAt, Sighting, Terms, Version, Writer,
};

const HEARTBEAT: Duration = Duration::from_millis(2_500);
const LEASE: Duration = Duration::from_secs(10);
const START: Moment = Moment::from_nanos(1_000_000_000);

/// So many of each, lest what surrounds them counts.
const STEPS: u32 = 100;

fn at_most(each: u64) -> LibraryBenchmarkConfig {
    let mut counted = Callgrind::with_args(["--cache-sim=no"]);
    counted.hard_limits([(EventKind::Ir, each * u64::from(STEPS))]);
    LibraryBenchmarkConfig::default().tool(counted).clone()
}

fn beat(holder: &mut Holder, now: Moment, version: &Version) {
    let _ = holder.poll(now);
    black_box(holder.begin(SentAt(now), version.clone()));
    holder.on_reply(&Reply::Applied, now, 0.5);
}

fn held() -> (Holder, Version) {
    let terms = Terms {
        lease: LEASE,
        validity: Duration::from_secs(8),
        heartbeat: HEARTBEAT,
        renewal: Renewal::Scheduled,
        hard_limit: Duration::from_millis(9_500),
    };
    let version = Version::new("0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11");
    let mut holder = Holder::claim(None, 1, terms, START);
    beat(&mut holder, START, &version);
    (holder, version)
}

// Poll, begin, reply: all that a heartbeat asks of the core.
#[library_benchmark(config = at_most(720))]
#[bench::held(held())]
fn heartbeats((mut holder, version): (Holder, Version)) -> Holder {
    for number in 1..=STEPS {
        beat(&mut holder, START.after(HEARTBEAT * number), &version);
    }
    assert_eq!(holder.phase(), Phase::Holding);
    holder
}

struct Follower {
    /// One heartbeat after the other: what was seen before would be taken for the past.
    heartbeats: Vec<Seen>,
    known: Observation,
    candidate: Candidate,
}

impl Follower {
    fn look(&mut self, number: u32) -> Next {
        let (now, seen) = (START.after(HEARTBEAT * number), self.heartbeats[number as usize].clone());
        self.known.observe(seen, SentAt(now), ReceivedAt(now), Consistency::Eventual);
        self.candidate.answered(&self.known, SentAt(now), now);
        self.candidate.next(&self.known, now)
    }
}

fn following() -> Follower {
    let plan = Plan { heartbeat: Some(HEARTBEAT), ending: None };
    let heartbeats = (0..2 * STEPS).map(|number| {
        let version = Version::new(format!("version {number}"));
        Seen::Record(Sighting { version, lease: LEASE, released: false, writer: Writer::Ours, token: Some(7), plan })
    });
    let candidate = Candidate::new(Duration::from_secs(1), LEASE, Absence::WaitsOutLease, false).phase_locked();
    let mut follower = Follower { heartbeats: heartbeats.collect(), known: Observation::default(), candidate };
    // Until it remembers as much as it ever will.
    for number in 0..STEPS {
        follower.look(number);
    }
    follower
}

// Observe, answered, next: all that a look asks of the core.
#[library_benchmark(config = at_most(1_480))]
#[bench::following(following())]
fn looks(mut follower: Follower) -> Follower {
    for number in STEPS..2 * STEPS {
        assert!(!matches!(follower.look(number), Next::Claim { .. }), "it is held");
    }
    follower
}

library_benchmark_group!(name = core; benchmarks = heartbeats, looks);
main!(library_benchmark_groups = core);
