//! What must hold beside every other client. Leases are short: theirs 2 s, ours 3 s.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{
    DurationText, Elector, ErrorKind, Fencing, Key, Leadership, LockClient, LockRecord, Service, WorkResult,
};
use tokio::runtime::Runtime;

use super::ours;
use super::peer::{Kind, Peer, Settings};
use crate::server::Server;
use crate::{ShortLived, clock, sdk};

const THEIRS: Duration = Duration::from_secs(2);
const OURS: Duration = Duration::from_secs(3);
const REFRESH: Duration = Duration::from_millis(100);
/// What a busy machine may add to anything.
const SLACK: Duration = Duration::from_millis(900);
/// `aGVsbG8=` is `hello`.
const HELLO: &str = "aGVsbG8=";

/// A table, a peer's dialect, and clients of ours.
pub(super) struct World {
    server: Server,
    runtime: Runtime,
    kind: Kind,
}

impl World {
    pub(super) fn new(kind: &Kind) -> Self {
        let (server, runtime) = (Server::start(), Runtime::new().unwrap());
        let client = sdk(&server.url(), &ShortLived::default());
        runtime.block_on(async {
            for table in ["locks", "journal"] {
                let table = LockClient::builder(&client, table).table().unwrap();
                table.ensure(&dynamo_elector::TableOptions::on_demand()).await.unwrap();
            }
        });
        Self { server, runtime, kind: kind.clone() }
    }

    pub(super) fn settings(&self, owner: &str, lease: Duration, heartbeat: Duration) -> Settings {
        Settings {
            endpoint: self.server.url(),
            table: "locks".into(),
            owner: owner.into(),
            lease,
            heartbeat,
            refresh: REFRESH,
        }
    }

    fn peer(&self) -> Peer {
        self.peer_beating(THEIRS / 4)
    }

    fn peer_beating(&self, heartbeat: Duration) -> Peer {
        Peer::start(&self.kind, &self.settings("theirs", THEIRS, heartbeat), &[])
    }

    fn text(&self) -> DurationText {
        if self.kind.writes_millis() { DurationText::JavaMillis } else { DurationText::Go }
    }

    fn ours(&self) -> LockClient {
        self.client(self.text(), Fencing::Record)
    }

    fn client(&self, text: DurationText, fencing: Fencing) -> LockClient {
        self.runtime.block_on(ours::client(&self.settings("ours", OURS, OURS / 4), text, fencing))
    }

    fn get(&self, locks: &LockClient) -> LockRecord {
        self.runtime.block_on(locks.get("job")).unwrap().expect("a record")
    }
}

fn is_blue(record: &LockRecord) -> bool {
    record.attributes().get("team") == Some(&AttributeValue::S("blue".into()))
}

#[track_caller]
fn assert_within(start: Instant, least: Duration, most: Duration) {
    let took = start.elapsed();
    assert!(took + SLACK / 3 >= least && took <= most + SLACK, "{took:?} is not between {least:?} and {most:?}");
}

/// Read, waited for, acquired at its release; the lease's text follows the record, whatever our setting.
pub(super) fn its_lock_is_read_waited_for_and_acquired_when_released(kind: &Kind) {
    let world = World::new(kind);
    let wrong = if kind.writes_millis() { DurationText::Go } else { DurationText::JavaMillis };
    let locks = world.client(wrong, Fencing::Record);
    let mut peer = world.peer();
    assert_eq!(peer.ask(&format!("acquire job 0 {HELLO} team=blue")), "acquired");
    for _ in 0..3 {
        let record = world.get(&locks);
        assert_eq!((record.owner(), record.lease(), record.data()), ("theirs", THEIRS, Some(&b"hello"[..])));
        assert!(is_blue(&record) && !record.is_released(), "{record:?}");
        assert!(!record.is_expired(), "a live holder is live, at first sight and ever after");
        assert_eq!(record.fencing_token(), None);
        std::thread::sleep(THEIRS / 2);
    }
    world.runtime.block_on(async {
        assert!(locks.try_acquire("job").await.unwrap().is_none());
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.acquire("job").wait_up_to(Duration::from_secs(20)).await }
        });
        tokio::time::sleep(THEIRS + THEIRS / 2).await;
        assert!(!waiting.is_finished(), "its heartbeats are seen");
        let released = clock();
        assert_eq!(peer.ask("release job keep"), "released");
        let lock = waiting.await.unwrap().unwrap();
        assert_within(released, Duration::ZERO, REFRESH);
        assert_eq!(lock.data().as_deref(), Some(&b"hello"[..]));
    });
    let record = world.get(&locks);
    assert_eq!((record.owner(), record.duration_text()), ("ours", world.text()), "its text, not our setting");
    assert!(is_blue(&record));
}

pub(super) fn it_waits_for_ours_and_acquires_it_when_released(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.ours();
    let lock = world.runtime.block_on(async { locks.acquire("job").data("hello").await }).unwrap();
    let mut peer = world.peer();
    let look = peer.ask("get job");
    assert!(look.starts_with("record ours 3000 0 ") && look.ends_with(HELLO), "{look}");
    assert_eq!(peer.ask("try job"), "refused");
    peer.send("acquire job 20000 - -");
    assert_eq!(peer.line(OURS * 2), None, "our heartbeats are seen");
    let released = clock();
    world.runtime.block_on(async { lock.release().await }).unwrap();
    assert_eq!(peer.answer(), "acquired");
    assert_within(released, Duration::ZERO, REFRESH);
    assert_eq!(world.get(&locks).owner(), "theirs");
}

pub(super) fn it_is_taken_over_after_it_died(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.ours();
    let mut peer = world.peer();
    assert_eq!(peer.ask(&format!("acquire job 0 {HELLO} team=blue")), "acquired");
    world.runtime.block_on(async {
        let waiting = tokio::spawn(async move { locks.acquire("job").await });
        tokio::time::sleep(THEIRS).await;
        peer.kill();
        let died = clock();
        let lock = waiting.await.unwrap().unwrap();
        // A quarter more than its lease, since it keeps no margin of its own; the last heartbeat is up to a period old.
        assert_within(died, THEIRS * 5 / 4 - THEIRS / 4, THEIRS * 5 / 4 + REFRESH);
        assert_eq!(lock.data().as_deref(), Some(&b"hello"[..]), "what the dead left is kept");
        assert!(lock.attributes().contains_key("team"));
    });
}

/// R12: tries that do not wait see it expire all the same.
pub(super) fn a_try_each_second_takes_it_over(kind: &Kind) {
    try_takes_over(kind, THEIRS, Duration::from_millis(500));
}

pub(super) fn try_takes_over(kind: &Kind, lease: Duration, every: Duration) {
    let world = World::new(kind);
    let locks = world.ours();
    let mut peer = Peer::start(kind, &world.settings("theirs", lease, lease / 4), &[]);
    assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
    world.runtime.block_on(async {
        assert!(locks.try_acquire("job").await.unwrap().is_none());
        // Until its next heartbeat was seen: that will have been its last.
        let version = |record: Option<LockRecord>| record.expect("a record").version().to_owned();
        let first = version(locks.get("job").await.unwrap());
        let last_beat = loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if version(locks.get("job").await.unwrap()) != first {
                break clock();
            }
        };
        peer.kill();
        while locks.try_acquire("job").await.unwrap().is_none() {
            assert!(last_beat.elapsed() < lease * 3, "never");
            tokio::time::sleep(every).await;
        }
        assert_within(last_beat, lease * 5 / 4, lease * 5 / 4 + every);
    });
}

/// Whether the peer's own try, called again and again, ever takes a dead lock over.
pub(super) fn own_try_takes_over(kind: &Kind) -> bool {
    let world = World::new(kind);
    let (mut dead, mut peer) = (world.peer(), world.peer());
    assert_eq!(dead.ask("acquire job 0 - -"), "acquired");
    dead.kill();
    let died = clock();
    while died.elapsed() < THEIRS * 4 {
        if peer.ask("try job") == "acquired" {
            println!("{} took it over {:?} after its holder died", peer.name, died.elapsed());
            return true;
        }
        std::thread::sleep(THEIRS / 4);
    }
    false
}

pub(super) fn it_takes_over_after_ours_died(kind: &Kind) {
    let world = World::new(kind);
    let text = if kind.writes_millis() { "java" } else { "go" };
    let mut ours = Peer::start(&Kind::Ours, &world.settings("ours", OURS, OURS / 4), &[("PEER_TEXT", text)]);
    assert_eq!(ours.ask(&format!("acquire job 0 {HELLO} team=blue")), "acquired");
    let mut peer = world.peer();
    peer.send("acquire job 20000 - -");
    assert_eq!(peer.line(OURS), None);
    ours.kill();
    let died = clock();
    assert_eq!(peer.answer(), "acquired");
    assert_within(died, OURS - OURS / 4, OURS + REFRESH * 2);
    let record = world.get(&world.ours());
    assert_eq!((record.owner(), record.data()), ("theirs", Some(&b"hello"[..])), "what the dead left is kept");
    assert_eq!(is_blue(&record), kind.keeps_attributes());
}

/// Deleting is how these clients release; the Java client by default.
pub(super) fn what_it_deletes_is_free_at_once(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.ours();
    let mut peer = world.peer();
    assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
    world.runtime.block_on(async {
        let waiting = tokio::spawn(async move { locks.acquire("job").await });
        tokio::time::sleep(THEIRS / 2).await;
        assert_eq!(peer.ask("release job delete"), "released");
        let released = clock();
        assert!(waiting.await.unwrap().unwrap().is_valid());
        assert_within(released, Duration::ZERO, REFRESH);
    });
}

struct Idle;

impl Service for Idle {
    async fn on_elected(&mut self, _: Leadership) -> WorkResult {
        Ok(())
    }
}

/// An election beside it: what our leader announces means nothing to it, and what it leaves of that in its own record means
/// nothing to our followers.
pub(super) fn an_announced_end_is_harmless_to_it(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.client(world.text(), Fencing::FenceRecord);
    let mut peer = world.peer();
    let elector = world.runtime.block_on(async {
        let elector = Elector::builder(&locks, "job").build().unwrap();
        drop(elector.start(Idle).unwrap());
        tokio::time::timeout(OURS, elector.until_leading()).await.unwrap().unwrap();
        elector
    });
    peer.send("acquire job 20000 - -");
    assert_eq!(peer.line(OURS), None, "our heartbeats are seen");
    let handed_over = world.runtime.spawn({
        let elector = elector.clone();
        async move { elector.hand_over().await }
    });
    let announced = clock();
    while world.get(&locks).ending().is_none() {
        assert!(announced.elapsed() < SLACK, "it is not announced");
        std::thread::sleep(Duration::from_millis(5));
    }
    while elector.status().borrow().is_leader() {
        assert_eq!(peer.line(Duration::from_millis(5)), None, "it does not count what was announced");
    }
    assert!(announced.elapsed() > REFRESH);
    let released = clock();
    assert_eq!(peer.answer(), "acquired");
    assert_within(released, Duration::ZERO, REFRESH);
    assert!(world.runtime.block_on(handed_over).is_ok());

    for _ in 0..3 {
        let record = world.get(&locks);
        assert_eq!((record.owner(), record.ending(), record.heartbeat()), ("theirs", None, None), "it plans nothing");
        std::thread::sleep(THEIRS / 2);
    }
    assert!(!elector.status().borrow().is_leader());
    assert_eq!(peer.ask("release job keep"), "released");
    world.runtime.block_on(async {
        tokio::time::timeout(OURS, elector.until_leading()).await.unwrap().unwrap();
        elector.shutdown().await;
    });
}

pub(super) fn it_notices_that_it_was_taken_over(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.ours();
    let mut silent = world.peer_beating(Duration::ZERO);
    assert_eq!(silent.ask("acquire job 0 - -"), "acquired");
    let lock = world.runtime.block_on(async { locks.acquire("job").await }).unwrap();
    assert_eq!(silent.ask("believes job"), "no", "we waited longer than it believes");
    // Its client may refuse by itself, or ask the table.
    let late = silent.ask("beat job -");
    assert!(late == "lost" || late.starts_with("error"), "{late}");
    assert_eq!(silent.ask("release job keep"), "lost");
    std::thread::sleep(OURS);
    assert!(lock.is_valid(), "nothing of it harms the new holder");
}

pub(super) fn an_operator_takes_its_lock_away(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.ours();
    let mut peer = world.peer_beating(Duration::ZERO);
    assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
    assert_eq!(peer.ask("beat job -"), "ok");
    world.runtime.block_on(async {
        let record = locks.force_release("job").await.unwrap().expect("a record");
        assert!(record.is_released() && record.owner() == "theirs", "{record:?}");
        assert_eq!(peer.ask("beat job -"), "lost", "its next heartbeat tells it");
        assert!(locks.try_acquire("job").await.unwrap().is_some(), "free at once");
    });
}

pub(super) fn data_and_attributes_survive_both_ways(kind: &Kind) {
    let world = World::new(kind);
    let locks = world.ours();
    let mut peer = world.peer();
    assert_eq!(peer.ask(&format!("acquire job 0 {HELLO} team=blue")), "acquired");
    assert_eq!(peer.ask("release job keep"), "released");
    world.runtime.block_on(async {
        let region = AttributeValue::S("eu".into());
        let lock = locks.acquire("job").attribute("region", region).await.unwrap();
        assert_eq!(lock.data().as_deref(), Some(&b"hello"[..]));
        lock.release().await.unwrap();
    });
    let record = world.get(&locks);
    assert!(is_blue(&record) && record.attributes().len() == 2, "{:?}", record.attributes());
    assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
    assert_eq!(peer.ask("beat job d29ybGQ="), "ok");
    let record = world.get(&locks);
    assert_eq!(record.data(), Some(&b"world"[..]));
    let kept = if kind.keeps_attributes() { 2 } else { 0 };
    assert_eq!(record.attributes().len(), kept, "{:?}", record.attributes());
    assert_eq!(peer.ask("beat job delete"), "ok");
    assert_eq!(peer.ask("release job keep"), "released");
    let lock = world.runtime.block_on(async { locks.acquire("job").await }).unwrap();
    assert_eq!((lock.data(), lock.attributes().len()), (None, kept));
}

/// Each of our terms is a fresh client, which remembers nothing.
pub(super) fn tokens_rise_across_its_terms(kind: &Kind) {
    let world = World::new(kind);
    let mut peer = world.peer();
    let term = |fencing| {
        let locks = world.client(world.text(), fencing);
        world.runtime.block_on(async {
            let lock = locks.acquire("job").await.unwrap();
            let token = lock.fencing_token();
            lock.release().await.unwrap();
            token
        })
    };
    let mut last = 0;
    let mut rises = |token: u64| {
        assert!(token > last, "{token} after {last}");
        last = token;
    };
    for _ in 0..2 {
        assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
        assert_eq!(peer.ask("beat job -"), "ok");
        assert_eq!(peer.ask("release job keep"), "released");
        rises(term(Fencing::FenceRecord).unwrap());
    }
    assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
    assert_eq!(peer.ask("release job delete"), "released");
    rises(term(Fencing::FenceRecord).unwrap());

    // It looks, three of our terms pass, and then it writes what it saw at first.
    let locks = world.client(world.text(), Fencing::FenceRecord);
    world.runtime.block_on(async {
        let mut lock = locks.acquire("job").await.unwrap();
        peer.send("acquire job 20000 - -");
        tokio::time::sleep(REFRESH * 5).await;
        for _ in 0..2 {
            rises(lock.fencing_token().unwrap());
            lock.release().await.unwrap();
            match locks.try_acquire("job").await.unwrap() {
                Some(next) => lock = next,
                None => return,
            }
            tokio::time::sleep(REFRESH * 5).await;
        }
        rises(lock.fencing_token().unwrap());
        lock.release().await.unwrap();
    });
    assert_eq!(peer.answer(), "acquired");
    assert_eq!(peer.ask("release job keep"), "released");
    rises(term(Fencing::FenceRecord).unwrap());

    assert_eq!(peer.ask("acquire job 0 - -"), "acquired");
    assert_eq!(peer.ask("release job keep"), "released");
    assert_eq!(term(Fencing::Record).unwrap_err().kind(), ErrorKind::NoFencing, "no number rather than an old one");
    let listed = world.runtime.block_on(async {
        use futures::TryStreamExt;
        world.client_of_listing().await.list().try_collect::<Vec<_>>().await.unwrap()
    });
    let keys: Vec<&Key> = listed.iter().map(LockRecord::key).collect();
    assert_eq!(keys, [&Key::from("job")], "fence records are no locks");
}

impl World {
    async fn client_of_listing(&self) -> LockClient {
        ours::client(&self.settings("ours", OURS, OURS / 4), self.text(), Fencing::Record).await
    }
}
