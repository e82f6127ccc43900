//! Several pictures side by side, both axes logarithmic: what grows linearly is a diagonal.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use super::chart::COLOURS;

pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    /// A name and its points.
    pub(crate) lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

impl Panel<'_> {
    /// Those that such axes can show.
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.lines.iter().flat_map(|(_, points)| points.iter().copied()).filter(is_positive)
    }

    /// Whole decades around all values, and at least one.
    fn range(&self, value: fn((f64, f64)) -> f64) -> std::ops::Range<f64> {
        let values = || self.points().map(value);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let (begin, end) = (least.log10().floor(), most.log10().ceil());
        10_f64.powf(begin)..10_f64.powf(end.max(begin + 1.0))
    }
}

/// `0.1`, `10`.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the library asks for it")]
fn plain(number: &f64) -> String {
    format!("{}", (number * 1e6).round() / 1e6)
}

fn is_positive((x, y): &(f64, f64)) -> bool {
    *x > 0.0 && *y > 0.0
}

/// Nothing is drawn of nothing.
pub(crate) fn draw(path: &Path, unit: &str, panels: &[Panel<'_>]) -> anyhow::Result<()> {
    if panels.iter().any(|panel| panel.points().next().is_none()) {
        return Ok(());
    }
    pictures(path, unit, panels).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn pictures(path: &Path, unit: &str, panels: &[Panel<'_>]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (1_260, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
        let (x, mut y) = (panel.range(|(x, _)| x), panel.range(|(_, y)| y));
        // Room for the names.
        y.end *= 10.0;
        let mut chart = ChartBuilder::on(area)
            .caption(panel.title, ("sans-serif", 18))
            .margin(10)
            .margin_right(32)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(x.log_scale(), y.log_scale())?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(unit)
            .x_label_formatter(&plain)
            .y_label_formatter(&plain)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 13));
        mesh.light_line_style(WHITE).draw()?;
        for ((name, points), colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
            let line = colour.stroke_width(2);
            let points = points.iter().copied().filter(is_positive);
            chart
                .draw_series(LineSeries::new(points, line).point_size(3))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], line));
        }
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).label_font(("sans-serif", 13));
        labels.background_style(WHITE).border_style(BLACK).draw()?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_whole_decades_and_leave_out_what_they_cannot_show() {
        let panel = Panel { title: "title", lines: vec![("a", vec![(1.0, 0.0), (10.0, 0.3), (100.0, 40.0)])] };
        assert_eq!((panel.range(|(x, _)| x), panel.range(|(_, y)| y)), (10.0..100.0, 0.1..100.0));
    }

    #[test]
    fn a_picture_names_what_it_shows_and_nothing_draws_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("panels.svg");
        draw(&path, "locks", &[Panel { title: "memory", lines: vec![("one", vec![(1.0, 0.0)])] }]).unwrap();
        assert!(!path.exists());
        let lines = vec![("one", vec![(1.0, 2.0), (10.0, 20.0)]), ("other", vec![(1.0, 3.0)])];
        draw(&path, "locks", &[Panel { title: "memory", lines }]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(["locks", "memory", "one", "other"].iter().all(|word| text.contains(word)));
    }
}
