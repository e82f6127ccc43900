//! A scripted Go peer: the requests that dynamolock v5.0.0 really sent (captured, with its answers, in
//! `dynamolock-v5.0.0.requests.jsonl`), with key, owner, lease, versions and data filled in, in the order of its algorithm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::peer::{Settings, Verbs, attributes, nanos, serve};

/// Its lines, from 0: what the program was doing when each was sent stands in the capture.
mod captured {
    pub(super) const GET: usize = 1;
    pub(super) const PUT_FREE: usize = 14;
    pub(super) const PUT_EXPIRED: usize = 19;
    pub(super) const BEAT: usize = 3;
    pub(super) const BEAT_WITH_DATA: usize = 4;
    pub(super) const BEAT_WITHOUT_DATA: usize = 5;
    pub(super) const RELEASE: usize = 6;
    pub(super) const DELETE: usize = 12;
}

struct Capture {
    requests: Vec<Value>,
}

impl Capture {
    fn load() -> Self {
        let lines = include_str!("dynamolock-v5.0.0.requests.jsonl").lines();
        Self { requests: lines.map(|line| serde_json::from_str(line).unwrap()).collect() }
    }

    /// The request of `line` with these places filled in; each place is one that was captured.
    fn fill(&self, line: usize, table: &str, places: &[(&str, Value)]) -> (String, Value) {
        let captured = &self.requests[line];
        let mut request = captured["request"].clone();
        for (place, value) in places.iter().chain([&("/TableName", json!(table))]) {
            *request.pointer_mut(place).unwrap_or_else(|| panic!("line {line} has no {place}")) = value.clone();
        }
        (captured["operation"].as_str().unwrap().to_owned(), request)
    }
}

/// What it knows of a lock that it holds.
#[derive(Debug, Clone)]
struct Held {
    version: String,
    /// Its lease counts from here.
    lookup: Instant,
    /// Its client stops beating what it found lost, and does not tell the lock.
    beats: bool,
}

/// What is not an additional attribute to it.
const OWN: [&str; 6] = ["key", "ownerName", "leaseDuration", "recordVersionNumber", "isReleased", "data"];

#[derive(Debug, PartialEq, Eq)]
enum Put {
    Applied,
    Refused,
}

#[derive(Clone)]
struct Go {
    settings: Settings,
    runtime: Arc<Runtime>,
    http: Client<HttpConnector, Full<Bytes>>,
    capture: Arc<Capture>,
    held: Arc<Mutex<HashMap<String, Held>>>,
    /// Heartbeats and releases take turns, as there.
    turn: Arc<Mutex<()>>,
}

pub(super) fn main() {
    let go = Go {
        settings: Settings::from_env(),
        runtime: Arc::new(Runtime::new().unwrap()),
        http: Client::builder(TokioExecutor::new()).build_http(),
        capture: Arc::new(Capture::load()),
        held: Arc::default(),
        turn: Arc::default(),
    };
    if !go.settings.heartbeat.is_zero() {
        let beating = go.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(beating.settings.heartbeat);
                let keys: Vec<String> = beating.held.lock().unwrap().keys().cloned().collect();
                for key in keys {
                    // A failed heartbeat is logged and tried again by the next round, as there.
                    let _ = beating.beat(&key, "-");
                }
            }
        });
    }
    serve("dynamolock-scripted", "v5.0.0", &mut { go });
}

#[allow(clippy::disallowed_methods, reason = "the peer measures real time")]
fn clock() -> Instant {
    Instant::now()
}

fn text(value: &str) -> Value {
    json!({ "S": value })
}

impl Go {
    fn send(&self, (operation, body): (String, Value)) -> Result<Value, String> {
        let request = hyper::Request::post(&self.settings.endpoint)
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        self.runtime.block_on(async {
            let response = self.http.request(request).await.map_err(|error| error.to_string())?;
            let applied = response.status().is_success();
            let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            if applied { serde_json::from_str(&body).map_err(|error| error.to_string()) } else { Err(body) }
        })
    }

    /// A conditional write: whether its condition held.
    fn put(&self, request: (String, Value)) -> Result<Put, String> {
        match self.send(request) {
            Ok(_) => Ok(Put::Applied),
            Err(error) if error.contains("ConditionalCheckFailed") => Ok(Put::Refused),
            Err(error) => Err(error),
        }
    }

    fn key(key: &str) -> (&'static str, Value) {
        ("/Key/key", text(key))
    }

    /// `<nanoseconds>:<52 base32 characters>`.
    fn version() -> String {
        const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let random = std::iter::repeat_with(|| char::from(BASE32[fastrand::usize(0..32)])).take(52);
        format!("{}:{}", nanos(), random.collect::<String>())
    }

    fn lease_text(&self) -> Value {
        let seconds = self.settings.lease.as_secs_f64();
        assert!(seconds < 60.0, "Go writes minutes otherwise");
        text(&format!("{seconds}s"))
    }

    fn read(&self, key: &str) -> Result<Option<Value>, String> {
        let answer = self.send(self.capture.fill(captured::GET, &self.settings.table, &[Self::key(key)]))?;
        Ok(answer.get("Item").filter(|item| !item.is_null()).cloned())
    }

    /// The claim: a whole new item, with these additional attributes and the data of the one that was read.
    fn claim(
        &self,
        line: usize,
        key: &str,
        found: Option<&Value>,
        data: &str,
        attributes: &Map<String, Value>,
    ) -> Result<bool, String> {
        let version = Self::version();
        let mut places = vec![
            ("/Item/key", text(key)),
            ("/Item/ownerName", text(&self.settings.owner)),
            ("/Item/leaseDuration", self.lease_text()),
            ("/Item/recordVersionNumber", text(&version)),
        ];
        if line == captured::PUT_EXPIRED {
            let old = found.expect("an expired record was read");
            places.push(("/ExpressionAttributeValues/:0", old["recordVersionNumber"].clone()));
        }
        let (operation, mut request) = self.capture.fill(line, &self.settings.table, &places);
        let item = request["Item"].as_object_mut().unwrap();
        item.extend(attributes.clone());
        let kept = found.and_then(|found| found.get("data")).filter(|_| data == "-").cloned();
        if let Some(data) = kept.or_else(|| (data != "-").then(|| json!({ "B": data }))) {
            item.insert("data".into(), data);
        }
        let sent = clock();
        let applied = self.put((operation, request))? == Put::Applied;
        if applied {
            self.held.lock().unwrap().insert(key.to_owned(), Held { version, lookup: sent, beats: true });
        }
        Ok(applied)
    }

    /// Its loop: look, claim what is free, wait for the lease of the record that was found, and for the time on top.
    ///
    /// What an earlier look found among the additional attributes beats what is there now: its own merge works that
    /// way, and so brings old ones back.
    fn acquire(&self, key: &str, wait: Duration, data: &str, more: &[(String, String)]) -> Result<bool, String> {
        let start = clock();
        let mut allowed = wait;
        let mut watched: Option<(Value, Instant, Duration)> = None;
        let mut attributes: Map<String, Value> = more.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        loop {
            let found = self.read(key)?;
            for (name, value) in found.as_ref().and_then(Value::as_object).into_iter().flatten() {
                if !OWN.contains(&name.as_str()) {
                    attributes.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            let line = match &found {
                None => Some(captured::PUT_FREE),
                Some(item) => {
                    let lease = go_duration(item["leaseDuration"]["S"].as_str().unwrap_or_default())?;
                    let version = &item["recordVersionNumber"];
                    match &watched {
                        _ if item.get("isReleased").is_some() => Some(captured::PUT_FREE),
                        Some((seen, since, lease)) if seen == version => {
                            (clock().duration_since(*since) > *lease).then_some(captured::PUT_EXPIRED)
                        }
                        _ => {
                            if watched.is_none() {
                                allowed += lease;
                            }
                            watched = Some((version.clone(), clock(), lease));
                            None
                        }
                    }
                }
            };
            if let Some(line) = line {
                if self.claim(line, key, found.as_ref(), data, &attributes)? {
                    return Ok(true);
                }
            } else if start.elapsed() > allowed {
                return Ok(false);
            }
            std::thread::sleep(self.settings.refresh);
        }
    }

    /// `FailIfLocked`: a record that is held is a refusal, whoever holds it and for however long.
    fn try_once(&self, key: &str) -> Result<bool, String> {
        let found = self.read(key)?;
        if found.as_ref().is_some_and(|item| item.get("isReleased").is_none()) {
            return Ok(false);
        }
        let mut attributes = found.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        attributes.retain(|name, _| !OWN.contains(&name.as_str()));
        self.claim(captured::PUT_FREE, key, found.as_ref(), "-", &attributes)
    }

    fn beat(&self, key: &str, data: &str) -> Result<bool, String> {
        let _turn = self.turn.lock().unwrap();
        let Some(held) = self.held.lock().unwrap().get(key).cloned().filter(|held| held.beats) else {
            return Ok(false);
        };
        if held.lookup.elapsed() > self.settings.lease {
            return Ok(false);
        }
        let new = Self::version();
        let mut places = vec![
            Self::key(key),
            ("/ExpressionAttributeValues/:0", text(&held.version)),
            ("/ExpressionAttributeValues/:1", text(&self.settings.owner)),
            ("/ExpressionAttributeValues/:2", self.lease_text()),
            ("/ExpressionAttributeValues/:3", text(&new)),
        ];
        let line = match data {
            "-" => captured::BEAT,
            "delete" => captured::BEAT_WITHOUT_DATA,
            data => {
                places.push(("/ExpressionAttributeValues/:4", json!({ "B": data })));
                captured::BEAT_WITH_DATA
            }
        };
        let sent = clock();
        let applied = self.put(self.capture.fill(line, &self.settings.table, &places))? == Put::Applied;
        let mut locks = self.held.lock().unwrap();
        if applied {
            locks.insert(key.to_owned(), Held { version: new, lookup: sent, beats: true });
        } else if let Some(lost) = locks.get_mut(key) {
            lost.beats = false;
        }
        Ok(applied)
    }

    fn release(&self, key: &str, delete: bool) -> Result<bool, String> {
        let _turn = self.turn.lock().unwrap();
        let Some(held) = self.held.lock().unwrap().remove(key) else { return Ok(false) };
        let line = if delete { captured::DELETE } else { captured::RELEASE };
        let places = [
            Self::key(key),
            ("/ExpressionAttributeValues/:0", text(&held.version)),
            ("/ExpressionAttributeValues/:1", text(&self.settings.owner)),
        ];
        Ok(self.put(self.capture.fill(line, &self.settings.table, &places))? == Put::Applied)
    }

    fn believes(&self, key: &str) -> bool {
        let locks = self.held.lock().unwrap();
        locks.get(key).is_some_and(|held| held.lookup.elapsed() <= self.settings.lease)
    }

    /// `Get` gives a foreign lock no lookup time, so it counts as expired whatever its holder does.
    fn get(&self, key: &str) -> Result<String, String> {
        let Some(item) = self.read(key)? else { return Ok("absent".into()) };
        let field = |name: &str| item[name]["S"].as_str().unwrap_or("-").to_owned();
        let released = u8::from(item["isReleased"] == text("1"));
        let lease = go_duration(&field("leaseDuration"))?.as_millis();
        let data = item["data"]["B"].as_str().unwrap_or("-");
        let expired = u8::from(!self.believes(key));
        Ok(format!("record {} {lease} {released} {expired} {data}", field("ownerName")))
    }

    fn contend(&self, key: &str, hold: Duration, pause: Duration) -> ! {
        std::thread::spawn(|| {
            std::io::stdin().lines().for_each(drop);
            std::process::exit(0);
        });
        loop {
            match self.acquire(key, Duration::from_secs(3_600), "-", &[]) {
                Ok(true) => {
                    println!("from {} -", nanos());
                    let start = clock();
                    while self.believes(key) && start.elapsed() < hold {
                        println!("tick {}", nanos());
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    println!("to {}", nanos());
                    let _ = self.release(key, false);
                }
                Ok(false) => println!("error refused"),
                Err(error) => println!("error {}", error.replace('\n', " ")),
            }
            std::thread::sleep(pause);
        }
    }
}

/// What Go's own parser makes of a lease; digits alone are an error to it.
fn go_duration(text: &str) -> Result<Duration, String> {
    let broken = || format!("cannot parse lease duration {text:?}");
    let (digits, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(broken)?);
    let number: f64 = digits.parse().map_err(|_| broken())?;
    match unit {
        "s" => Ok(Duration::from_secs_f64(number)),
        "ms" => Ok(Duration::from_secs_f64(number / 1_000.0)),
        _ => Err(broken()),
    }
}

impl Verbs for Go {
    fn execute(&mut self, verb: &str, arguments: &[&str]) -> Result<String, String> {
        let said = |yes: bool, words: [&str; 2]| Ok(words[usize::from(!yes)].to_owned());
        let millis = |text: &str| Duration::from_millis(text.parse().unwrap());
        match (verb, arguments) {
            ("acquire", [key, wait, data, more]) => {
                said(self.acquire(key, millis(wait), data, &attributes(more))?, ["acquired", "refused"])
            }
            ("try", [key]) => said(self.try_once(key)?, ["acquired", "refused"]),
            ("beat", [key, data]) => said(self.beat(key, data)?, ["ok", "lost"]),
            ("release", [key, mode]) => said(self.release(key, *mode == "delete")?, ["released", "lost"]),
            ("believes", [key]) => said(self.believes(key), ["yes", "no"]),
            ("get", [key]) => self.get(key),
            ("contend", [key, hold, pause]) => self.contend(key, millis(hold), millis(pause)),
            _ => Err(format!("not a command: {verb} {arguments:?}")),
        }
    }
}
