//! Many locks in one process, and how many are too many.

use super::if_any;
use super::table::{Table, grid};
use crate::results::{Client, Results};
use crate::scenario::ladder::Step;
use crate::scenario::many::Round;
use crate::statistics::Summary;

pub(super) fn section(results: &Results) -> String {
    let found = || results.clients.iter().filter_map(|client| Some((client, client.many.as_ref()?)));
    let most = found().map(|(_, found)| found.rounds.len()).max().unwrap_or_default();
    let mut text = "## Many locks in one process\n\nNobody else wants them. The store is the embedded engine in the harness's process, which serves \
                    all requests and has processors left (the last rows). How far intervals between a lock's heartbeats are from the period; what \
                    the process takes meanwhile. Memory a lock: what the process grew by, a collector's heap included.\n"
        .to_owned();
    for index in 0..most {
        text += &round(results, index);
    }
    for (client, stopped) in found().filter_map(|(client, found)| Some((client, found.stopped.as_ref()?))) {
        text += &format!("\n{} does not get further: {stopped}.\n", client.name);
    }
    text
}

fn round(results: &Results, index: usize) -> String {
    let mut table = Table::new(results, |client: &Client| client.many.as_ref()?.rounds.get(index));
    let fixed = |digits: usize, of: fn(&Round) -> f64| move |round: &Round| format!("{:.digits$}", of(round));
    let percent = |digits: usize, of: fn(&Round) -> f64| move |round: &Round| format!("{:.digits$} %", of(round));
    table.row("locks", |round| round.locks.to_string());
    table.row("held for, s", fixed(0, |round| round.seconds));
    table.row("all acquired within, s", fixed(1, |round| round.acquired_in_seconds));
    table.row("lost", |round| round.lost.to_string());
    table.row("run out unnoticed", |round| round.expired_unnoticed.to_string());
    table.row("heartbeats sent, of those due", percent(0, |round| round.sent_percent));
    table.row("off the period, p50", |round| off(round, |off| off.p50));
    table.row("off the period, p99", |round| off(round, |off| off.p99));
    table.row("requests a second", fixed(0, |round| round.requests_per_second));
    table.row("of one CPU", percent(0, |round| round.cpu_percent));
    table.row("processor time a lock and minute, ms", fixed(1, Round::cpu_ms_per_lock_minute));
    table.row("resident memory, MiB", fixed(0, |round| round.resident_mib));
    table.row("resident memory a lock, KiB", fixed(0, |round| round.resident_kib_per_lock));
    table.row("the harness, of one CPU", percent(0, |round| round.harness_cpu_percent));
    table.row("the host, of all CPUs", percent(0, |round| round.host_cpus_percent));
    let of = results.clients.iter().find_map(|client| client.many.as_ref()?.rounds.get(index));
    let title =
        of.map(|round| format!("### {} locks, lease {} s, heartbeat {} s", round.locks, round.lease, round.heartbeat));
    format!("\n{}\n\n{}", title.unwrap_or_default(), table.markdown())
}

pub(super) fn ladder(results: &Results) -> String {
    let mut text = "## How many one process keeps\n\nLease 10 s, heartbeat 2.5 s; twice as many locks at each step, in a process of its own, until one is lost \
                    or more than one in a hundred heartbeats is off its period by more than a tenth. What was at its limit \
                    then: a thread or the harness counts from 90 % of a processor on, the host from 90 % of all.\n"
        .to_owned();
    let head = [
        "locks",
        "requests a second",
        "lost",
        "sent, of those due",
        "off the period, p99",
        "of one CPU",
        "its busiest thread",
        "harness",
        "host, of all CPUs",
        "limited by",
    ];
    let found = results.clients.iter().filter_map(|client| Some((client, client.ladder.as_ref()?)));
    for (client, found) in found {
        let rows: Vec<_> = found.steps.iter().map(step).collect();
        text += &format!("\n### {}\n\n{}", client.name, grid(&head, &rows));
        if let Some(stopped) = &found.stopped {
            text += &format!("\nNo further: {stopped}.\n");
        }
    }
    text
}

/// Of locks that were never renewed twice there is no interval.
fn off(round: &Round, value: fn(&Summary) -> f64) -> String {
    let off = &round.off_schedule_percent;
    if_any(off.count, format!("{:.1} %", value(off)))
}

fn step(step: &Step) -> Vec<String> {
    let round = &step.round;
    vec![
        round.locks.to_string(),
        format!("{:.0}", round.requests_per_second),
        (round.lost + round.expired_unnoticed).to_string(),
        format!("{:.0} %", round.sent_percent),
        off(round, |off| off.p99),
        format!("{:.0} %", round.cpu_percent),
        format!("{:.0} %", round.busiest_thread_percent),
        format!("{:.0} %", round.harness_cpu_percent),
        format!("{:.0} %", round.host_cpus_percent),
        step.limit.map_or("keeps up", |limit| limit.as_str()).to_owned(),
    ]
}
