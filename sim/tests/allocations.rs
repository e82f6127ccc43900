//! What the core allocates: counted, so that noise can't fail it.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[allow(dead_code, unused_imports, reason = "the drivers that use all of it live in the published crate")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

use std::time::Duration;

use allocation_counter::measure;
use protocol::{
    Absence, Candidate, Holder, Moment, Next, Observation, Phase, Plan, ReceivedAt, Renewal, Reply, Seen, SentAt,
    Sighting, Step, Terms, Version, Writer,
};

const HEARTBEATS: u64 = 100;

fn terms() -> Terms {
    Terms {
        lease: Duration::from_secs(10),
        validity: Duration::from_secs(8),
        heartbeat: Duration::from_millis(2_500),
        renewal: Renewal::Scheduled,
        hard_limit: Duration::from_millis(9_500),
    }
}

fn at(millis: u64) -> Moment {
    Moment::from_nanos((1_000_000 + millis) * 1_000_000)
}

/// One write, applied after ten milliseconds.
fn write(holder: &mut Holder, now: u64, version: Version) {
    assert_eq!(holder.poll(at(now)), Step::Send);
    let write = holder.begin(SentAt(at(now)), version);
    assert!(matches!(holder.poll(at(now)), Step::Wait(_) | Step::Idle));
    drop(write);
    holder.on_reply(&Reply::Applied, at(now + 10), 0.5);
}

#[test]
fn a_heartbeat_allocates_the_names_of_its_write_and_nothing_else() {
    let versions: Vec<Version> = (0..=HEARTBEATS).map(|number| Version::new(format!("version {number}"))).collect();
    let mut holder = Holder::claim(None, 1, terms(), at(0));
    write(&mut holder, 0, versions[0].clone());
    assert_eq!(holder.phase(), Phase::Holding);
    let counted = measure(|| {
        let mut now = 10;
        for version in &versions[1..] {
            let Step::Wait(until) = holder.poll(at(now)) else { panic!("{:?}", holder.phase()) };
            now = until.nanos() / 1_000_000 - 1_000_000;
            write(&mut holder, now, version.clone());
            now += 10;
        }
    });
    println!("{counted:?}");
    assert_eq!(holder.phase(), Phase::Holding);
    assert_eq!(counted.count_total, HEARTBEATS, "the names, in one vector");
    assert_eq!(counted.count_current, 0, "and nothing stays");
}

#[test]
fn a_look_allocates_nothing() {
    let plan = Plan { heartbeat: Some(Duration::from_millis(2_500)), ending: None };
    let sightings: Vec<Seen> = (0..HEARTBEATS)
        .map(|number| {
            Seen::Record(Sighting {
                version: Version::new(format!("version {number}")),
                lease: Duration::from_secs(10),
                released: false,
                writer: Writer::Ours,
                token: Some(7),
                plan,
            })
        })
        .collect();
    let mut known = Observation::default();
    let poll = Duration::from_secs(1);
    let mut candidate = Candidate::new(poll, Duration::from_secs(10), Absence::Free, false).phase_locked();
    let (mut looks, mut now) = (0, 0);
    let mut follow = |heartbeats: u64| {
        while now / 2_500 < heartbeats {
            match candidate.next(&known, at(now)) {
                Next::Read(consistency) => {
                    let seen = sightings[usize::try_from(now / 2_500).unwrap()].clone();
                    let sent = SentAt(at(now));
                    known.observe(seen, sent, ReceivedAt(at(now + 10)), consistency);
                    candidate.answered(&known, sent, at(now + 10));
                    looks += 1;
                    now += 10;
                }
                Next::Wait(until) => now = until.nanos() / 1_000_000 - 1_000_000 + 1,
                Next::Claim { .. } => panic!("of a record that is held"),
            }
        }
    };
    // Until it remembers as many versions as it ever will.
    follow(HEARTBEATS / 2);
    let counted = measure(|| follow(HEARTBEATS));
    println!("{looks} looks: {counted:?}");
    assert!(looks >= HEARTBEATS);
    assert_eq!(counted.count_total, 0);
}
