//! One command for each figure. What is printed is Markdown, so that it can be checked in as it is.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::comparison;
use crate::model::{self, Bounds};
use crate::mutants;
use crate::simulator::{self, Found, Judged, Tally, World, grouped};
use crate::timing::Timing;

/// The protocol of dynamo-elector under simulated faults.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Elections of three candidates with swarms of faults, until so many hours of default timing are simulated.
    Sim {
        /// Hours at the default timing; other timings are simulated beside them.
        hours: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = simulator::threads())]
        threads: usize,
    },
    /// One election, with everything that happens in it.
    One { seed: u64 },
    /// Every interleaving within bounds that take some minutes.
    Model {
        #[arg(long, default_value_t = simulator::threads())]
        threads: usize,
    },
    /// Rules and margins broken on purpose: which seed notices each.
    Mutants,
    /// Clocks as far off as the profiles bear, and further: where exclusion begins to fail.
    Tolerance,
    /// Needless step-downs in a lossy network, beside what others do.
    Loss {
        #[arg(default_value_t = 1_000)]
        hours: u64,
    },
    /// Requests per second of many followers around an outage.
    Storm {
        #[arg(default_value_t = 200)]
        followers: usize,
    },
}

/// Runs the command that was asked for; fails if something does not hold.
pub fn main() -> ExitCode {
    match Options::parse().command {
        Command::Sim { hours, from, threads } => sim(hours, from, threads),
        Command::One { seed } => one(seed),
        Command::Model { threads } => check_model(threads),
        Command::Mutants => print_mutants(),
        Command::Tolerance => tolerance(),
        Command::Loss { hours } => {
            print!("{}", comparison::text(&comparison::all(hours), hours));
            ExitCode::SUCCESS
        }
        Command::Storm { followers } => {
            storm(followers);
            ExitCode::SUCCESS
        }
    }
}

/// As many elections as show their mean: each second of each election of an estate is one of these.
const ESTATE: u64 = 300;

fn storm(followers: usize) {
    let outage = Duration::from_secs(3_600);
    let columns = "at the start | before it | in its first 20 s | in the rest of it | in its second half | after it |";
    println!(
        "{} candidates, default timing, an outage of {} s; requests in the busiest second\n",
        followers + 1,
        outage.as_secs()
    );
    println!("| {columns}\n| ---: | ---: | ---: | ---: | ---: | ---: |");
    println!(
        "| {} |",
        simulator::storm(outage, Timing::default(), followers + 1, 1).all().map(|rate| rate.to_string()).join(" | ")
    );
    println!(
        "\n{ESTATE} elections of three candidates, the same outage; requests in the busiest second, for each election"
    );
    println!("| profile | {columns}\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (profile, timing) in simulator::profiles() {
        #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
        let each = simulator::storm(outage, timing, 3, ESTATE)
            .all()
            .map(|rate| format!("{:.2}", f64::from(rate) / ESTATE as f64));
        println!("| `{profile}()` | {} |", each.join(" | "));
    }
}

/// Seeds run before the hours are counted again.
const BATCH: u64 = 12_000;

fn sim(hours: u64, from: u64, threads: usize) -> ExitCode {
    let (mut total, mut seed) = (Tally::default(), from);
    while total.default_seconds < hours * 3_600 {
        match simulator::search(seed..seed + BATCH, None, threads, World::swarm) {
            Ok(tally) => total.add(&tally),
            Err(found) => {
                eprintln!("{}", simulator::report(&found));
                return ExitCode::FAILURE;
            }
        }
        seed += BATCH;
    }
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let pace = total.default_seconds as f64 / 3_600.0 / total.default_cost.as_secs_f64();
    println!(
        "No violation found in {} simulated hours of three candidates with default timing",
        grouped(total.default_seconds / 3_600)
    );
    println!(
        "and {} hours with other timings: seeds {from} to {}, each an election of ten minutes.",
        grouped((total.seconds - total.default_seconds) / 3_600),
        seed - 1
    );
    println!("{pace:.0} simulated hours of default timing per second and core.\n");
    print!("{}", total.text());
    ExitCode::SUCCESS
}

fn one(seed: u64) -> ExitCode {
    let (result, tally, log) = World::swarm(seed, true).run();
    match result {
        Ok(()) => {
            println!("{}\n\n{}", log.join("\n"), tally.text());
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("{}", broken.log.join("\n"));
            eprintln!("SEED={seed} breaks {}", broken.what);
            ExitCode::FAILURE
        }
    }
}

fn counted(states: usize) -> String {
    grouped(u64::try_from(states).unwrap_or(u64::MAX))
}

fn check_model(threads: usize) -> ExitCode {
    println!("| bounds | different states | generated | depth | seconds |\n| --- | ---: | ---: | ---: | ---: |");
    let (mut unique, mut holds) = (0, true);
    for bounds in Bounds::thorough() {
        let report = model::check(bounds, threads);
        println!(
            "| {} | {} | {} | {} | {:.0} |",
            report.bounds,
            counted(report.unique),
            counted(report.states),
            report.depth,
            report.took.as_secs_f64()
        );
        for found in &report.broken {
            eprintln!("breaks {}\n{}", found.property, found.path);
        }
        holds &= report.broken.is_empty();
        unique += report.unique;
    }
    let verdict = if holds { "No violation found" } else { "Violations found" };
    println!("\n{verdict} in {} different states.", counted(unique));
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seeds that are searched for each rate.
const TOLERANCE_SEEDS: u64 = 12_000;

fn tolerance() -> ExitCode {
    println!("Swarm faults, three candidates, the first one's clock slow and all others fast by the same rate.\n");
    println!(
        "| clocks off, as a share of what the profile bears | seeds until exclusion breaks | until anything else breaks, the fence above all |"
    );
    println!("| ---: | ---: | ---: |");
    let mut holds = true;
    for excess in [1.0, 1.02, 1.05, 1.1, 1.5] {
        let [exclusion, others] = [Judged::Everything, Judged::AllButExclusion].map(|judged| {
            let world = simulator::beyond_tolerance(excess, judged);
            simulator::search(0..TOLERANCE_SEEDS, None, simulator::threads(), world).err()
        });
        let text = |found: &Option<Found>| match found {
            None => format!("not in {}", grouped(TOLERANCE_SEEDS)),
            Some((seed, _)) => (seed + 1).to_string(),
        };
        println!("| {:.0} % | {} | {} |", excess * 100.0, text(&exclusion), text(&others));
        holds &= exclusion.is_none() == (excess <= 1.0) && others.is_none();
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_mutants() -> ExitCode {
    let verdicts = mutants::all();
    println!("In the simulator:\n\n{}", mutants::text(&verdicts));
    println!(
        "In the model check:\n\n| broken how | different states until it shows | what shows it | within |\n| --- | ---: | --- | --- |"
    );
    let kills = model::mutants();
    for kill in &kills {
        match kill.found {
            Some((property, states)) => {
                println!("| {} | {} | {property} | {} |", kill.what, counted(states), kill.bounds);
            }
            None if kill.is_as_expected() => {
                println!(
                    "| {} | - | not here, where no such client is, but in the simulator | {} |",
                    kill.what, kill.bounds
                );
            }
            None => println!("| {} | - | **not noticed** | {} |", kill.what, kill.bounds),
        }
    }
    let all = verdicts.iter().all(mutants::Verdict::is_caught) && kills.iter().all(model::Kill::is_as_expected);
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
