//! What the simulator predicts against what was measured: a mark a trial, a panel a metric.

use bench_core::{
    metric,
    sim::{
        accuracy::{self, LoadKind},
        fit::Fit,
        predict::{JUDGED, MeasuredTrial},
    },
};

use super::{
    Drawing,
    canvas::{Canvas, Rect, Shape},
    data::Measure,
    panel::{Frame, Key, Panel, legend, page},
    scale::Scale,
    style::{BLUE, GRID, VERMILLION},
};

/// Ticks of the horizontal axis that have room.
const X_TICKS: usize = 5;

/// Draws the plot.
pub fn draw(trials: &[MeasuredTrial], fit: &Fit) -> Drawing {
    let subtitle = format!(
        "{} trials · {} · on the line, predicted = measured",
        trials.len(),
        fit.model.title
    );
    let svg = page((1200, 900), "Predicted against measured", &subtitle, |canvas, body| {
        let entries = [
            (Key::Mark(BLUE, Shape::Circle), "other loads".to_owned()),
            (Key::Mark(VERMILLION, Shape::Triangle), "bursts".to_owned()),
        ];
        let top = body.top + legend(canvas, body, &entries) + 14;
        let middle = i32::midpoint(top, body.bottom);
        let rows = [Rect { top, bottom: middle - 10, ..body }, Rect { top: middle + 10, ..body }];
        for (index, id) in JUDGED.into_iter().enumerate() {
            let cell = rows[index / 3].column(index % 3, 3, 24);
            draw_metric(canvas, cell, id, &points(id, trials, fit));
        }
    });
    Drawing { name: "calibration".to_owned(), svg }
}

/// Measured and predicted value, and whether the trial was a burst.
fn points(id: &str, trials: &[MeasuredTrial], fit: &Fit) -> Vec<(f64, f64, bool)> {
    let value = metric::find(id).expect("a judged metric is one").value;
    trials
        .iter()
        .zip(&fit.predictions)
        .zip(accuracy::kinds(trials))
        .filter_map(|((trial, prediction), kind)| {
            let is_burst = kind == LoadKind::Burst;
            Some((value(&trial.measured)?, value(prediction.as_ref().ok()?)?, is_burst))
        })
        .collect()
}

fn draw_metric(canvas: &Canvas<'_>, cell: Rect, id: &str, points: &[(f64, f64, bool)]) {
    let values: Vec<f64> = points.iter().flat_map(|(m, p, _)| [*m, *p]).collect();
    let measure = Measure::of(id, values.iter().copied().fold(0.0, f64::max));
    let shown: Vec<f64> = values.iter().map(|value| value * measure.factor).collect();
    let x_title = format!("measured ({})", measure.unit);
    let y_title = format!("predicted ({})", measure.unit);
    let frame = Frame {
        title: measure.title,
        y_title: &y_title,
        x_title: &x_title,
        x_lines: 1,
        legend: &[],
    };
    let scale = if shown.is_empty() {
        Scale::around(&shown, true, 0.05)
    } else {
        Scale::fitting(&shown, 0.05)
    };
    let panel = Panel::new(canvas, cell, &frame, scale);
    if points.is_empty() {
        return panel.empty();
    }
    let plot = panel.plot;
    let x = |value: f64| {
        plot.left + libm::round(panel.scale.at(value) * f64::from(plot.width())) as i32
    };
    let ticks = panel.scale.ticks();
    for (value, text) in ticks.iter().step_by(ticks.len().div_ceil(X_TICKS).max(1)) {
        panel.x_label(x(*value), plot.width() / X_TICKS as i32, std::slice::from_ref(text));
    }
    canvas.line(&[(plot.left, plot.bottom), (plot.right, plot.top)], GRID, 2);
    for &(measured, predicted, is_burst) in points {
        let at = (x(measured * measure.factor), panel.y(predicted * measure.factor));
        let (shape, color) =
            if is_burst { (Shape::Triangle, VERMILLION) } else { (Shape::Circle, BLUE) };
        canvas.mark(at, shape, color, false);
    }
}
