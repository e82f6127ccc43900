//! The drill: kills, stops and freezes leaders, and judges what the replicas tell.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::Timing;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Options;

/// How long each leader runs the schedule before something happens to it: between two ticks, not at one.
const CALM: Duration = Duration::from_millis(4_300);

struct Line {
    replica: usize,
    text: String,
}

struct Drill<'a> {
    options: &'a Options,
    timing: Timing,
    start: Instant,
    children: BTreeMap<usize, Child>,
    sender: mpsc::UnboundedSender<Line>,
    lines: mpsc::UnboundedReceiver<Line>,
    leader: Option<usize>,
    tokens: Vec<u64>,
    ticks: Vec<(u64, u64)>,
    thawed: Option<String>,
    late: Option<String>,
    failovers: Vec<(&'static str, Duration)>,
}

pub(super) async fn run(options: &Options) -> anyhow::Result<()> {
    let (sender, lines) = mpsc::unbounded_channel();
    let mut drill = Drill {
        options,
        timing: options.timing()?,
        start: Instant::now(),
        children: BTreeMap::new(),
        sender,
        lines,
        leader: None,
        tokens: Vec::new(),
        ticks: Vec::new(),
        thawed: None,
        late: None,
        failovers: Vec::new(),
    };
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        result = drill.act() => result?,
        _ = terminated.recv() => bail!("terminated"),
        // Children are killed when their handles go, and end by themselves if this process is killed.
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
    drill.verdict()
}

impl Drill<'_> {
    async fn act(&mut self) -> anyhow::Result<()> {
        for replica in 1..=self.options.replicas {
            self.spawn(replica)?;
        }
        let first = self.next_leader(Duration::from_secs(30)).await?;
        self.watch(CALM).await?;

        self.say("31", &format!("SIGKILL to replica {first}"));
        let dead = self.signal(first, Signal::KILL)?;
        let second = self.next_leader(self.patience()).await?;
        self.failovers.push(("killed", dead.elapsed()));
        self.children.remove(&first);
        self.spawn(first)?;
        self.watch(CALM).await?;

        self.say("33", &format!("SIGTERM to replica {second}"));
        let asked = self.signal(second, Signal::TERM)?;
        let third = self.next_leader(self.patience()).await?;
        self.failovers.push(("stopped politely", asked.elapsed()));
        self.children.remove(&second);
        self.spawn(second)?;
        self.watch(CALM).await?;

        self.say("35", &format!("SIGSTOP to replica {third}, for longer than the lease"));
        let frozen = self.freeze(third).await?;
        let taken = self.next_leader(self.patience()).await;
        if taken.is_ok() {
            self.failovers.push(("frozen", frozen.elapsed()));
            self.watch(Duration::from_secs(2)).await?;
        }
        self.say("35", &format!("SIGCONT to replica {third}"));
        self.signal(third, Signal::CONT)?;
        taken.context("nobody took over from the frozen leader")?;
        self.watch(CALM).await?;
        for replica in self.children.keys().copied().collect::<Vec<_>>() {
            self.signal(replica, Signal::TERM)?;
        }
        self.watch(Duration::from_secs(2)).await
    }

    /// Freezes a replica, but not in the middle of a write to a database file: that would hold the
    /// file's lock against all others, which says something about files and nothing about elections.
    async fn freeze(&mut self, replica: usize) -> anyhow::Result<Instant> {
        // Before anything is frozen: a file that is locked can't be opened.
        let (client, _) = self.options.connect().await?;
        for _ in 0..20 {
            let frozen = self.signal(replica, Signal::STOP)?;
            if self.others_can_write(&client).await {
                return Ok(frozen);
            }
            self.signal(replica, Signal::CONT)?;
            sleep(Duration::from_millis(130)).await;
        }
        bail!("replica {replica} was always in the middle of a write")
    }

    async fn others_can_write(&self, client: &Client) -> bool {
        let key = AttributeValue::S("probe".into());
        let probe = client.put_item().table_name(&self.options.table).item("key", key).send();
        timeout(Duration::from_millis(500), probe).await.is_ok_and(|answer| answer.is_ok())
    }

    /// The longest a take-over may take: lease, poll, and retries.
    fn patience(&self) -> Duration {
        self.timing.lease() + self.timing.poll() * 2 + self.timing.operation_timeout() * 4 + Duration::from_secs(2)
    }

    fn spawn(&mut self, replica: usize) -> anyhow::Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--replica", &format!("replica-{replica}"), "--table", &self.options.table]);
        for (flag, value) in [
            ("--lease", self.options.lease.map(|lease| lease.to_string())),
            ("--endpoint", self.options.endpoint.clone()),
            ("--region", self.options.region.clone()),
            ("--path", self.options.path.as_ref().map(|path| path.display().to_string())),
        ] {
            command.args(value.map(|value| [flag.to_owned(), value]).into_iter().flatten());
        }
        if self.options.aws {
            command.arg("--aws");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = child.stdout.take().context("a replica without output")?;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(text)) = lines.next_line().await {
                if sender.send(Line { replica, text }).is_err() {
                    return;
                }
            }
        });
        self.children.insert(replica, child);
        Ok(())
    }

    fn signal(&mut self, replica: usize, signal: Signal) -> anyhow::Result<Instant> {
        let id = self.children.get(&replica).and_then(Child::id).context("the replica has ended")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("no process")?;
        self.leader = self.leader.filter(|leader| *leader != replica);
        kill_process(pid, signal)?;
        Ok(Instant::now())
    }

    async fn next_leader(&mut self, within: Duration) -> anyhow::Result<usize> {
        self.leader = None;
        let end = Instant::now() + within;
        while self.leader.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            let line = timeout(left, self.lines.recv()).await.context("no new leader in time")?;
            self.take(&line.context("all replicas are gone")?)?;
        }
        self.leader.context("no leader")
    }

    async fn watch(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while let Ok(Some(line)) = timeout(end.saturating_duration_since(Instant::now()), self.lines.recv()).await {
            self.take(&line)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &Line) -> anyhow::Result<()> {
        let words: Vec<&str> = line.text.split(' ').collect();
        match words[..] {
            ["elected", token] => {
                self.tokens.push(token.parse()?);
                self.leader = Some(line.replica);
                self.say("32", &format!("replica {} leads, fencing token {token}", line.replica));
            }
            ["tick", tick, token] => {
                self.ticks.push((tick.parse()?, token.parse()?));
                self.say("2", &format!("replica {} ran tick {tick} with token {token}", line.replica));
            }
            ["thawed", verdict] => {
                self.thawed = Some(verdict.to_owned());
                self.say("36", &format!("replica {}, thawed: its first check says {verdict}", line.replica));
            }
            ["late", verdict] => {
                self.late = Some(verdict.to_owned());
                self.say(
                    "36",
                    &format!("replica {}: the write past its check was {verdict} by the fence", line.replica),
                );
            }
            _ => self.say("2", &format!("replica {}: {}", line.replica, line.text)),
        }
        Ok(())
    }

    fn say(&self, colour: &str, text: &str) {
        let at = self.start.elapsed().as_secs_f64();
        if std::io::stdout().is_terminal() {
            println!("{at:6.2} s  \x1b[{colour}m{text}\x1b[0m");
        } else {
            println!("{at:6.2} s  {text}");
        }
    }

    fn verdict(&self) -> anyhow::Result<()> {
        let rising = self.tokens.windows(2).all(|pair| pair[0] < pair[1]);
        let mut seen = std::collections::BTreeSet::new();
        let twice = self.ticks.iter().filter(|(tick, _)| !seen.insert(*tick)).count();
        // In the order of the ticks themselves: a lower token after a higher one was a deposed leader's.
        let mut ordered = self.ticks.clone();
        ordered.sort_unstable();
        let deposed = ordered.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
        let lease = self.timing.lease().as_secs_f64();
        let half_beat = self.timing.heartbeat().as_secs_f64() / 2.0;
        let poll = self.timing.poll().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a handful of replicas")]
        let mean = lease - half_beat + poll / (self.options.replicas - 1) as f64;
        println!("\nterms and tokens      {:?}, strictly rising: {rising}", self.tokens);
        for (how, time) in &self.failovers {
            println!("fail-over, {how:<17} {:.2} s", time.as_secs_f64());
        }
        println!(
            "  by the formula, after a crash: {mean:.2} s in the mean, {:.2} s at worst; polite: up to {poll:.2} s",
            lease + poll
        );
        println!("ticks                 {}", self.ticks.len());
        println!("ticks run twice       {twice}");
        println!("by a deposed leader   {deposed}");
        println!(
            "thawed leader         first check: {}, write past its check: {}",
            said(self.thawed.as_ref()),
            said(self.late.as_ref())
        );
        let holds = rising
            && self.tokens.len() >= 4
            && self.failovers.len() == 3
            && twice == 0
            && deposed == 0
            && self.ticks.len() >= 8
            && self.thawed.as_deref() == Some("deposed")
            && self.late.as_deref() == Some("refused");
        if !holds {
            bail!("something above does not hold");
        }
        println!("all of it holds");
        Ok(())
    }
}

fn said(word: Option<&String>) -> &str {
    word.map_or("nothing", String::as_str)
}
