//! Tables and charts of one run.

mod chart;
mod cut;
mod growth;
mod many;
mod panels;
mod table;

use std::path::Path;

use crate::host::Busy;
use crate::results::{Client, Ran, Results};
use chart::Curve;
use table::{Table, cost, grid};

/// Writes `benchmarks.md`, and the results and charts in `benchmarks/`.
pub(crate) fn write(results: &Results, out: &Path) -> anyhow::Result<()> {
    let folder = out.join("benchmarks");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("results.json"), serde_json::to_string_pretty(results)? + "\n")?;
    std::fs::write(out.join("benchmarks.md"), document(results))?;
    let late = |client: &Client| client.failover.as_ref().map(|found| found.after_lease.clone());
    let title = "From the end of the dead holder's lease to the take-over";
    chart::draw(&folder.join("failover.svg"), title, "seconds", &curves(results, late))?;
    let gaps = |client: &Client| client.handover.as_ref().map(|found| found.gaps_ms.clone());
    let title = "From the release to the next holder's user code";
    chart::draw(&folder.join("handover.svg"), title, "milliseconds", &curves(results, gaps))?;
    growth::draw(results, &folder)
}

fn curves(results: &Results, values: impl Fn(&Client) -> Option<Vec<f64>>) -> Vec<Curve> {
    let curve = |client: &Client| Some(Curve::of(&client.name, &values(client)?));
    results.clients.iter().filter_map(curve).collect()
}

fn document(results: &Results) -> String {
    let parts = [
        head(results),
        costs(results),
        failover(results),
        handover(results),
        loss(results),
        cut::section(results),
        pause(results),
        many::section(results),
        many::ladder(results),
        growth::section(results),
        runs(results),
    ];
    parts.join("\n")
}

fn head(results: &Results) -> String {
    let mut text = format!(
        "# Beside other clients\n\n\
         One run, of {date}: {minutes:.0} minutes on {host}, load {before:.1} before it and {after:.1} at its end. Revision {revision}, profile \
         `{profile}`, round trip {trip} ms. All clients on the same engine, behind the same network; what a scenario does not fix is each \
         client's own default. What is worth comparing are counts and ratios, not the milliseconds of this host. How it is measured, and how \
         to add a client: [bench](../bench/README.md). Every value: [results.json](benchmarks/results.json).\n",
        date = results.date.split('T').next().unwrap_or_default(),
        minutes = results.minutes,
        host = results.host,
        before = results.load.0,
        after = results.load.1,
        revision = results.revision,
        profile = results.profile,
        trip = results.round_trip_ms,
    );
    if results.scale < 1.0 {
        text += &format!("\n**Counts and durations are {} of a full run's.**\n", results.scale);
    }
    if results.quick {
        text += "\n**A smoke run: few repetitions, all clients at once. Not for publication.**\n";
    }
    text += "\n| client | what runs |\n| --- | --- |\n";
    for client in &results.clients {
        text += &format!("| {} | {} |\n", client.name, client.version);
    }
    let failures: Vec<_> = results.clients.iter().flat_map(|client| &client.failures).collect();
    if !failures.is_empty() {
        text += "\nNot measured, because it failed:\n\n";
        text.extend(failures.iter().map(|failure| format!("- {failure}\n")));
    }
    text
}

/// How busy the host was.
fn runs(results: &Results) -> String {
    let row = |ran: &Ran| {
        let Busy { minutes, load_mean, load_most, cpus_percent } = ran.busy;
        let clients = if ran.clients_at_once == 1 {
            "one after the other".into()
        } else {
            format!("{} side by side", ran.clients_at_once)
        };
        vec![
            format!("`{}`", ran.name),
            clients,
            format!("{minutes:.1}"),
            format!("{load_mean:.1}"),
            format!("{load_most:.1}"),
            format!("{cpus_percent:.0} %"),
        ]
    };
    let rows: Vec<_> = results.scenarios.iter().map(row).collect();
    let head = ["scenario", "clients", "minutes", "load, mean", "load, most", "of all CPUs"];
    format!(
        "## How busy the host was\n\nThe load of one minute, and what share of the processors' time was taken, by clients, harness and \
         everything else.\n\n{}",
        grid(&head, &rows)
    )
}

fn costs(results: &Results) -> String {
    let mut table = Table::new(results, |client| client.cost.as_ref());
    table.row("acquire, no record", |found| cost(found.acquire_absent));
    table.row("acquire, first contact with a released record", |found| {
        found.acquire_released.map_or_else(|| "not offered: deletes it".into(), cost)
    });
    table.row("acquire, following, from the release on", |found| cost(found.acquire_following));
    table.row("release", |found| cost(found.release));
    table.row("a heartbeat, requests", |found| format!("{:.2}", found.heartbeat_requests));
    table.row("a heartbeat, units", |found| format!("{:.2}", found.heartbeat_units));
    table.row("a follower, requests a second", |found| {
        format!("{:.2}", (found.follower.reads + found.follower.writes) as f64 / found.follower_seconds)
    });
    table.row("a follower, read units an hour", |found| hourly(found.follower.read_units, found.follower_seconds));
    table.row("a follower, write units an hour", |found| hourly(found.follower.write_units, found.follower_seconds));
    section(
        "Requests and capacity",
        "Lease 10 s, heartbeat 2.5 s. Requests, and in parentheses capacity units: R of reads, W of writes. A write unit costs five read units \
         on demand. An elector announces its release: a write that says so, the heartbeat that is due while followers read it, and the release.",
        &table,
    )
}

fn hourly(units: f64, seconds: f64) -> String {
    format!("{:.0}", units / seconds * 3_600.0)
}

fn failover(results: &Results) -> String {
    let mut table = Table::new(results, |client| client.failover.as_ref());
    table.row("crashes", |found| found.summary.count.to_string());
    table.ratio_row("mean, s", |found| found.summary.mean);
    table.row("p50, s", |found| format!("{:.2}", found.summary.p50));
    table.row("p90, s", |found| format!("{:.2}", found.summary.p90));
    table.row("least, s", |found| format!("{:.2}", found.summary.min));
    table.row("most, s", |found| format!("{:.2}", found.summary.max));
    table.row("from the crash until told, mean, s", |found| format!("{:.2}", found.from_kill_until_told.mean));
    section(
        "Fail-over after a crash",
        "Lease 4 s, heartbeat 1 s; the holder gets SIGKILL at a random moment, one other has waited for three and a half to \
         four and a half heartbeats since its first look. From the end of its lease (when its last \
         heartbeat was applied, plus the lease) until the take-over was applied. A negative figure would be a take-over before the end of \
         the lease.\n\n![Distribution of fail-over times](benchmarks/failover.svg)",
        &table,
    )
}

fn handover(results: &Results) -> String {
    let mut table = Table::new(results, |client| client.handover.as_ref());
    table.row("hand-overs", |found| found.gap_ms.count.to_string());
    table.ratio_row("mean, ms", |found| found.gap_ms.mean);
    table.ratio_row("p50, ms", |found| found.gap_ms.p50);
    table.ratio_row("p90, ms", |found| found.gap_ms.p90);
    table.row("most, ms", |found| format!("{:.0}", found.gap_ms.max));
    table.row("p50, round trips", |found| format!("{:.1}", found.round_trips.p50));
    table.row("p90, round trips", |found| format!("{:.1}", found.round_trips.p90));
    table.row("most, round trips", |found| format!("{:.1}", found.round_trips.max));
    table.row("asked until released, p50, ms", |found| format!("{:.0}", found.notice_ms.p50));
    section(
        "Planned hand-over",
        "Lease 10 s, heartbeat 2.5 s; the holder releases at a random moment, one other waits. From when the release was applied until the \
         next one's user code was told: nobody holds it for that long. The last row is the time before, in which it is still held.\n\n\
         ![Distribution of hand-over gaps](benchmarks/handover.svg)",
        &table,
    )
}

fn loss(results: &Results) -> String {
    let mut table = Table::new(results, |client| client.loss.as_ref());
    table.row("locks", |found| found.locks.to_string());
    table.row("minutes", |found| format!("{:.1}", found.minutes));
    table.row("given up needlessly", |found| found.lost.to_string());
    table.row("the same, per lock and hour", |found| format!("{:.1}", found.lost_per_lock_hour));
    table.row("locks that had run out unnoticed", |found| found.expired_unnoticed.to_string());
    table.row("share of the time claimed for which they had", |found| {
        format!("{:.1} %", found.expired_unnoticed_share * 100.0)
    });
    section(
        "A lossy network",
        "5 % of requests vanish, and 5 % of replies; nobody else wants these locks. Lease 10 s, heartbeat 2.5 s. *Unnoticed*: the record's \
         lease had run out at the store, while the client still said that it holds the lock. *+ timeouts*: the peer's SDK is given a bound of a \
         tenth of the lease on each attempt; by default it has none, or one above the lease.",
        &table,
    )
}

fn pause(results: &Results) -> String {
    let mut table = Table::new(results, |client| client.pause.as_ref());
    table.row("times", |found| found.repetitions.to_string());
    table.row("claimed it at the first look", |found| found.claimed_at_first_look.to_string());
    table.row("went on claiming for, most, ms", |found| {
        if_any(found.overlap_ms.count, format!("{:.1}", found.overlap_ms.max))
    });
    table.row("told after, mean, ms", |found| {
        if_any(found.told_after_ms.count, format!("{:.1}", found.told_after_ms.mean))
    });
    table.row("told after, most, ms", |found| {
        if_any(found.told_after_ms.count, format!("{:.1}", found.told_after_ms.max))
    });
    table.row("never told", |found| found.never_told.to_string());
    section(
        "Paused",
        "Lease 4 s, heartbeat 1 s; the holder's process gets SIGSTOP for two leases, and another takes over; then it goes on. What it says \
         when it is asked for the first time after the thaw, and when its user code is told.",
        &table,
    )
}

fn if_any(count: usize, text: String) -> String {
    if count == 0 { "–".into() } else { text }
}

fn section(title: &str, told: &str, table: &Table<impl Sized>) -> String {
    format!("## {title}\n\n{told}\n\n{}", table.markdown())
}
