//! The drill: two replicas as processes, called over HTTP; the leader is stopped.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// More than any step takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(10);

struct Replica {
    process: Child,
    url: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

pub(super) async fn run() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("service.db");
    let mut replicas = vec![Replica::start(&file).await?, Replica::start(&file).await?];

    for replica in &replicas {
        replica.until("/readyz", |answer| answer.status == StatusCode::OK).await?;
        println!("{} is ready: {}", replica.url, replica.get("/readyz").await?.body);
        ensure!(replica.get("/livez").await?.status == StatusCode::OK);
    }
    let leader = replicas.swap_remove(who_serves(&replicas).await?);
    let other = replicas.swap_remove(0);

    let served = leader.get("/jobs?page=2").await?;
    println!("{} leads, /jobs: {}", leader.url, served.body);
    ensure!(served.status == StatusCode::OK && served.body.contains("\"fencing_token\":1"), "{}", served.body);
    let redirected = other.until("/jobs?page=2", |answer| answer.status == StatusCode::TEMPORARY_REDIRECT).await?;
    println!("{} follows, /jobs: to {}", other.url, redirected.header(header::LOCATION));
    ensure!(redirected.header(header::LOCATION) == format!("{}/jobs?page=2", leader.url));
    for replica in [&leader, &other] {
        let told = replica.get("/leader").await?.body;
        println!("{} on /leader: {told}", replica.url);
        ensure!(told.contains(&format!("\"address\":\"{}\"", leader.url)));
        ensure!(replica.get("/readyz").await?.status == StatusCode::OK, "readiness is not leadership");
    }
    leader.shows("leader_election_master_status{name=\"jobs\"} 1").await?;
    leader.shows("leader_election_renew_duration_seconds_bucket{name=\"jobs\",le=\"0.25\"}").await?;
    other.shows("leader_election_master_status{name=\"jobs\"} 0").await?;

    println!("SIGTERM to the leader");
    let asked = Instant::now();
    leader.stop().await?;
    let served = other.until("/jobs", |answer| answer.status == StatusCode::OK).await?;
    println!("{} leads after {:?}, /jobs: {}", other.url, asked.elapsed(), served.body);
    ensure!(served.body.contains("\"fencing_token\":2"), "{}", served.body);
    other.shows("leader_election_master_status{name=\"jobs\"} 1").await?;
    other.stop().await?;
    println!("both have ended well");
    Ok(())
}

/// Waits until exactly one serves, and the other knows which.
async fn who_serves(replicas: &[Replica]) -> anyhow::Result<usize> {
    let settled = async {
        loop {
            let answers = [replicas[0].get("/jobs").await?.status, replicas[1].get("/jobs").await?.status];
            match answers {
                [StatusCode::OK, StatusCode::TEMPORARY_REDIRECT] => return Ok(0),
                [StatusCode::TEMPORARY_REDIRECT, StatusCode::OK] => return Ok(1),
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(PATIENCE, settled).await.context("it is never just one that serves")?
}

impl Replica {
    async fn start(file: &Path) -> anyhow::Result<Self> {
        // Should this process be killed, its children end by themselves.
        let options = ["--serve", "127.0.0.1:0", "--seconds", "60", "--path"];
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.args(options).arg(file).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = process.stdout.take().context("a replica without output")?;
        let url = timeout(PATIENCE, BufReader::new(output).lines().next_line()).await??.context("it did not start")?;
        Ok(Self { process, url })
    }

    async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let client: Client<HttpConnector, Empty<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let url = format!("{}{path}", self.url).parse()?;
        let (parts, body) = timeout(PATIENCE, client.get(url)).await??.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn until(&self, path: &str, seen: impl Fn(&Answer) -> bool + Send + Sync) -> anyhow::Result<Answer> {
        let waited = async {
            loop {
                let answer = self.get(path).await?;
                if seen(&answer) {
                    return Ok(answer);
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, waited).await.with_context(|| format!("{}{path} is not as it should be", self.url))?
    }

    async fn shows(&self, line: &str) -> anyhow::Result<()> {
        self.until("/metrics", |answer| answer.body.lines().any(|shown| shown.starts_with(line))).await?;
        println!("{} on /metrics: {line}", self.url);
        Ok(())
    }

    /// As an orchestrator stops it.
    async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.process.id().context("it has ended by itself")?;
        kill_process(Pid::from_raw(i32::try_from(id)?).context("no process")?, Signal::TERM)?;
        let ended = timeout(PATIENCE, self.process.wait()).await.context("it does not stop")??;
        ensure!(ended.success(), "{} ended with {ended}", self.url);
        Ok(())
    }
}
