//! A lock client as a process, driven through its standard input and output: see `tests/interop/PROTOCOL.md`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::{go, ours};

/// Which client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// The captured requests of the Go client, in its order.
    ScriptedGo,
    /// A command that speaks the protocol, with the text of its leases.
    Command {
        command: String,
        java: bool,
    },
}

impl Kind {
    /// The real Java client.
    pub(crate) fn java() -> Self {
        let jar = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/java/target/peer.jar");
        assert!(jar.exists(), "build the Java peer first: mvn -q -B -DskipTests package in tests/interop/java");
        Self::Command { command: format!("java -jar {}", jar.display()), java: true }
    }

    /// Whatever `INTEROP_PEER` names. `INTEROP_PEER_TEXT=java` if it writes leases as milliseconds.
    pub(crate) fn plugged_in() -> Self {
        let command = std::env::var("INTEROP_PEER").expect("INTEROP_PEER is the command of a peer");
        Self::Command { command, java: std::env::var("INTEROP_PEER_TEXT").is_ok_and(|text| text == "java") }
    }

    /// Whether its leases are digits, milliseconds.
    pub(crate) fn writes_millis(&self) -> bool {
        matches!(self, Self::Command { java: true, .. })
    }

    /// Whether its acquisitions keep what they do not know. (The Java client's replace the record.)
    pub(crate) fn keeps_attributes(&self) -> bool {
        !self.writes_millis()
    }

    fn command(&self) -> Command {
        let own = |kind: &str| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "interop::peer_process", "--ignored", "--nocapture", "-q"]);
            command.env("PEER_KIND", kind);
            command
        };
        match self {
            Self::Ours => own("ours"),
            Self::ScriptedGo => own("go"),
            Self::Command { command, .. } => {
                let mut words = command.split_whitespace();
                let mut command = Command::new(words.next().expect("a command"));
                command.args(words);
                command
            }
        }
    }
}

/// What the peer process does: the half of this file that runs on the other side of the pipe.
pub(super) fn main() {
    match std::env::var("PEER_KIND").as_deref() {
        Ok("ours") => ours::main(),
        Ok("go") => go::main(),
        _ => println!("this is the process behind a peer; PEER_KIND says which"),
    }
}

/// The settings that a peer of this file finds in its environment.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: String,
    pub(crate) table: String,
    pub(crate) owner: String,
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) refresh: Duration,
}

impl Settings {
    pub(crate) fn from_env() -> Self {
        let text = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let millis = |name: &str| Duration::from_millis(text(name).parse().unwrap());
        Self {
            endpoint: text("PEER_ENDPOINT"),
            table: text("PEER_TABLE"),
            owner: text("PEER_OWNER"),
            lease: millis("PEER_LEASE_MS"),
            heartbeat: millis("PEER_HEARTBEAT_MS"),
            refresh: millis("PEER_REFRESH_MS"),
        }
    }
}

/// `CLOCK_MONOTONIC`, which all processes of a machine share.
pub(crate) fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// Long enough for anything that a slow machine does; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running peer. Killed when it is dropped.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    pub(crate) name: String,
}

impl Peer {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(kind: &Kind, settings: &Settings, more: &[(&str, &str)]) -> Self {
        let millis = |duration: Duration| duration.as_millis().to_string();
        let mut child = kind
            .command()
            .env("PEER_ENDPOINT", &settings.endpoint)
            .env("PEER_TABLE", &settings.table)
            .env("PEER_OWNER", &settings.owner)
            .env("PEER_LEASE_MS", millis(settings.lease))
            .env("PEER_HEARTBEAT_MS", millis(settings.heartbeat))
            .env("PEER_REFRESH_MS", millis(settings.refresh))
            .envs(more.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?} can't be started: {error}"));
        let (told, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || read(output, &told));
        let input = child.stdin.take().unwrap();
        let mut peer = Self { child, input, lines, name: String::new() };
        peer.name = loop {
            let line = peer.line(PATIENCE).unwrap_or_else(|| panic!("{kind:?} never gets ready"));
            // The test runner of our own peers may write before it, even on the same line.
            if let Some((_, name)) = line.split_once("ready ") {
                break name.to_owned();
            }
        };
        peer
    }

    pub(crate) fn send(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap_or_else(|error| panic!("{} is gone: {error}", self.name));
    }

    /// The next line, if there is one in time.
    pub(crate) fn line(&self, patience: Duration) -> Option<String> {
        self.lines.recv_timeout(patience).ok()
    }

    pub(crate) fn answer(&self) -> String {
        self.line(PATIENCE).unwrap_or_else(|| panic!("{} does not answer", self.name))
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.answer()
    }

    /// `SIGKILL`: nothing is released.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it said and nobody has read yet; all of it once it was killed.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.line(Duration::from_millis(200))).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(output: impl BufRead, told: &Sender<String>) {
    for line in output.lines() {
        let Ok(line) = line else { return };
        if told.send(line).is_err() {
            return;
        }
    }
}

/// The verbs of a peer process, each answered by one line.
pub(crate) trait Verbs {
    fn execute(&mut self, verb: &str, arguments: &[&str]) -> Result<String, String>;
}

/// Reads commands and answers them until the input ends; then the process is over at once.
pub(crate) fn serve(name: &str, version: &str, verbs: &mut dyn Verbs) {
    println!("ready {name} {version}");
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split(' ').collect();
        let answer = verbs.execute(words[0], &words[1..]);
        println!("{}", answer.unwrap_or_else(|error| format!("error {}", error.replace('\n', " "))));
    }
    std::process::exit(0);
}

/// `DATA` of the protocol.
pub(crate) fn data(text: &str) -> Option<Vec<u8>> {
    (text != "-").then(|| aws_smithy_types::base64::decode(text).expect("data is base64"))
}

/// `ATTRIBUTES` of the protocol.
pub(crate) fn attributes(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(crate) fn base64(data: Option<&[u8]>) -> String {
    data.map_or("-".into(), aws_smithy_types::base64::encode)
}
