//! Dashboard, alerts and their document name only what exists, and the document names all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{quoted, rows, sources};

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A metric of the code, as `src/telemetry/catalog.rs` lists it.
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
    unit: String,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn metrics() -> BTreeMap<String, Metric> {
    let code = text("src/telemetry/catalog.rs");
    let rows = code.split("\ncatalog! {\n").nth(1).unwrap().split("\n}\n").next().unwrap().lines();
    let metrics: BTreeMap<_, _> = rows
        .map(|row| {
            let (head, rest) = row.split_once('[').unwrap();
            let (labels, rest) = rest.split_once(']').unwrap();
            let kind = words(head).nth(1).unwrap().to_lowercase();
            // What stands behind `=` is the list of values.
            let labels = labels.split(';').filter_map(|label| words(label).next()).map(str::to_owned).collect();
            let unit = words(rest).next().unwrap().to_lowercase();
            (head.split('"').nth(1).unwrap().to_owned(), Metric { kind, labels, unit })
        })
        .collect();
    assert!(metrics.len() >= 27, "{} metrics: is it blind?", metrics.len());
    metrics
}

/// Checks each metric that `text` names, with the labels it is selected and grouped by. How many there were.
fn check_metrics(place: &str, text: &str, metrics: &BTreeMap<String, Metric>, queries_only: bool) -> usize {
    let sources: String = sources().into_iter().map(|(_, code)| code).collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut at, mut named, mut grouped) = (0, 0, Vec::new());
    while let Some(start) = text[at..].find(is_word).map(|offset| at + offset) {
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |offset| start + offset);
        let (word, rest) = (&text[start..end], &text[end..]);
        at = end;
        if word == "by" && rest.starts_with(" (") {
            grouped = words(rest[2..].split(')').next().unwrap()).collect();
        }
        if !word.starts_with("leader_election_") && !word.starts_with("locks_") {
            continue;
        }
        named += 1;
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        let name = base.filter(|base| metrics.contains_key(*base)).unwrap_or(word);
        let metric = metrics.get(name).unwrap_or_else(|| panic!("{place} names {word}, which does not exist"));
        let of_histogram = metric.kind == "histogram";
        assert!(of_histogram || name == word, "{place}: {word}, but {name} is no histogram");
        assert!(!queries_only || !of_histogram || name != word, "{place}: {word} is scraped in parts only");
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let chosen = selector.split(", ").filter_map(|part| part.split_once('='));
        for (label, values) in chosen.clone() {
            let values = values.trim_matches(['=', '~', '"']);
            let known = |value: &str| sources.contains(&format!("\"{value}\""));
            let free = ["name", "job", "instance", "le"].contains(&label);
            assert!(free || values.split('|').all(known), "{place}: {word} never has {label} {values}");
        }
        for label in chosen.map(|(label, _)| label).chain(grouped.drain(..)) {
            let added = ["job", "instance"].contains(&label) || (label == "le" && word.ends_with("_bucket"));
            assert!(added || metric.labels.contains(label), "{place}: {word} has no label {label}");
        }
    }
    named
}

/// All texts under this name, at any depth.
fn collect(json: &serde_json::Value, name: &str, found: &mut Vec<String>) {
    match json {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get(name).and_then(|value| value.as_str()).map(str::to_owned));
            fields.values().for_each(|value| collect(value, name, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, name, found)),
        _ => {}
    }
}

#[test]
fn dashboard_alerts_and_docs_name_metrics_and_labels_that_exist() {
    let metrics = metrics();
    let (mut asked, json) = (Vec::new(), serde_json::from_str(&text("observability/dashboard.json")).unwrap());
    ["expr", "query"].iter().for_each(|name| collect(&json, name, &mut asked));
    let shown: usize = asked.iter().map(|query| check_metrics("the dashboard", query, &metrics, true)).sum();
    assert!(shown >= 39, "{shown} metrics in the dashboard: is it blind?");
    let unseen: Vec<_> =
        metrics.keys().filter(|name| !asked.iter().any(|query| query.contains(name.as_str()))).collect();
    assert!(unseen.is_empty(), "no panel shows {unseen:?}");
    assert!(check_metrics("alerts.yml", &text("observability/alerts.yml"), &metrics, true) >= 18);
    assert!(check_metrics("alerts_test.yml", &text("observability/alerts_test.yml"), &metrics, true) >= 18);
    assert!(check_metrics("observability.md", &text("docs/observability.md"), &metrics, false) >= 2 * metrics.len());
}

#[test]
fn the_document_lists_every_metric_of_the_code() {
    let rows = rows("observability.md");
    let listed = rows.iter().filter(|row| row.len() == 6 && row[0].starts_with('`')).map(|row| {
        let labels: BTreeSet<String> = quoted(&row[3]).into_iter().map(str::to_owned).collect();
        let example = quoted(&row[5]).concat();
        assert!(example.contains(quoted(&row[0])[0]), "{}: another metric in {example}", row[0]);
        (quoted(&row[0])[0].to_owned(), (row[1].clone(), row[2].clone(), labels))
    });
    let listed: BTreeMap<_, _> = listed.collect();
    let known = metrics().into_iter().map(|(name, metric)| (name, (metric.kind, metric.unit, metric.labels)));
    assert_eq!(listed, known.collect::<BTreeMap<_, _>>());
}

/// Whoever is woken by an alert finds what to do.
#[test]
fn each_alert_has_its_section_in_the_document_and_its_test() {
    let (alerts, tests) = (text("observability/alerts.yml"), text("observability/alerts_test.yml"));
    let document = text("docs/observability.md");
    let runbook = document.split("\n## Alerts\n").nth(1).unwrap();
    let mut names = Vec::new();
    for alert in alerts.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        for part in ["expr: ", "severity: ", "summary: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        let link = format!("runbook_url: docs/observability.md#{}\n", name.to_lowercase());
        assert!(alert.contains(&link), "{name} does not link to its section");
        let section = runbook.split("\n### ").find(|section| section.lines().next() == Some(name));
        assert!(section.is_some_and(|section| section.contains("**What:**")), "{name} has no section");
        let fires = format!("alertname: {name}\n        exp_alerts:");
        assert!(tests.contains(&fires), "no test in which {name} fires");
        assert!(tests.contains(&format!("alertname: {name}}}")), "no test in which {name} is silent");
        names.push(name);
    }
    assert!(names.len() >= 18, "{names:?}");
    let sections = runbook.split("\n### ").skip(1).map(|section| section.lines().next().unwrap());
    let orphans: Vec<_> = sections.filter(|section| !names.contains(section)).collect();
    assert!(orphans.is_empty(), "sections of alerts that do not exist: {orphans:?}");
    for link in document.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let heading =
            document.lines().any(|line| line.starts_with('#') && line.to_lowercase().ends_with(&format!("# {link}")));
        assert!(heading, "no section #{link}");
    }
}
