//! A lock client in a process of its own, driven through its standard input and output: see `bench/README.md`.

pub(crate) mod kind;
mod usage;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use crate::network::{Line, Network};
pub(crate) use kind::{Kind, Timeouts};
pub(crate) use usage::Usage;

/// The Java virtual machine takes its time on a busy host.
const START_WITHIN: Duration = Duration::from_secs(60);

/// What a driver says.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    Ready {
        name: String,
        version: String,
        offers: Vec<String>,
        #[serde(flatten)]
        promise: Option<Promise>,
    },
    Acquired {
        at: u64,
        key: String,
    },
    Released {
        at: u64,
        key: String,
    },
    Lost {
        at: u64,
        key: String,
        /// Until when the client counted on it, of one that says so.
        until: Option<u64>,
    },
    Look {
        at: u64,
        key: String,
        holds: bool,
    },
    /// So many clients of their own wait from now on.
    Following {
        count: usize,
    },
    Error {
        command: Option<String>,
        text: String,
    },
    /// What no scenario asks for.
    #[serde(other)]
    Other,
}

/// Until when a client says that user code is told, counted from the send of the last write that was answered; nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Promise {
    pub(crate) validity: u64,
    /// What user code may be late by.
    pub(crate) guard: u64,
}

/// What a scenario fixes; the rest is the client's own default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    /// From one look of the driver at what it holds to the next.
    pub(crate) look: Duration,
}

impl Lease {
    pub(crate) fn millis(lease: u64, heartbeat: u64) -> Self {
        let look = Duration::from_millis(5);
        Self { lease: Duration::from_millis(lease), heartbeat: Duration::from_millis(heartbeat), look }
    }
}

impl Default for Lease {
    /// This crate's default profile.
    fn default() -> Self {
        Self::millis(10_000, 2_500)
    }
}

/// Killed when dropped.
pub(crate) struct Peer {
    pub(crate) line: Line,
    pub(crate) version: String,
    /// Of the client, if it makes one.
    pub(crate) promise: Option<Promise>,
    offers: Vec<String>,
    child: Child,
    input: ChildStdin,
    events: watch::Receiver<Vec<Event>>,
}

/// How many events there were at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl Peer {
    pub(crate) async fn start(kind: &Kind, network: &Network, settings: Lease) -> anyhow::Result<Self> {
        let line = network.line().await?;
        let mut command = Command::new(&kind.command[0]);
        command.args(&kind.command[1..]).env("PEER_ENDPOINT", format!("http://{}", line.address));
        command.env("PEER_TABLE", &kind.table).env("PEER_OWNER", format!("client-{}", line.client));
        let millis = |duration: Duration| duration.as_millis().to_string();
        command.env("PEER_LEASE_MS", millis(settings.lease)).env("PEER_HEARTBEAT_MS", millis(settings.heartbeat));
        command.env("PEER_LOOK_MS", millis(settings.look));
        if kind.timeouts == Timeouts::Set {
            // A tenth of the lease, as this crate has by default.
            command.env("PEER_ATTEMPT_TIMEOUT_MS", millis(settings.lease / 10));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{:?} does not start", kind.command))?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        let (told, events) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(event) => told.send_modify(|events: &mut Vec<Event>| events.push(event)),
                    Err(error) => eprintln!("not an event, {error}: {line}"),
                }
            }
        });
        let mut peer = Self { line, version: String::new(), promise: None, offers: Vec::new(), child, input, events };
        let ready = |event: &Event| match event {
            Event::Ready { name, version, offers, promise } => {
                Some((format!("{name} {version}"), offers.clone(), *promise))
            }
            _ => None,
        };
        (peer.version, peer.offers, peer.promise) =
            peer.until(Mark(0), START_WITHIN, ready).await.context("not ready")?;
        Ok(peer)
    }

    pub(crate) fn offers(&self, what: &str) -> bool {
        self.offers.iter().any(|offer| offer == what)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.events.borrow().len())
    }

    /// Sends a command; what is said from now on comes after the mark.
    pub(crate) async fn say(&mut self, command: &str) -> anyhow::Result<Mark> {
        let mark = self.mark();
        self.input.write_all(format!("{command}\n").as_bytes()).await.context("the driver is gone")?;
        self.input.flush().await?;
        Ok(mark)
    }

    /// The first event after the mark that `find` accepts. Errors that the driver tells on the way are errors here.
    pub(crate) async fn until<T: Send>(
        &self,
        mark: Mark,
        within: Duration,
        find: impl Fn(&Event) -> Option<T> + Send + Sync,
    ) -> anyhow::Result<T> {
        self.if_within(mark, within, find).await?.with_context(|| format!("no answer within {within:?}"))
    }

    /// The same, and `None` if there is no such event in this time.
    pub(crate) async fn if_within<T: Send>(
        &self,
        mark: Mark,
        within: Duration,
        find: impl Fn(&Event) -> Option<T> + Send + Sync,
    ) -> anyhow::Result<Option<T>> {
        let mut events = self.events.clone();
        let search = |events: &Vec<Event>| -> Option<anyhow::Result<T>> {
            events[mark.0..].iter().find_map(|event| match (find(event), event) {
                (Some(found), _) => Some(Ok(found)),
                (None, Event::Error { text, .. }) => Some(Err(anyhow!("the driver says: {text}"))),
                _ => None,
            })
        };
        let waited = tokio::time::timeout(within, events.wait_for(|events| search(events).is_some())).await;
        match waited {
            Ok(Ok(events)) => search(&events).transpose(),
            Ok(Err(_)) => bail!("the driver ended"),
            Err(_) => Ok(None),
        }
    }

    /// All events after the mark.
    pub(crate) fn since(&self, mark: Mark) -> Vec<Event> {
        self.events.borrow()[mark.0..].to_vec()
    }

    /// Acquires `key` and tells when its driver knew.
    pub(crate) async fn acquire(&mut self, key: &str, within: Duration) -> anyhow::Result<u64> {
        let mark = self.say(&format!("acquire {key}")).await?;
        self.until_acquired(mark, key, within).await
    }

    pub(crate) async fn until_acquired(&self, mark: Mark, key: &str, within: Duration) -> anyhow::Result<u64> {
        let acquired = |event: &Event| match event {
            Event::Acquired { at, key: of } if of == key => Some(*at),
            _ => None,
        };
        self.until(mark, within, acquired).await.with_context(|| format!("acquire {key}"))
    }

    /// Releases `key`, in the way that keeps its record if there is one and `keep` is set, and tells when its driver knew.
    pub(crate) async fn release(&mut self, key: &str, keep: bool, within: Duration) -> anyhow::Result<u64> {
        let how = if keep && self.offers("keep") { " keep" } else { "" };
        let mark = self.say(&format!("release {key}{how}")).await?;
        let released = |event: &Event| match event {
            Event::Released { at, key: of } if of == key => Some(*at),
            _ => None,
        };
        self.until(mark, within, released).await.with_context(|| format!("release {key}"))
    }

    /// Holds so many locks, and waits until it has them all. The mark is from before the first.
    pub(crate) async fn hold(&mut self, prefix: &str, count: usize, within: Duration) -> anyhow::Result<Mark> {
        let mark = self.say(&format!("hold {prefix} {count}")).await?;
        let mut events = self.events.clone();
        let acquired = |event: &&Event| matches!(event, Event::Acquired { .. });
        let all = events.wait_for(|events| events[mark.0..].iter().filter(acquired).count() >= count);
        tokio::time::timeout(within, all).await.context("not all were acquired")??;
        Ok(mark)
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child.id().context("it has ended")?;
        Pid::from_raw(i32::try_from(id)?).context("no process")
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// What the process table says of it.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.pid()?)
    }
}
