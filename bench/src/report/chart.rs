//! Distributions of several clients in one picture.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use crate::statistics::sorted;

pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 96, 168),
    RGBColor(46, 139, 87),
    RGBColor(190, 40, 40),
    RGBColor(230, 145, 20),
    RGBColor(120, 80, 160),
    RGBColor(90, 90, 90),
];

/// The share of a client's values that are at most so much.
pub(crate) struct Curve {
    name: String,
    values: Vec<f64>,
}

impl Curve {
    pub(crate) fn of(name: &str, values: &[f64]) -> Self {
        Self { name: name.into(), values: sorted(values) }
    }

    fn steps(&self, begin: f64, end: f64) -> Vec<(f64, f64)> {
        let share = |count: usize| count as f64 / self.values.len() as f64;
        let mut steps = vec![(begin, 0.0)];
        for (index, value) in self.values.iter().enumerate() {
            steps.extend([(*value, share(index)), (*value, share(index + 1))]);
        }
        steps.push((end, 1.0));
        steps
    }
}

/// Nothing is drawn of nothing.
pub(crate) fn draw(path: &Path, title: &str, unit: &str, curves: &[Curve]) -> anyhow::Result<()> {
    if curves.is_empty() {
        return Ok(());
    }
    picture(path, title, unit, curves).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn picture(path: &Path, title: &str, unit: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (900, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let values = || curves.iter().flat_map(|curve| curve.values.iter().copied());
    // Beyond the largest value all curves are at the top, which leaves room for the names below.
    let (begin, end) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max) * 1.4);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(begin..end, 0.0..1.05)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(unit).y_desc("share").label_style(("sans-serif", 14)).axis_desc_style(("sans-serif", 14));
    mesh.light_line_style(WHITE).draw()?;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let line = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(curve.steps(begin, end), line))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], line));
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::LowerRight).label_font(("sans-serif", 14));
    labels.background_style(WHITE).border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_climbs_from_none_to_all() {
        let steps = Curve::of("a", &[3.0, 1.0]).steps(0.0, 4.0);
        assert_eq!(steps, [(0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (3.0, 0.5), (3.0, 1.0), (4.0, 1.0)]);
    }

    #[test]
    fn a_picture_names_every_client() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chart.svg");
        draw(&path, "title", "seconds", &[Curve::of("one", &[1.0]), Curve::of("other", &[-0.5, 2.0])]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(["title", "seconds", "one", "other"].iter().all(|word| text.contains(word)));
    }
}
