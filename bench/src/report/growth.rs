//! What more of them take.

use std::path::Path;

use super::panels::{Panel, draw as draw_panels};
use super::table::grid;
use crate::results::{Client, Results};
use crate::scenario::growth::{Found, Held, Point};

type Points = fn(&Found) -> &[Point];

pub(super) fn draw(results: &Results, folder: &Path) -> anyhow::Result<()> {
    let of = |points: Points| {
        [
            panel(results, "requests a second", points, |point| point.requests_per_second),
            panel(results, "% of one CPU", points, |point| point.cpu_percent),
            panel(results, "resident MiB", points, |point| point.resident_mib),
        ]
    };
    draw_panels(
        &folder.join("growth-held.svg"),
        "locks or elections that one process holds",
        &of(|found| &found.held),
    )?;
    draw_panels(&folder.join("growth-followers.svg"), "followers of one election", &of(|found| &found.followers))
}

fn panel<'a>(results: &'a Results, title: &'static str, points: Points, value: fn(&Point) -> f64) -> Panel<'a> {
    let line = |client: &'a Client| {
        let found = client.growth.as_ref()?;
        Some((client.name.as_str(), points(found).iter().map(|point| (point.count as f64, value(point))).collect()))
    };
    Panel { title, lines: results.clients.iter().filter_map(line).collect() }
}

pub(super) fn section(results: &Results) -> String {
    if results.clients.iter().all(|client| client.growth.is_none()) {
        // Nor is anything drawn that could be shown.
        return "## Growth\n\nNot run.\n".into();
    }
    let stopped: String = results
        .clients
        .iter()
        .filter_map(|client| Some((client, client.growth.as_ref()?)))
        .flat_map(|(client, found)| {
            found.stopped.iter().map(move |why| format!("\n{} does not get further: {why}.\n", client.name))
        })
        .collect();
    format!(
        "## Growth\n\nWhat a process takes that holds ever more locks or elections (lease 30 s, heartbeat 10 s), and what a process takes in which \
         ever more clients wait for one that another process holds (lease 10 s, heartbeat 2.5 s; a client of its own each, with all that it brings). \
         *By*: how many times the row above's figure, for as many times its number; linear growth is the same factor, or less.\n\n\
         ### Held by one process\n\n![Growth with what is held](benchmarks/growth-held.svg)\n\n{}\n\
         ### Followers of one\n\n![Growth with followers](benchmarks/growth-followers.svg)\n\n{}{stopped}",
        table(results, |found| &found.held),
        table(results, |found| &found.followers),
    )
}

fn table(results: &Results, points: Points) -> String {
    let mut rows = Vec::new();
    for client in &results.clients {
        let points = client.growth.as_ref().map_or(&[][..], points);
        let before = std::iter::once(None).chain(points.iter().map(Some));
        rows.extend(points.iter().zip(before).map(|(point, before)| row(&client.name, point, before)));
    }
    let head =
        ["client", "number", "by", "requests a second", "by", "of one CPU", "by", "resident MiB", "by", "on schedule"];
    grid(&head, &rows)
}

fn row(client: &str, point: &Point, before: Option<&Point>) -> Vec<String> {
    let by = |value: fn(&Point) -> f64| {
        let before = before.map(value).filter(|before| *before > 0.0);
        before.map_or_else(|| "–".into(), |before| format!("×{:.1}", value(point) / before))
    };
    vec![
        client.into(),
        point.count.to_string(),
        by(|point| point.count as f64),
        format!("{:.1}", point.requests_per_second),
        by(|point| point.requests_per_second),
        format!("{:.1} %", point.cpu_percent),
        by(|point| point.cpu_percent),
        format!("{:.0}", point.resident_mib),
        by(|point| point.resident_mib),
        on_schedule(point),
    ]
}

fn on_schedule(point: &Point) -> String {
    match point.held {
        None => "–".into(),
        Some(Held { keeps_up: true, .. }) => "yes".into(),
        Some(Held { lost, off_schedule, .. }) => format!("no: {lost} lost, p99 {off_schedule:.0} % off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_shows_no_chart() {
        let results = Results { clients: vec![Client::default()], ..Results::default() };
        let section = section(&results);
        assert!(section.contains("Not run.") && !section.contains(".svg"), "{section}");
    }

    #[test]
    fn growth_is_told_from_one_number_to_the_next() {
        let point = |count, requests_per_second, cpu_percent| Point {
            count,
            requests_per_second,
            cpu_percent,
            resident_mib: 8.0,
            held: Some(Held { keeps_up: count < 50, lost: 3, off_schedule: 12.4 }),
        };
        let (few, many) = (point(10, 4.0, 0.0), point(100, 36.0, 2.0));
        assert_eq!(row("a", &few, None)[9], "yes");
        assert_eq!(row("a", &few, None)[..5], ["a", "10", "–", "4.0", "–"]);
        let cells = row("a", &many, Some(&few));
        assert_eq!(cells[..5], ["a", "100", "×10.0", "36.0", "×9.0"]);
        assert_eq!(
            cells[5..],
            ["2.0 %", "–", "8", "×1.0", "no: 3 lost, p99 12 % off"],
            "nothing is no multiple of none"
        );
    }
}
