//! The distribution of fail-over times against the formula.

use std::path::Path;

use plotters::prelude::*;

use super::report::Formula;

/// The share of crashes after which somebody led again within so many seconds.
pub(crate) fn draw(path: &Path, sorted: &[f64], formula: &Formula) {
    let root = SVGBackend::new(path, (900, 480)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let end = sorted.last().copied().unwrap_or(0.0).max(formula.worst) + 0.4;
    let title = format!("Fail-over after SIGKILL of the leader, {} times", sorted.len());
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..end, 0.0..1.05)
        .unwrap();
    chart
        .configure_mesh()
        .x_desc("seconds until another leads")
        .y_desc("share of crashes")
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .draw()
        .unwrap();
    let mut steps = vec![(0.0, 0.0)];
    for (index, time) in sorted.iter().enumerate() {
        let share = |count: usize| count as f64 / sorted.len() as f64;
        steps.extend([(*time, share(index)), (*time, share(index + 1))]);
    }
    steps.push((end, if sorted.is_empty() { 0.0 } else { 1.0 }));
    let blue = RGBColor(31, 96, 168);
    chart
        .draw_series(LineSeries::new(steps, blue.stroke_width(2)))
        .unwrap()
        .label("measured")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], blue.stroke_width(2)));
    let lines = [
        ("formula: best", formula.best, RGBColor(46, 139, 87)),
        ("formula: mean", formula.mean, RGBColor(230, 145, 20)),
        ("formula: worst", formula.worst, RGBColor(190, 40, 40)),
    ];
    for (label, at, color) in lines {
        chart
            .draw_series(LineSeries::new([(at, 0.0), (at, 1.05)], color.stroke_width(1)))
            .unwrap()
            .label(format!("{label}, {at:.2} s"))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(1)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 14))
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .unwrap();
    root.present().unwrap();
}
