//! The driver's half of the protocol in `bench/README.md`, for any lock client in Rust.

use std::collections::HashMap;
use std::future::Future;
use std::io::{BufRead, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::clock::now;

/// How many acquisitions of `hold` are under way at once.
const AT_ONCE: usize = 16;
/// Two looks further apart than this had a pause between them.
const PAUSE: u64 = 200_000_000;

/// What the environment asks for.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: String,
    pub(crate) table: String,
    pub(crate) owner: String,
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    /// `None`: the client's default.
    pub(crate) poll: Option<Duration>,
    /// `None`: as long as the client's SDK takes.
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) look: Duration,
}

impl Settings {
    /// Ends the process with a message if something is missing.
    pub(crate) fn from_env() -> Self {
        let optional = |name: &str| std::env::var(name).ok();
        let text = |name: &str| optional(name).unwrap_or_else(|| fail(&format!("{name} is not set")));
        let millis = |name: &str, text: String| match text.parse() {
            Ok(number) => Duration::from_millis(number),
            Err(_) => fail(&format!("{name} is no number of milliseconds: {text}")),
        };
        Self {
            endpoint: text("PEER_ENDPOINT"),
            table: text("PEER_TABLE"),
            owner: text("PEER_OWNER"),
            lease: millis("PEER_LEASE_MS", text("PEER_LEASE_MS")),
            heartbeat: millis("PEER_HEARTBEAT_MS", text("PEER_HEARTBEAT_MS")),
            poll: optional("PEER_POLL_MS").map(|text| millis("PEER_POLL_MS", text)),
            attempt_timeout: optional("PEER_ATTEMPT_TIMEOUT_MS").map(|text| millis("PEER_ATTEMPT_TIMEOUT_MS", text)),
            look: millis("PEER_LOOK_MS", optional("PEER_LOOK_MS").unwrap_or_else(|| "5".into())),
        }
    }
}

pub(crate) fn fail(message: &str) -> ! {
    eprintln!("driver: {message}");
    std::process::exit(2)
}

/// What the driver says of its client when it is ready.
pub(crate) struct About<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    /// What it can do beyond acquiring and releasing.
    pub(crate) offers: &'a [&'a str],
    /// Validity and guard, of a client that says until when it tells of a loss.
    pub(crate) promise: Option<(Duration, Duration)>,
}

/// What a driver needs of a lock client.
pub(crate) trait Client: Sized + Send + Sync + 'static {
    type Held: Held;
    /// A client of its own with the same settings and another name.
    fn another(&self, owner: String) -> impl Future<Output = Result<Self, String>> + Send;
    /// Waits until it is acquired.
    fn acquire(&self, key: &str) -> impl Future<Output = Result<Self::Held, String>> + Send;
    /// One attempt without waiting.
    fn attempt(&self, key: &str) -> impl Future<Output = Result<Option<Self::Held>, String>> + Send;
}

pub(crate) type Told = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A lock or leadership that was acquired.
pub(crate) trait Held: Send + Sync + 'static {
    /// What the client says when it is asked whether it still holds.
    fn holds(&self) -> bool;
    /// How long it still counts on it without another answer; `None` from a client that does not say.
    fn remaining(&self) -> Option<Duration> {
        None
    }
    /// Done when the client tells by itself that it is lost; `None` if it never does.
    fn told(&self) -> Option<Told>;
    fn release(self, keep: bool) -> impl Future<Output = Result<(), String>> + Send;
}

fn print(line: &Value) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: the end of the input ends this process.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

struct Entry<H> {
    held: H,
    number: u64,
    held_at_last_look: bool,
    /// Until when the client counted on it at the last look that said yes.
    until: Option<u64>,
    was_told: bool,
}

fn print_lost(at: u64, key: &str, until: Option<u64>) {
    let mut line = json!({ "event": "lost", "at": at, "key": key });
    if let Some(until) = until {
        line["until"] = until.into();
    }
    print(&line);
}

struct Driver<C: Client> {
    client: C,
    owner: String,
    held: Mutex<HashMap<String, Entry<C::Held>>>,
}

/// Obeys standard input until it ends.
pub(crate) async fn serve<C: Client>(about: About<'_>, settings: &Settings, client: C) {
    let driver = Arc::new(Driver { client, owner: settings.owner.clone(), held: Mutex::default() });
    let (watched, every) = (Arc::clone(&driver), settings.look);
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        // Some clients release what is dropped on the runtime that they are dropped in.
        let _inside = runtime.enter();
        watched.look(every);
    });
    let (sender, mut commands) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == "quit" || sender.send(line).is_err() {
                break;
            }
        }
        // Nothing may run any more that could touch a lock.
        std::process::exit(0);
    });
    let About { name, version, offers, promise } = about;
    let mut ready = json!({ "event": "ready", "at": now(), "name": name, "version": version, "offers": offers });
    if let Some((validity, guard)) = promise {
        ready["validity"] = nanos(validity).into();
        ready["guard"] = nanos(guard).into();
    }
    print(&ready);
    while let Some(line) = commands.recv().await {
        let driver = Arc::clone(&driver);
        tokio::spawn(async move {
            if let Err(text) = driver.obey(&line).await {
                print(&json!({ "event": "error", "at": now(), "command": line, "text": text }));
            }
        });
    }
}

impl<C: Client> Driver<C> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry<C::Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn obey(self: &Arc<Self>, line: &str) -> Result<(), String> {
        let asked = now();
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["acquire", key] => self.keep(key, asked, self.client.acquire(key).await?),
            ["try", key] => match self.client.attempt(key).await? {
                Some(held) => self.keep(key, asked, held),
                None => print(&json!({ "event": "refused", "at": now(), "asked": asked, "key": key })),
            },
            ["release", key] => self.release(key, asked, false).await?,
            ["release", key, "keep"] => self.release(key, asked, true).await?,
            ["hold", prefix, count] => self.hold(prefix, count, asked).await?,
            ["follow", key, count] => self.follow(key, count, asked).await?,
            ["status"] => {
                let holds = self.lock().values().filter(|entry| entry.held.holds()).count();
                print(&json!({ "event": "status", "at": now(), "holds": holds }));
            }
            _ => return Err("not a command".into()),
        }
        Ok(())
    }

    fn keep(self: &Arc<Self>, key: &str, asked: u64, held: C::Held) {
        let at = now();
        let told = held.told();
        self.lock()
            .insert(key.into(), Entry { held, number: at, held_at_last_look: true, until: None, was_told: false });
        print(&json!({ "event": "acquired", "at": at, "asked": asked, "key": key }));
        let (driver, key) = (Arc::clone(self), key.to_owned());
        if let Some(told) = told {
            tokio::spawn(async move {
                told.await;
                let at_once = now();
                if let Some(entry) = driver.lock().get_mut(&key).filter(|entry| entry.number == at && !entry.was_told) {
                    entry.was_told = true;
                    print_lost(at_once, &key, entry.until);
                }
            });
        }
    }

    async fn release(&self, key: &str, asked: u64, keep: bool) -> Result<(), String> {
        let entry = self.lock().remove(key).ok_or("not held")?;
        entry.held.release(keep).await?;
        print(&json!({ "event": "released", "at": now(), "asked": asked, "key": key }));
        Ok(())
    }

    async fn hold(self: &Arc<Self>, prefix: &str, count: &str, asked: u64) -> Result<(), String> {
        let count: usize = count.parse().map_err(|_| "not a number")?;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        for number in 0..count {
            let turn = Arc::clone(&turns).acquire_owned().await.map_err(|error| error.to_string())?;
            let (driver, key) = (Arc::clone(self), format!("{prefix}{number}"));
            tokio::spawn(async move {
                match driver.client.acquire(&key).await {
                    Ok(held) => driver.keep(&key, asked, held),
                    Err(text) => print(
                        &json!({ "event": "error", "at": now(), "command": format!("acquire {key}"), "text": text }),
                    ),
                }
                drop(turn);
            });
        }
        Ok(())
    }

    async fn follow(self: &Arc<Self>, key: &str, count: &str, asked: u64) -> Result<(), String> {
        let count: usize = count.parse().map_err(|_| "not a number")?;
        for number in 0..count {
            let client = self.client.another(format!("{}-{number}", self.owner)).await?;
            let (driver, key) = (Arc::clone(self), key.to_owned());
            tokio::spawn(async move {
                match client.acquire(&key).await {
                    Ok(held) => driver.keep(&key, asked, held),
                    Err(text) => {
                        print(
                            &json!({ "event": "error", "at": now(), "command": format!("follow {key}"), "text": text }),
                        );
                    }
                }
            });
        }
        print(&json!({ "event": "following", "at": now(), "asked": asked, "key": key, "count": count }));
        Ok(())
    }

    /// What user code that asks all the time gets to hear. A look that changes its answer, or comes after a pause, is told.
    fn look(&self, every: Duration) {
        let mut last = now();
        loop {
            let at = now();
            let pause = at - last;
            last = at;
            let mut gone = Vec::new();
            let mut entries = self.lock();
            for (key, entry) in entries.iter_mut() {
                let from = now();
                let (holds, remaining) = (entry.held.holds(), entry.held.remaining());
                if let Some(remaining) = remaining.filter(|remaining| holds && !remaining.is_zero()) {
                    entry.until = Some(from.saturating_add(nanos(remaining)));
                }
                if holds != entry.held_at_last_look || pause > PAUSE {
                    print(&json!({ "event": "look", "at": from, "key": key, "holds": holds, "pause": pause }));
                }
                entry.held_at_last_look = holds;
                if !holds && !entry.was_told && entry.held.told().is_none() {
                    entry.was_told = true;
                    print_lost(from, key, entry.until);
                }
                if !holds && entry.was_told {
                    gone.push(key.clone());
                }
            }
            let dropped: Vec<_> = gone.iter().map(|key| entries.remove(key)).collect();
            drop(entries);
            drop(dropped);
            std::thread::sleep(every);
        }
    }
}
