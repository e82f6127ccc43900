//! The tables of `docs/capacity.md` are what the cost model says.

use std::time::Duration;

use dynamo_elector::{Timing, Workload};

use super::{profiles, rows};

/// The prices of the document's example, for a million units.
const WRITES: f64 = 0.625;
const READS: f64 = 0.125;

/// Deployed once a day, and dead once a month.
fn usual(timing: Timing, candidates: u32) -> Workload {
    Workload::new(timing, candidates).hand_overs(30).crashes(1)
}

/// With commas between thousands.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let head = digits.len() % 3;
    let (first, rest) = digits.split_at(head);
    let parts = rest.as_bytes().chunks(3).map(|three| std::str::from_utf8(three).unwrap());
    [first].into_iter().filter(|first| !first.is_empty()).chain(parts).collect::<Vec<_>>().join(",")
}

fn a_month() -> Vec<Vec<String>> {
    let each = |(name, timing): (&str, Timing)| {
        [2, 3, 5].map(|candidates| {
            let month = usual(timing, candidates).per_month();
            let dollars = format!("${:.2}", month.price(WRITES, READS));
            vec![
                name.to_owned(),
                candidates.to_string(),
                grouped(month.write_units),
                grouped(month.read_units),
                dollars,
            ]
        })
    };
    profiles().into_iter().flat_map(each).collect()
}

fn estates() -> Vec<Vec<String>> {
    let each = |(name, timing): (&str, Timing)| {
        [1_000, 100_000, 1_000_000].map(|elections| {
            let estate = usual(timing, 3).elections(elections);
            let (second, month) = (estate.over(Duration::from_secs(1)), estate.per_month());
            vec![
                name.to_owned(),
                grouped(f64::from(elections)),
                grouped(second.write_units),
                grouped(second.read_units),
                format!("${}", grouped(month.price(WRITES, READS))),
            ]
        })
    };
    profiles().into_iter().flat_map(each).collect()
}

#[test]
fn the_tables_of_capacity_are_those_of_the_model() {
    let rows = rows("capacity.md");
    for expected in [a_month(), estates()] {
        let found = rows.windows(expected.len()).any(|rows| rows == expected);
        let lines: Vec<String> = expected.iter().map(|row| format!("| {} |", row.join(" | "))).collect();
        assert!(found, "docs/capacity.md does not have these rows:\n{}", lines.join("\n"));
    }
}
