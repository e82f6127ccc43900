//! How often a healthy leader steps down needlessly in a lossy network, beside what other clients do.

use std::fmt::Write;

use crate::protocol::Mutant;
use crate::simulator::{Scenario, Tally, fixed, grouped, search, threads};

/// Of requests, and of replies.
pub(crate) const LOSS: f64 = 0.05;

/// One way to renew, and what it led to.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    pub(crate) tally: Tally,
}

/// Each in the same simulator, network and hours.
pub(crate) fn all(hours: u64) -> Vec<Rival> {
    [
        ("this crate", None),
        ("a condition on the last acknowledged version alone, a refused renewal is a loss", Some(Mutant::StrictRule)),
        ("gives up at the first heartbeat that fails", Some(Mutant::FirstErrorIsLoss)),
    ]
    .into_iter()
    .map(|(name, mutant)| {
        let lossy = Scenario::lossy(LOSS);
        // Nothing is judged here, so nothing can break.
        let tally = search(0..hours, mutant, threads(), fixed(&lossy)).unwrap_or_default();
        Rival { name, tally }
    })
    .collect()
}

pub(crate) fn text(rivals: &[Rival], hours: u64) -> String {
    let mut text = format!(
        "{} simulated hours, three candidates, default timing, {} % of requests and {} % of replies lost\n\n",
        grouped(hours),
        LOSS * 100.0,
        LOSS * 100.0
    );
    let _ = writeln!(text, "| a holder that… | needless step-downs in 1,000 h | terms |\n| --- | ---: | ---: |");
    for Rival { name, tally } in rivals {
        let counts = &tally.counts;
        let per_thousand = step_downs(tally) * 1_000 / hours.max(1);
        let _ = writeln!(text, "| {name} | {} | {} |", grouped(per_thousand), grouped(counts.terms));
    }
    text
}

/// No fault but loss: every end against the holder's will was needless.
pub(crate) fn step_downs(tally: &Tally) -> u64 {
    tally.counts.lost_by_deadline + tally.counts.lost_otherwise
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lossy_network_costs_far_fewer_terms_than_it_costs_others() {
        let rivals = all(200);
        println!("{}", text(&rivals, 200));
        let [ours, strict, hasty] = [0, 1, 2].map(|index| step_downs(&rivals[index].tally));
        assert!(strict > 20 * ours.max(1), "{ours} against {strict}");
        assert!(hasty > 20 * ours.max(1), "{ours} against {hasty}");
    }
}
