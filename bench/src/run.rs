//! One run: every scenario with every client.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::StreamExt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::now;
use crate::host;
use crate::peer::kind::profile;
use crate::peer::{Kind, Lease, Peer};
use crate::report;
use crate::results::{Client, Ran, Results};
use crate::scenario::{Plan, Scenario};
use crate::statistics::seconds;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A smoke run of some minutes: few repetitions, all clients side by side in all scenarios. Its figures are not for publication.
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
    /// So many clients side by side, in the scenarios that wait rather than compute.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    side_by_side: usize,
    /// Where the results, the tables and the charts go.
    #[arg(long, default_value = "docs")]
    out: PathBuf,
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let plan =
        Plan { round_trip: Duration::from_millis(options.round_trip_ms), quick: options.quick, scale: options.scale };
    let (start, before) = (now(), host::load()?);
    let kinds = kinds(options)?;
    let mut results = Results {
        date: wall_clock().format(&Rfc3339)?,
        revision: revision(),
        host: host::name()?,
        profile: profile()?,
        quick: plan.quick,
        scale: plan.scale,
        round_trip_ms: plan.round_trip.as_secs_f64() * 1e3,
        load: (before, before),
        minutes: 0.0,
        scenarios: Vec::new(),
        clients: Vec::new(),
    };
    for kind in &kinds {
        results.clients.push(client(&plan, kind).await);
    }
    for scenario in Scenario::value_variants() {
        if !options.only.is_empty() && !options.only.contains(scenario) {
            continue;
        }
        let at_once = at_once(options, *scenario);
        let (_, busy) = host::watched(measure(*scenario, &plan, at_once, &kinds, &mut results.clients)).await?;
        let clients_at_once = at_once.min(kinds.iter().filter(|kind| kind.runs(*scenario)).count());
        results.scenarios.push(Ran { name: scenario.name(), clients_at_once, busy });
        (results.load.1, results.minutes) = (host::load()?, seconds(start, now()) / 60.0);
        // What there is by now is not lost with the rest.
        report::write(&results, &options.out)?;
    }
    let failures: Vec<_> = results.clients.iter().flat_map(|client| &client.failures).collect();
    anyhow::ensure!(failures.is_empty(), "some scenarios failed: {failures:#?}");
    Ok(())
}

fn at_once(options: &Options, scenario: Scenario) -> usize {
    match (options.quick, scenario.waits()) {
        (true, _) => usize::MAX,
        (false, true) => options.side_by_side.max(1),
        (false, false) => 1,
    }
}

/// One scenario with all clients that run it, so many side by side.
async fn measure(scenario: Scenario, plan: &Plan, at_once: usize, kinds: &[Kind], clients: &mut [Client]) {
    let pairs = kinds.iter().zip(clients).filter(|(kind, _)| kind.runs(scenario));
    let clients = futures::stream::iter(pairs);
    clients.for_each_concurrent(at_once, |(kind, client)| one(scenario, plan, kind, client)).await;
}

async fn one(scenario: Scenario, plan: &Plan, kind: &Kind, client: &mut Client) {
    eprintln!("{}: {}", scenario.name(), kind.name);
    if let Err(error) = scenario.run(plan, kind, client).await {
        let failure = format!("{}: {}: {error:#}", kind.name, scenario.name());
        eprintln!("!! {failure}");
        client.failures.push(failure);
    }
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

/// Nothing measured yet.
async fn client(plan: &Plan, kind: &Kind) -> Client {
    let mut client = Client { name: kind.name.clone(), ..Client::default() };
    match version(plan, kind).await {
        Ok(version) => client.version = version,
        Err(error) => client.failures.push(format!("{}: {error:#}", kind.name)),
    }
    client
}

/// Name and version of the client that really runs, as its driver tells.
async fn version(plan: &Plan, kind: &Kind) -> anyhow::Result<String> {
    let network = plan.network().await?;
    Ok(Peer::start(kind, &network, Lease::default()).await?.version.clone())
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
