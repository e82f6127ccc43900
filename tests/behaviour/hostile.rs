//! A store that answers with anything but an answer, in the SDK's place for a network: what passes for an answer, what is read
//! of it, what the user is told. What needs bytes on a wire is in the real-time tests.

mod store;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, ErrorKind, Fault, Faults, LockClient, Timing};
use tokio::time::Instant;

use crate::support::{Idle, millis, sleep, within};
use store::{Answer, Hostile, endless, fixed, trickle};

/// A leader and a follower that reach the same store.
struct Pair {
    hostile: Hostile,
    locks: [LockClient; 2],
    electors: [Elector; 2],
}

impl Pair {
    async fn new() -> Self {
        let (engine, hostile) = (Embedded::in_memory().unwrap(), Hostile::default());
        let start = async |seed| {
            let locks = LockClient::builder(&hostile.before(&engine.client()), "locks").share_http_client();
            let locks = locks.create_table().simulated(seed).owner(format!("node-{seed}")).build().await.unwrap();
            let elector = Elector::builder(&locks, "e").build().unwrap();
            drop(elector.start(Idle).unwrap());
            (locks, elector)
        };
        let one = start(1).await;
        within(5_000, one.1.until_leading()).await.unwrap();
        let two = start(2).await;
        within(5_000, two.1.until_leader()).await.unwrap();
        sleep(3_000).await;
        Self { hostile, locks: [one.0, two.0], electors: [one.1, two.1] }
    }

    fn leads(&self) -> [bool; 2] {
        [0, 1].map(|place| self.electors[place].status().borrow().is_leader())
    }

    /// For how long the first one leads on while every answer is this; nobody follows it.
    async fn suffer(&self, answer: Answer, time: u64) -> Duration {
        self.hostile.answer(Some(answer));
        let (began, mut stopped) = (Instant::now(), None);
        while began.elapsed() < millis(time) {
            let [one, two] = self.leads();
            assert!(!two, "the other took over");
            if !one {
                stopped.get_or_insert(began.elapsed());
            }
            sleep(20).await;
        }
        stopped.expect("it led on, by answers that are none")
    }

    /// The store is itself again: one of them leads soon.
    async fn recover(&self, what: &str) {
        self.hostile.answer(None);
        let back = Instant::now();
        while self.leads() == [false, false] {
            sleep(20).await;
            assert!(back.elapsed() <= millis(12_000), "{what}: nobody leads");
        }
        sleep(5_000).await;
        assert!(self.leads() != [true, true], "{what}");
        assert!(self.electors.iter().all(|elector| elector.status().borrow().trouble.is_none()), "{what}");
        for elector in &self.electors {
            within(20_000, elector.shutdown()).await;
        }
    }
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}{}", open.repeat(levels), close.repeat(levels))
}

/// What proxies, other services and attackers say. All of it is heard as if nothing had been said.
fn answers() -> Vec<(&'static str, u16, Vec<u8>)> {
    let error = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"no"}"#;
    let item = |value: &str| format!(r#"{{"Item":{{"x":{value}}},"Attributes":{{"x":{value}}}}}"#).into_bytes();
    vec![
        ("nothing", 200, Vec::new()),
        ("blanks", 200, b" \r\n\t ".to_vec()),
        ("noise", 200, (0..=255_u8).cycle().take(10_000).collect()),
        ("a page", 200, b"<html><body>Please log in</body></html>".to_vec()),
        ("a page of a gateway", 502, b"<html><h1>502 Bad Gateway</h1></html>".to_vec()),
        ("an error without its status", 200, error.as_bytes().to_vec()),
        ("another error without its status", 200, br#"{"message":"Internal server error"}"#.to_vec()),
        ("a probe of another service", 200, br#"{"Status":"UP"}"#.to_vec()),
        ("JSON of another kind", 200, b"[]".to_vec()),
        ("null", 200, b"null".to_vec()),
        ("half an answer", 200, br#"{"Item":{"key":{"S":"e"},"ownerName":{"S":"no"#.to_vec()),
        ("two answers", 200, br#"{"Item":{}}{"Item":{}}"#.to_vec()),
        ("values of no type", 200, item("7")),
        ("values of two types", 200, item(r#"{"S":"a","N":"1"}"#)),
        ("a bomb that is packed", 200, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xed\xc1\x01\x0d".repeat(64)),
        ("maps a hundred thousand deep", 200, item(&nested(r#"{"M":{"x":"#, "}}", 100_000))),
        ("lists a hundred thousand deep", 200, item(&nested(r#"{"L":["#, "]}", 100_000))),
        ("arrays a million deep", 200, format!(r#"{{"Unknown":{}}}"#, nested("[", "]", 1_000_000)).into_bytes()),
        ("an error a hundred thousand deep", 400, nested(r#"{"__type":"#, "}", 100_000).into_bytes()),
        ("moved for good", 301, b"{}".to_vec()),
        ("moved for now", 307, b"{}".to_vec()),
        ("nothing new", 304, Vec::new()),
        ("a status of nobody", 999, b"{}".to_vec()),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_extends_no_lease_and_frees_none() {
    for (what, status, body) in answers() {
        let pair = Pair::new().await;
        let stopped = pair.suffer(fixed(status, body), 13_000).await;
        assert!(stopped <= Timing::default().validity(), "{what}: {stopped:?}");
        for elector in &pair.electors {
            let trouble = elector.status().borrow().trouble.clone().expect(what);
            assert_eq!(trouble.kind, ErrorKind::Unavailable, "{what}: {trouble:?}");
            assert!(trouble.message.len() < 300 && !trouble.message.contains(char::is_control), "{what}: {trouble:?}");
            assert!(elector.health().is_live, "{what}");
        }
        pair.recover(what).await;
    }
}

/// The SDK reads whatever comes to its end. Of what does not end it gets as much as an answer can be.
#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_is_read_to_the_bound_and_no_further() {
    const BOUND: u64 = 16 * 1024 * 1024;
    let pair = Pair::new().await;
    let (longest, total) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stopped = pair.suffer(endless(&longest, &total), 10_000).await;
    assert!(stopped <= Timing::default().validity(), "{stopped:?}");
    let read = longest.load(Ordering::Relaxed);
    assert!(read > BOUND / 2 && read <= BOUND + store::CHUNK, "{read} bytes of one answer were read");
    assert!(total.load(Ordering::Relaxed) > 2 * BOUND, "and that more than once");
    let trouble = pair.electors[0].status().borrow().trouble.clone().unwrap();
    assert_eq!(trouble.kind, ErrorKind::Unavailable, "{trouble:?}");
    pair.recover("no end").await;
}

/// One that says beforehand that it is too long is not read at all.
#[tokio::test(start_paused = true)]
async fn a_body_that_announces_too_much_is_refused() {
    let pair = Pair::new().await;
    let mut body = br#"{"Item":{},"Attributes":{"x":{"S":""#.to_vec();
    body.resize(17 * 1024 * 1024, b'x');
    body.extend_from_slice(br#""}}}"#);
    let stopped = pair.suffer(fixed(200, body), 10_000).await;
    assert!(stopped <= Timing::default().validity(), "valid JSON, and no answer all the same: {stopped:?}");
    pair.recover("17 MB").await;
}

/// A byte at a time: bounded by the time of an attempt, as if nothing came.
#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_given_up_in_time() {
    let pair = Pair::new().await;
    let stopped = pair.suffer(trickle(), 13_000).await;
    assert!(stopped <= Timing::default().validity(), "{stopped:?}");
    let asked = Instant::now();
    let error = pair.locks[1].get("e").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(asked.elapsed() <= Timing::default().operation_timeout() + millis(5), "{:?}", asked.elapsed());
    pair.recover("a trickle").await;
}

/// A lie of the right form is an answer: nobody but the store can tell. A type of content does not make it one, or none.
#[tokio::test(start_paused = true)]
async fn the_type_of_the_content_is_not_what_makes_an_answer() {
    let pair = Pair::new().await;
    pair.hostile.label("text/html");
    sleep(30_000).await;
    assert_eq!(pair.leads(), [true, false]);
    assert!(pair.electors.iter().all(|elector| elector.status().borrow().trouble.is_none()));
}

/// What a server says goes into messages and logs: one line of a bounded length, whatever it is.
#[tokio::test(start_paused = true)]
async fn what_a_server_says_is_told_in_one_short_line() {
    let long = "x".repeat(1_000_000);
    let injected = "no\\n2025-01-01 INFO root logged in\\u001b[2J";
    for (code, message, kind) in [
        ("ValidationException", long.as_str(), ErrorKind::TableUnfit),
        ("ValidationException", injected, ErrorKind::TableUnfit),
        (long.as_str(), "", ErrorKind::Unavailable),
        (injected, "", ErrorKind::Unavailable),
        ("AccessDeniedException", long.as_str(), ErrorKind::AccessDenied),
    ] {
        let pair = Pair::new().await;
        let body = format!(r#"{{"__type":"{code}","message":"{message}"}}"#);
        pair.suffer(fixed(400, body.into_bytes()), 13_000).await;
        let error = pair.locks[1].get("e").await.unwrap_err();
        let trouble = pair.electors[1].status().borrow().trouble.clone().unwrap();
        assert_eq!((error.kind(), trouble.kind), (kind, kind));
        for text in [error.to_string(), trouble.message] {
            assert!(text.len() < 500 && !text.contains(char::is_control), "{text}");
        }
        pair.recover("words").await;
    }
}

/// An answer of the right form with a record in it that nobody can have written.
#[tokio::test(start_paused = true)]
async fn absurd_records_are_malformed_and_never_taken_over() {
    let nines = "9".repeat(400);
    let forty = format!("1{}s", "0".repeat(40));
    let deep = nested(r#"{"L":["#, "]}", 50);
    let many: String = (0..50_000).map(|n| format!(r#""a{n}":{{"NULL":true}},"#)).collect();
    let owner = r#""ownerName":{"S":"x"},"recordVersionNumber":{"S":"v"}"#;
    let ours = r#""stampedVersion":{"S":"1:v"}"#;
    let lease = r#""leaseDuration":{"S":"10s"}"#;
    for (what, item, sound) in [
        ("a number of 400 digits", format!(r#"{owner},{lease},{ours},"fencingToken":{{"N":"{nines}"}}"#), false),
        ("a heartbeat of 400 digits", format!(r#"{owner},{lease},{ours},"heartbeatMillis":{{"N":"-{nines}"}}"#), false),
        ("a lease of ten to the forty", format!(r#"{owner},"leaseDuration":{{"S":"{forty}"}}"#), false),
        ("a lease of 400 digits", format!(r#"{owner},"leaseDuration":{{"S":"{nines}"}}"#), false),
        ("a lease that is a map", format!(r#"{owner},"leaseDuration":{deep}"#), false),
        ("an owner that is a list", format!(r#""ownerName":{deep},"recordVersionNumber":{{"S":"v"}},{lease}"#), false),
        (
            "a version of a megabyte",
            format!(r#""ownerName":{{"S":"x"}},"recordVersionNumber":{{"S":"{}"}},{lease}"#, "v".repeat(1_000_000)),
            true,
        ),
        ("fifty thousand attributes", format!(r#"{many}{owner},{lease}"#), true),
        ("fifty thousand attributes and no record", format!(r#"{many}"x":{{"S":"y"}}"#), false),
        ("a list fifty deep beside a record", format!(r#"{owner},{lease},"x":{deep}"#), true),
    ] {
        let engine = Embedded::in_memory().unwrap();
        let faults = Faults::none();
        let locks = crate::client(&engine, &faults, 1).await;
        let claims = Arc::new(Mutex::new(0));
        let (claimed, body) = (Arc::clone(&claims), format!(r#"{{"Item":{{{item}}}}}"#));
        faults.set(move |call| {
            *claimed.lock().unwrap() += u32::from(call.operation == "UpdateItem");
            Fault::Respond { status: 200, body: body.clone() }
        });
        match locks.get("e").await {
            Ok(record) => assert!(sound && record.is_some(), "{what}"),
            Err(error) => assert!(!sound && error.kind() == ErrorKind::MalformedRecord, "{what}: {error:?}"),
        }
        if !sound {
            let elector = Elector::builder(&locks, "e").build().unwrap();
            let campaign = tokio::time::timeout(millis(30_000), elector.campaign());
            assert!(campaign.await.is_err() && *claims.lock().unwrap() == 0, "{what}: never claimed");
            let trouble = elector.status().borrow().trouble.clone().expect(what);
            assert_eq!(trouble.kind, ErrorKind::MalformedRecord, "{what}");
            assert!(trouble.message.len() < 300, "{what}: {trouble:?}");
        }
    }
}
