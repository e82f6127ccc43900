//! What a step of the core takes: a heartbeat of the holder, a look of a follower. `just bench-core`.

#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

use std::time::Duration;

use divan::Bencher;
use protocol::{
    Absence, Candidate, Consistency, Holder, Moment, Observation, Plan, ReceivedAt, Renewal, Reply, Seen, SentAt,
    Sighting, Terms, Version, Writer,
};

fn main() {
    divan::main();
}

const HEARTBEAT: Duration = Duration::from_millis(2_500);

fn terms() -> Terms {
    Terms {
        lease: Duration::from_secs(10),
        validity: Duration::from_secs(8),
        heartbeat: HEARTBEAT,
        renewal: Renewal::Scheduled,
        hard_limit: Duration::from_millis(9_500),
    }
}

/// Poll, begin, reply: all that a heartbeat asks of the core.
#[divan::bench]
fn heartbeat(bencher: Bencher) {
    let mut now = Moment::from_nanos(1_000_000_000);
    let version = Version::new("0f9c2a52-6d3a-4a86-9b35-8f2b8a3b0f11");
    let mut holder = Holder::claim(None, 1, terms(), now);
    let mut beat = move || {
        let _ = holder.poll(now);
        let write = holder.begin(SentAt(now), version.clone());
        holder.on_reply(&Reply::Applied, now, 0.5);
        now = now.after(HEARTBEAT);
        write
    };
    bencher.bench_local(&mut beat);
}

/// Observe, next, answered: all that a look asks of the core.
#[divan::bench]
fn look(bencher: Bencher) {
    let mut now = Moment::from_nanos(1_000_000_000);
    let plan = Plan { heartbeat: Some(HEARTBEAT), ending: None };
    let lease = Duration::from_secs(10);
    let mut heartbeats = (0_u64..).map(|number| {
        // Each a new one: what was seen before would be taken for the past.
        let version = Version::new(format!("version {number}"));
        Seen::Record(Sighting { version, lease, released: false, writer: Writer::Ours, token: Some(7), plan })
    });
    let mut known = Observation::default();
    let mut candidate = Candidate::new(Duration::from_secs(1), lease, Absence::WaitsOutLease, false).phase_locked();
    bencher.with_inputs(|| heartbeats.next()).bench_local_values(|seen| {
        known.observe(seen?, SentAt(now), ReceivedAt(now), Consistency::Eventual);
        candidate.answered(&known, SentAt(now), now);
        now = now.after(HEARTBEAT);
        Some(candidate.next(&known, now))
    });
}
