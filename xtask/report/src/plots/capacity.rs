//! Latency over the rate of requests, up to the capacity of each configuration.

use bench_core::{metric, schema::Role};

use super::{
    Drawing,
    canvas::{Canvas, Rect, Shape},
    data::Measure,
    panel::{Frame, Key, Panel, page},
    scale::Scale,
    style::{CONFIGURATIONS, INK, VERMILLION},
};
use crate::{CapacityPage, Configuration, CurvePoint};

/// Latencies beyond this many times the limit, or the knee, are left out.
const BEYOND: f64 = 4.0;
/// Ticks of the horizontal axis that have room.
const X_TICKS: usize = 10;

/// Draws the plot.
pub fn draw(found: &CapacityPage<'_>, engine: &str) -> Drawing {
    let subtitle =
        format!("{engine} · load {} · latencies far beyond the limit left out", found.load);
    let svg = page((1000, 560), "Latency over the rate of requests", &subtitle, |canvas, body| {
        Curves::of(found).draw(canvas, Rect { top: body.top - 10, ..body });
    });
    Drawing { name: "capacity".to_owned(), svg }
}

/// A curve of rates and latencies for each configuration, as far as it is shown.
struct Curves<'a> {
    found: &'a CapacityPage<'a>,
    limit: Option<f64>,
    points: Vec<Vec<CurvePoint>>,
}

impl<'a> Curves<'a> {
    fn of(found: &'a CapacityPage<'a>) -> Self {
        let mut limits = found.limits.iter().filter(|limit| limit.metric == found.latency);
        let limit = limits.next().map(|limit| limit.limit.to_f64());
        let most = limit.unwrap_or_else(|| {
            let knees = found.configurations.iter().filter_map(|c| Some(c.knee()?.latency));
            knees.fold(0.0, f64::max)
        });
        let is_shown = |point: &&CurvePoint| most == 0.0 || point.latency <= BEYOND * most;
        let shown = |c: &Configuration| c.curve.iter().filter(is_shown).copied().collect();
        let points = found.configurations.iter().map(shown).collect();
        Self { found, limit, points }
    }

    fn legend(&self) -> Vec<(Key, String)> {
        let entry = |configuration: &Configuration| {
            let (name, color) = style(configuration.role);
            let capacity = configuration.capacity().map_or(0.0, |capacity| capacity.mean);
            let text = format!("{name}: up to {capacity:.1} requests/s within the limits");
            (Key::Line(color, Shape::Circle), text)
        };
        let limit = self.limit.map(|_| (Key::Dashes(VERMILLION), "limit".to_owned()));
        let configurations = self.found.configurations.iter().map(entry);
        let is_saturated = self.points.iter().flatten().any(|point| point.saturated);
        let saturated = is_saturated.then(|| {
            (Key::Mark(INK, Shape::Diamond), "saturated: more is offered than served".to_owned())
        });
        let knee = (Key::Hollow, "the knee".to_owned());
        configurations.chain([knee]).chain(saturated).chain(limit).collect()
    }

    fn draw(&self, canvas: &Canvas<'_>, area: Rect) {
        let latency = self.found.latency;
        let points = || self.points.iter().flatten();
        let latencies: Vec<f64> = points().map(|point| point.latency).chain(self.limit).collect();
        let measure = Measure::of(latency, latencies.iter().copied().fold(0.0, f64::max));
        let frame = Frame {
            title: metric::find(latency).map_or("Latency", |metric| metric.title),
            y_title: &format!("{} ({})", measure.title, measure.unit),
            x_title: "requests/s offered",
            x_lines: 1,
            legend: &self.legend(),
        };
        let shown: Vec<f64> = latencies.iter().map(|latency| latency * measure.factor).collect();
        let scale = match shown.as_slice() {
            [] => Scale::around(&[], true, 0.05),
            shown => Scale::fitting(shown, 0.05),
        };
        let panel = Panel::new(canvas, area, &frame, scale);
        let rates: Vec<f64> = points().map(|point| point.requests_per_s).collect();
        if rates.is_empty() {
            return panel.empty();
        }
        let x_scale = Scale::around(&rates, true, 0.03);
        let plot = panel.plot;
        let x =
            |rate: f64| plot.left + libm::round(x_scale.at(rate) * f64::from(plot.width())) as i32;
        let ticks = x_scale.ticks();
        for (value, text) in ticks.iter().step_by(ticks.len().div_ceil(X_TICKS).max(1)) {
            panel.x_label(x(*value), plot.width() / X_TICKS as i32, std::slice::from_ref(text));
        }
        if let Some(limit) = self.limit {
            let key = Key::Dashes(VERMILLION);
            panel.reference((plot.left, plot.right), limit * measure.factor, key);
        }
        let at =
            |point: &CurvePoint| (x(point.requests_per_s), panel.y(point.latency * measure.factor));
        for (configuration, points) in self.found.configurations.iter().zip(&self.points) {
            let (_, color) = style(configuration.role);
            let line: Vec<(i32, i32)> = points.iter().map(at).collect();
            canvas.line(&line, color, 2);
            for point in points {
                let shape = if point.saturated { Shape::Diamond } else { Shape::Circle };
                canvas.mark(at(point), shape, color, false);
            }
            if let Some(knee) = configuration.knee().filter(|knee| points.contains(knee)) {
                canvas.mark(at(&knee), Shape::Circle, INK, true);
            }
        }
    }
}

/// Name and colour of a configuration.
fn style(role: Role) -> (&'static str, plotters::style::RGBColor) {
    let found = CONFIGURATIONS.iter().find(|(other, _)| *other == role);
    // What is to be deployed is decided later.
    let name = match role {
        Role::Baseline => "baseline",
        Role::Tuned => "tuned",
        _ => "vLLM default",
    };
    found.map_or(("", INK), |(_, color)| (name, *color))
}
