//! What is told of a set of measurements.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Of nothing: a count of 0, and zeros that mean nothing.
    pub(crate) fn of(values: &[f64]) -> Self {
        let sorted = sorted(values);
        let (Some(min), Some(max)) = (sorted.first().copied(), sorted.last().copied()) else { return Self::default() };
        let count = sorted.len();
        let at = |share: f64| rank(&sorted, share);
        let mean = sorted.iter().sum::<f64>() / count as f64;
        Self { count, min, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), max }
    }
}

pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The smallest value that at least this share of all does not exceed.
fn rank(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let index = (share * sorted.len() as f64).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// From `from` to `to` in seconds; negative if it was the other way round.
pub(crate) fn seconds(from: u64, to: u64) -> f64 {
    let size = from.abs_diff(to) as f64 / 1e9;
    if to >= from { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let summary = Summary::of(&values);
        let Summary { count, min, mean, p50, p90, p99, max } = summary;
        assert_eq!((count, min, mean, p50, p90, p99, max), (10, 1.0, 5.5, 5.0, 9.0, 10.0, 10.0));
    }

    #[test]
    fn one_value_is_all_of_them_and_none_is_a_count_of_nothing() {
        let Summary { count, min, mean, p50, p90, p99, max } = Summary::of(&[-2.0]);
        assert_eq!((count, min, mean, p50, p90, p99, max), (1, -2.0, -2.0, -2.0, -2.0, -2.0, -2.0));
        assert_eq!(Summary::of(&[]).count, 0);
    }

    #[test]
    fn time_has_a_direction() {
        assert_eq!(seconds(1_000_000_000, 3_500_000_000), 2.5);
        assert_eq!(seconds(3_500_000_000, 1_000_000_000), -2.5);
    }
}
