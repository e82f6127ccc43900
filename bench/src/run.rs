//! One run: every scenario with every client.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::now;
use crate::peer::kind::profile;
use crate::peer::{Kind, Lease, Peer};
use crate::report;
use crate::results::{Client, Results};
use crate::scenario::{Plan, Scenario, cost, cut, failover, handover, loss, many, pause};
use crate::statistics::seconds;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A smoke run of some minutes: few repetitions, all clients side by side. Its figures are not for publication.
    #[arg(long)]
    quick: bool,
    /// Multiplies the counts and durations of a full run.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The network's round trip.
    #[arg(long, default_value_t = 20)]
    round_trip_ms: u64,
    /// These scenarios alone.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// These clients alone.
    #[arg(long, value_delimiter = ',')]
    clients: Vec<String>,
    /// Where the results, the tables and the charts go.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let plan =
        Plan { round_trip: Duration::from_millis(options.round_trip_ms), quick: options.quick, scale: options.scale };
    let (start, before) = (now(), load()?);
    let mut clients = Vec::new();
    let kinds = kinds(options)?;
    if plan.quick {
        let all = kinds.iter().map(|kind| client(options, &plan, kind));
        clients.extend(futures::future::join_all(all).await);
    } else {
        for kind in &kinds {
            clients.push(client(options, &plan, kind).await);
        }
    }
    let results = Results {
        date: wall_clock().format(&Rfc3339)?,
        revision: revision(),
        host: host()?,
        profile: profile()?,
        quick: plan.quick,
        scale: plan.scale,
        round_trip_ms: plan.round_trip.as_secs_f64() * 1e3,
        load: (before, load()?),
        minutes: seconds(start, now()) / 60.0,
        clients,
    };
    report::write(&results, &options.out)?;
    let failures: Vec<_> = results.clients.iter().flat_map(|client| &client.failures).collect();
    anyhow::ensure!(failures.is_empty(), "some scenarios failed: {failures:#?}");
    Ok(())
}

fn kinds(options: &Options) -> anyhow::Result<Vec<Kind>> {
    let all = Kind::all()?;
    if let Some(unknown) = options.clients.iter().find(|name| all.iter().all(|kind| kind.name != **name)) {
        let names: Vec<_> = all.iter().map(|kind| kind.name.as_str()).collect();
        anyhow::bail!("no client is called {unknown}; there are {}", names.join(", "));
    }
    let asked = |kind: &Kind| options.clients.is_empty() || options.clients.contains(&kind.name);
    let (there, missing): (Vec<_>, Vec<_>) = all.into_iter().filter(asked).partition(|kind| kind.missing().is_none());
    for kind in missing {
        eprintln!("!! {} IS NOT MEASURED: first {}", kind.name, kind.missing().unwrap_or_default());
    }
    anyhow::ensure!(!there.is_empty(), "no client to measure");
    Ok(there)
}

async fn client(options: &Options, plan: &Plan, kind: &Kind) -> Client {
    let mut found = Client { name: kind.name.clone(), ..Client::default() };
    let mut failures = Vec::new();
    match version(plan, kind).await {
        Ok(version) => found.version = version,
        Err(error) => failures.push(format!("{}: {error:#}", kind.name)),
    }
    let is_asked = |scenario: Scenario| {
        let among = |some: &[Scenario]| some.is_empty() || some.contains(&scenario);
        among(&options.only) && among(kind.scenarios)
    };
    macro_rules! scenario {
        ($module:ident, $scenario:ident) => {
            if is_asked(Scenario::$scenario) {
                eprintln!("{}: {}", kind.name, stringify!($module));
                match $module::run(plan, kind).await {
                    Ok(figures) => found.$module = Some(figures),
                    Err(error) => failures.push(format!("{}: {}: {error:#}", kind.name, stringify!($module))),
                }
            }
        };
    }
    scenario!(cost, Cost);
    scenario!(failover, Failover);
    scenario!(handover, Handover);
    scenario!(loss, Loss);
    scenario!(many, Many);
    scenario!(cut, Cut);
    scenario!(pause, Pause);
    for failure in &failures {
        eprintln!("!! {failure}");
    }
    found.failures = failures;
    found
}

/// Name and version of the client that really runs, as its driver tells.
async fn version(plan: &Plan, kind: &Kind) -> anyhow::Result<String> {
    let network = plan.network().await?;
    Ok(Peer::start(kind, &network, Lease::millis(10_000, 2_500)).await?.version.clone())
}

/// Of the last minute.
fn load() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().context("no load")?.parse()?)
}

fn host() -> anyhow::Result<String> {
    let cpus = std::thread::available_parallelism()?;
    let info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    Ok(format!("{cpus} CPUs, {}", model.unwrap_or("of an unknown kind")))
}

/// Of the tree that this was built from, as far as git knows.
fn revision() -> String {
    let git = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let told =
        git.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    told.map_or_else(|| "unknown".into(), |text| text.trim().to_owned())
}

#[allow(clippy::disallowed_methods, reason = "a date for people")]
fn wall_clock() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}
