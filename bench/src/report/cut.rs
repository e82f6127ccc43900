//! Holders that were cut off, on a host that is idle and on one that is not.

use super::if_any;
use super::table::Table;
use crate::results::{Client, Results};
use crate::scenario::cut::{Found, Promised};
use crate::statistics::Summary;

pub(super) fn section(results: &Results) -> String {
    let watched = |found: fn(&Client) -> Option<&Found>| {
        results.clients.iter().find_map(found).map(|found| found.watched_seconds)
    };
    let head = "Lease 4 s, heartbeat 1 s; everything from and to a holder of 20 locks vanishes, another process waits for all of \
                them. Counted from when the last heartbeat of each that was answered arrived. *Told*: this crate tells by itself, \
                and *fired* is when a task that waits for nothing else knew; the peers have to be asked (`isExpired()`, \
                `is_healthy()`), which their drivers do every 5 ms. *Seen*: the same question to this crate, every 5 ms. *The end \
                of the validity* is what the client says of its last answered heartbeat (sent + V): *too long* if that is more than \
                V after it arrived. The aim: fired within 10 ms of the end of the validity at p99 on an idle host and within 50 ms \
                on a busy one, never later than the guard.";
    let idle = watched(|client| client.cut.as_ref()).unwrap_or_default();
    let busy = watched(|client| client.cut_busy.as_ref()).unwrap_or_default();
    format!(
        "## Cut off\n\n{head}\n\nThe clients wait side by side; watched for {idle:.0} s after the take-over.\n\n{}\n\
         With a thread for each processor that computes all the time, one client after the other; watched for {busy:.0} s.\n\n{}",
        table(results, |client| client.cut.as_ref()),
        table(results, |client| client.cut_busy.as_ref()),
    )
}

fn table(results: &Results, found: fn(&Client) -> Option<&Found>) -> String {
    let mut table = Table::new(results, found);
    table.row("locks cut off, in repetitions", |found| format!("{} in {}", found.locks, found.repetitions));
    table.row("made again after an error", |found| match &found.spoiled[..] {
        [] => "0".into(),
        spoiled @ [first, ..] => format!("{}: {first}", spoiled.len()),
    });
    table.row("told after, p50, s", |found| if_any(found.told_after.count, format!("{:.2}", found.told_after.p50)));
    table.row("told after, most, s", |found| if_any(found.told_after.count, format!("{:.2}", found.told_after.max)));
    table.row("never told while watched", |found| found.never_told.to_string());
    table.row("another had it before", |found| found.overlaps.to_string());
    table.row("both believed to hold it, most, s", |found| {
        if_any(found.overlap_seconds.count, format!("{:.2}", found.overlap_seconds.max))
    });
    table.row("least time between the two, s", |found| {
        if_any(found.margin_seconds.count, format!("{:.2}", found.margin_seconds.min))
    });
    promised(&mut table, "fired after the end of the validity, ms: p50 / p99 / most", |promised| {
        spread(&promised.fired_ms)
    });
    promised(&mut table, "seen after the end of the validity, ms: p50 / p99 / most", |promised| {
        spread(&promised.seen_ms)
    });
    promised(&mut table, "counted on it for too long", |promised| promised.overclaimed.to_string());
    promised(&mut table, "later than the guard", |promised| {
        format!(
            "{} (validity {} s, guard {:.0} ms)",
            promised.beyond_guard, promised.validity_seconds, promised.guard_ms
        )
    });
    table.markdown()
}

/// Of clients that say until when they tell.
fn promised(table: &mut Table<'_, Found>, name: &str, cell: impl Fn(&Promised) -> String) {
    table.row(name, |found| found.promised.as_ref().map_or_else(|| "no promise".into(), &cell));
}

fn spread(summary: &Summary) -> String {
    if_any(summary.count, format!("{:.1} / {:.1} / {:.1}", summary.p50, summary.p99, summary.max))
}
