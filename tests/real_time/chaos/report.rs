//! The report of a run: figures, a summary to read, a chart.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use dynamo_elector::Timing;
use serde_json::{Value, json};

use super::chart;
use super::checker::{Failover, Thaw, Verdict};
use super::faults::{Fired, Kind};
use super::journal::seconds;

pub(crate) struct Settings {
    pub(crate) minutes: f64,
    pub(crate) seed: u64,
    pub(crate) replicas: usize,
    pub(crate) lasted: u64,
}

/// What [`Timing`] promises, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Formula {
    pub(crate) best: f64,
    pub(crate) mean: f64,
    pub(crate) worst: f64,
}

impl Formula {
    fn new(round_trip: f64) -> Self {
        let timing = Timing::aggressive();
        let [lease, heartbeat, poll] =
            [timing.lease(), timing.heartbeat(), timing.poll()].map(|time| time.as_secs_f64());
        // Followers see heartbeats so late, as a rule; what is lost meanwhile is a round trip and a half.
        let wait = 0.025 + 1.5 * round_trip;
        Self {
            best: lease - heartbeat + 1.5 * round_trip,
            mean: lease - heartbeat / 2.0 + wait,
            worst: lease + poll + 2.0 * round_trip,
        }
    }
}

/// The least, the median, the mean, the 99th percentile and the most of some seconds.
struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    fn of(times: impl Iterator<Item = u64>) -> Self {
        let mut sorted: Vec<f64> = times.map(seconds).collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    fn at(&self, share: usize) -> f64 {
        let rank = (self.sorted.len() * share).div_ceil(100);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }

    fn mean(&self) -> f64 {
        self.sorted.iter().fold(0.0, |sum, time| sum + time) / self.sorted.len().max(1) as f64
    }

    fn json(&self) -> Value {
        if self.sorted.is_empty() {
            return json!({ "count": 0 });
        }
        let [min, p50, p99, max] = [0, 50, 99, 100].map(|share| rounded(self.at(share)));
        json!({ "count": self.sorted.len(), "min": min, "p50": p50, "mean": rounded(self.mean()), "p99": p99, "max": max })
    }

    fn row(&self) -> String {
        let [min, p50, p99, max] = [0, 50, 99, 100].map(|share| self.at(share));
        format!("{} | {min:.2} | {p50:.2} | {:.2} | {p99:.2} | {max:.2}", self.sorted.len(), self.mean())
    }
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// What a command says, where there is such a command.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

struct Report<'a> {
    settings: &'a Settings,
    faults: &'a [Fired],
    verdict: &'a Verdict,
    formula: Formula,
    commit: String,
    date: String,
}

/// Writes `chaos.json`, `chaos.md` and `failover.svg`.
pub(crate) fn write(out: &Path, settings: &Settings, faults: &[Fired], verdict: &Verdict) {
    let commit = std::env::var("CHAOS_COMMIT").ok().or_else(|| said("git", &["rev-parse", "--short", "HEAD"]));
    let report = Report {
        settings,
        faults,
        verdict,
        formula: Formula::new(seconds(verdict.round_trip)),
        commit: commit.unwrap_or_else(|| "unknown".to_owned()),
        date: said("date", &["-u", "+%Y-%m-%d"]).unwrap_or_else(|| "unknown".to_owned()),
    };
    let json = serde_json::to_string_pretty(&report.json()).unwrap();
    std::fs::write(out.join("chaos.json"), json + "\n").unwrap();
    std::fs::write(out.join("chaos.md"), report.text()).unwrap();
    chart::draw(&out.join("failover.svg"), &report.crashes().sorted, &report.formula);
}

impl Report<'_> {
    fn failovers(&self, wanted: impl Fn(&Failover) -> bool) -> Spread {
        Spread::of(self.verdict.failovers.iter().filter(|failover| wanted(failover)).map(|failover| failover.took))
    }

    /// What the formula is for: a leader that is killed while all else is well.
    fn crashes(&self) -> Spread {
        self.failovers(|failover| failover.kind == Kind::Kill && failover.undisturbed)
    }

    fn graceful(&self) -> Spread {
        self.failovers(|failover| failover.kind == Kind::Terminate && failover.undisturbed)
    }

    /// How often, how often at the leader.
    fn counts(&self) -> BTreeMap<Kind, (usize, usize)> {
        let mut counts: BTreeMap<Kind, (usize, usize)> = Kind::ALL.iter().map(|(kind, _)| (*kind, (0, 0))).collect();
        for fault in self.faults {
            let count = counts.entry(fault.kind).or_default();
            *count = (count.0 + 1, count.1 + usize::from(fault.led.is_some()));
        }
        counts
    }

    fn thaws(&self, time: impl Fn(&Thaw) -> u64) -> Spread {
        Spread::of(self.verdict.thaws.iter().map(time))
    }

    fn json(&self) -> Value {
        let Self { settings, verdict, formula, .. } = self;
        let faults = self.counts().into_iter().map(|(kind, (all, leader))| {
            json!({ "kind": format!("{kind:?}"), "what": kind.name(), "count": all, "at_leader": leader })
        });
        let failovers = Kind::ALL.iter().map(|(kind, _)| {
            let all = self.failovers(|failover| failover.kind == *kind);
            let undisturbed = self.failovers(|failover| failover.kind == *kind && failover.undisturbed);
            (format!("{kind:?}"), json!({ "all": all.json(), "undisturbed": undisturbed.json() }))
        });
        json!({
            "commit": self.commit, "date": self.date, "seed": settings.seed, "minutes": settings.minutes,
            "seconds": rounded(seconds(settings.lasted)), "replicas": settings.replicas,
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "faults": self.faults.len(), "faults_by_kind": faults.collect::<Vec<_>>(),
            "terms": verdict.terms, "led_seconds": rounded(seconds(verdict.led)), "ends_by_reason": verdict.reasons,
            "overlaps": verdict.overlaps, "smallest_gap_seconds": verdict.smallest_gap.map(|gap| rounded(seconds(gap))),
            "smallest_gap_after_a_loss_seconds": verdict.smallest_forced_gap.map(|gap| rounded(seconds(gap))),
            "fenced": { "applied": verdict.applied, "refused": verdict.refused, "stale_applied": verdict.stale },
            "unfenced": { "applied": verdict.plain_applied, "stale_applied": verdict.plain_stale },
            "thaws": {
                "leaders_frozen": verdict.frozen,
                "first_look_seconds": self.thaws(|thaw| thaw.looked).json(),
                "told_seconds": self.thaws(|thaw| thaw.told).json(),
                "told_seconds_less_starved": self.thaws(|thaw| thaw.told.saturating_sub(thaw.starved)).json(),
            },
            "round_trip_seconds": rounded(seconds(verdict.round_trip)),
            "failover_seconds": failovers.collect::<serde_json::Map<_, _>>(),
            "crash_failovers_seconds": self.crashes().sorted.iter().map(|time| rounded(*time)).collect::<Vec<_>>(),
            "formula_seconds": {
                "crash": { "best": rounded(formula.best), "mean": rounded(formula.mean), "worst": rounded(formula.worst) },
            },
            "wall_clock_steps": "not run",
            "failures": verdict.failures,
        })
    }

    fn text(&self) -> String {
        let Self { settings, verdict, formula, .. } = self;
        let mut text = String::new();
        let outcome = if verdict.failures.is_empty() { "No violation found" } else { "VIOLATIONS FOUND" };
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        writeln!(
            text,
            "# Chaos with real processes\n\n{outcome} in {:.0} minutes, {} faults, {} terms. {}, commit {}, {processors} processors, {} replicas, \
             `Timing::aggressive()` (lease 3 s), embedded engine over loopback TCP.\n\n```sh\nCHAOS_SEED={} just chaos {}\n```\n",
            seconds(settings.lasted) / 60.0,
            self.faults.len(),
            verdict.terms,
            self.date,
            self.commit,
            settings.replicas,
            settings.seed,
            settings.minutes,
        )
        .unwrap();
        text += "The seed fixes the faults and their order; what the operating system makes of them differs from run to run.\n";
        for failure in &verdict.failures {
            writeln!(text, "\n- **{failure}**").unwrap();
        }
        self.safety(&mut text);
        writeln!(text, "\n| fault | times | at the leader |\n| --- | --- | --- |").unwrap();
        for (kind, (all, leader)) in self.counts() {
            writeln!(text, "| {} | {all} | {leader} |", kind.name()).unwrap();
        }
        text += "\nWall clock stepped: not run (it would disturb the host; that no rule reads a wall clock is held by `tests/architecture.rs`).\n";
        writeln!(
            text,
            "\nFrom the fault to the next leader, in seconds, where nothing else went wrong meanwhile or in the 3 s before:\n\n\
             | leader | times | min | p50 | mean | p99 | max |\n| --- | --- | --- | --- | --- | --- | --- |"
        )
        .unwrap();
        for (kind, _) in Kind::ALL {
            let spread = self.failovers(|failover| failover.kind == kind && failover.undisturbed);
            if !spread.sorted.is_empty() {
                writeln!(text, "| {} | {} |", kind.name(), spread.row()).unwrap();
            }
        }
        writeln!(
            text,
            "\nThe formula (median round trip d = {:.1} ms): killed, best {:.2} s, mean {:.2} s, worst {:.2} s; measured mean {:.2} s. \
             Told to stop: measured mean {:.2} s, from the signal on, its notice included.",
            seconds(verdict.round_trip) * 1e3,
            formula.best,
            formula.mean,
            formula.worst,
            self.crashes().mean(),
            self.graceful().mean(),
        )
        .unwrap();
        text
    }

    fn safety(&self, text: &mut String) {
        let verdict = self.verdict;
        let (looked, told) = (self.thaws(|thaw| thaw.looked), self.thaws(|thaw| thaw.told));
        let ran = self.thaws(|thaw| thaw.told.saturating_sub(thaw.starved));
        let millis =
            |gap: Option<u64>| gap.map_or_else(|| "none".to_owned(), |gap| format!("{:.1} ms", seconds(gap) * 1e3));
        let reasons: Vec<String> = verdict.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let rows = [
            ("two processes that believed at once (must be 0)", verdict.overlaps.to_string()),
            ("smallest gap between one belief and the next", millis(verdict.smallest_gap)),
            (
                "the same after a term that was lost: its release, which its work waited for, and the next look",
                millis(verdict.smallest_forced_gap),
            ),
            ("somebody led, of the time", format!("{:.1} %", 100.0 * verdict.led as f64 / self.settings.lasted as f64)),
            ("terms ended, by reason (killed ones tell none)", reasons.join(", ")),
            ("fenced writes applied", verdict.applied.to_string()),
            ("fenced writes refused, all of them late", verdict.refused.to_string()),
            ("fenced writes applied after one of a later term (must be 0)", verdict.stale.to_string()),
            (
                "the same writes without a fence: applied after one of a later term",
                format!("{} of {}", verdict.plain_stale, verdict.plain_applied),
            ),
            (
                "leaders stopped for a lease or more: first look said `false` (must be all)",
                format!(
                    "{} of {}, {:.1} ms after the thaw at most",
                    looked.sorted.len(),
                    verdict.frozen,
                    looked.at(100) * 1e3
                ),
            ),
            (
                "their token fired, after the thaw (must be within 250 ms)",
                format!(
                    "{:.1} ms at p50, {:.1} ms at most; {:.1} ms without the time in which the process got no processor",
                    told.at(50) * 1e3,
                    told.at(100) * 1e3,
                    ran.at(100) * 1e3
                ),
            ),
        ];
        *text += "\n| | |\n| --- | --- |\n";
        for (what, figure) in rows {
            writeln!(text, "| {what} | {figure} |").unwrap();
        }
    }
}
