//! A table with a column for each client that has a figure.

use crate::network::Cost;
use crate::results::{Client, Results};

pub(crate) struct Table<'a, Found> {
    columns: Vec<(&'a str, &'a Found)>,
    rows: Vec<(String, Vec<String>)>,
}

impl<'a, Found> Table<'a, Found> {
    pub(crate) fn new(results: &'a Results, found: impl Fn(&'a Client) -> Option<&'a Found>) -> Self {
        let column = |client: &'a Client| Some((client.name.as_str(), found(client)?));
        Self { columns: results.clients.iter().filter_map(column).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, name: &str, cell: impl Fn(&Found) -> String) {
        self.rows.push((name.into(), self.columns.iter().map(|(_, found)| cell(found)).collect()));
    }

    /// With how many times the first client's figure each is.
    pub(crate) fn ratio_row(&mut self, name: &str, value: impl Fn(&Found) -> f64) {
        let first = self.columns.first().map_or(0.0, |(_, found)| value(found));
        self.row(name, |found| {
            let value = value(found);
            let digits = if value.abs() < 10.0 { 2 } else { 0 };
            let figure = format!("{value:.digits$}");
            if first > 0.0 { format!("{figure} (×{:.1})", value / first) } else { figure }
        });
    }

    pub(crate) fn markdown(&self) -> String {
        if self.columns.is_empty() {
            return "Not run.\n".into();
        }
        let head: Vec<&str> = std::iter::once("").chain(self.columns.iter().map(|(name, _)| *name)).collect();
        let row = |(name, cells): &(String, Vec<String>)| std::iter::once(name.clone()).chain(cells.clone()).collect();
        grid(&head, &self.rows.iter().map(row).collect::<Vec<_>>())
    }
}

/// Rows of as many cells as the head has.
pub(crate) fn grid(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head) + &line(&vec!["---"; head.len()]);
    for cells in rows {
        text += &line(&cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    text
}

/// `1 read + 1 write (0.5 R + 1 W)`.
pub(crate) fn cost(cost: Cost) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (mut requests, mut units) = (Vec::new(), Vec::new());
    if cost.reads > 0 {
        requests.push(plural(cost.reads, "read"));
        units.push(format!("{} R", cost.read_units));
    }
    if cost.writes > 0 {
        requests.push(plural(cost.writes, "write"));
        units.push(format!("{} W", cost.write_units));
    }
    if requests.is_empty() { "none".into() } else { format!("{} ({})", requests.join(" + "), units.join(" + ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::cut;
    use crate::statistics::Summary;

    fn client(name: &str, told_after: Option<f64>) -> Client {
        let found = |told| cut::Found { told_after: Summary::of(&[told]), ..cut::Found::default() };
        Client { name: name.into(), cut: told_after.map(found), ..Client::default() }
    }

    #[test]
    fn who_has_no_figure_has_no_column_and_ratios_are_to_the_first() {
        let clients = vec![client("a", Some(2.0)), client("b", None), client("c", Some(30.0))];
        let results = Results { clients, ..Results::default() };
        let mut table = Table::new(&results, |client| client.cut.as_ref());
        table.ratio_row("told", |found| found.told_after.mean);
        assert_eq!(table.markdown(), "|  | a | c |\n| --- | --- | --- |\n| told | 2.00 (×1.0) | 30 (×15.0) |\n");
    }

    #[test]
    fn a_cost_is_told_in_requests_and_units() {
        let told = cost(Cost { reads: 1, read_units: 0.5, writes: 2, write_units: 2.0 });
        assert_eq!(told, "1 read + 2 writes (0.5 R + 2 W)");
        assert_eq!(cost(Cost::default()), "none");
    }
}
