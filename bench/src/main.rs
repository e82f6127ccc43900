//! dynamo-elector beside other lock clients: one engine, one network, one set of scenarios. See `bench/README.md`.

mod busy;
mod clock;
mod driver;
mod host;
mod network;
mod peer;
mod report;
mod results;
mod run;
mod scenario;
mod statistics;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All scenarios with all clients that are built.
    Run(run::Options),
    /// This crate as a driver, which the harness starts.
    Driver { layer: driver::Layer },
    /// Tables and charts anew from results that there are.
    Report { results: PathBuf, out: PathBuf },
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Run(options) => run::run(&options).await,
        Command::Driver { layer } => {
            driver::run(layer).await;
            Ok(())
        }
        Command::Report { results, out } => report_again(&results, &out),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report_again(results: &Path, out: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(results).with_context(|| results.display().to_string())?;
    report::write(&serde_json::from_str(&text)?, out)
}
