//! Percentiles of TTFT, TPOT and E2E under the load of the target on E2E P95, else the production
//! load: one mark a configuration, with
//! its interval.

use bench_core::{metric, schema::Role};

use super::{
    Inputs,
    canvas::{Anchor, Canvas, Rect, Shape},
    configurations,
    data::{Figure, Measure, spread},
    number,
    panel::{Frame, Key, Panel, TARGET, legend, page},
    scale::Scale,
    style::{CONFIGURATIONS, GRID, PAPER, small},
};

const LATENCIES: [(&str, &str); 3] = [
    ("ttft", "TTFT: time to first token"),
    ("tpot", "TPOT: time per output token"),
    ("e2e", "E2E: end-to-end latency"),
];
const PERCENTILES: [(&str, &str); 3] = [("p50", "P50"), ("p95", "P95"), ("p99", "P99")];
pub(super) fn draw(inputs: &Inputs<'_>) -> String {
    let load = inputs.tail_load();
    let subtitle =
        format!("{} · load {load}, {}", inputs.engine(), spread(inputs.configurations()));
    page((1200, 750), "Latency percentiles", &subtitle, |canvas, body| {
        let top = body.top + legend(canvas, body, &keys(inputs, load)) + 14;
        let latencies = LATENCIES.map(|(name, _)| Latency::new(inputs, load, name));
        // All three on one kind of axis, so that distances can be compared.
        let is_log = latencies.iter().any(|latency| Scale::spans_much(&latency.values));
        for (i, (latency, (_, title))) in latencies.iter().zip(LATENCIES).enumerate() {
            let cell = Rect { top, ..body }.column(i, LATENCIES.len(), 28);
            panel(inputs, canvas, cell, (load, title), latency, is_log);
        }
    })
}

fn keys(inputs: &Inputs<'_>, load: &str) -> Vec<(Key, String)> {
    let metrics: Vec<String> = LATENCIES
        .iter()
        .flat_map(|(name, _)| PERCENTILES.iter().map(move |(p, _)| format!("{name}_{p}_ms")))
        .collect();
    let shown: Vec<(&str, &str)> = metrics.iter().map(|metric| (metric.as_str(), load)).collect();
    let mut keys = configurations::keys(inputs, |i| Key::Mark(CONFIGURATIONS[i].1, Shape::of(i)));
    keys.extend(configurations::reference_key(inputs, &shown));
    keys.extend(configurations::saturated_key(inputs, &[load]));
    if shown.iter().any(|(metric, load)| inputs.target(metric, load, 1.0).is_some()) {
        keys.push((TARGET, "target".to_owned()));
    }
    keys
}

/// The metrics of a latency, how they are shown, and all values that its axis has to hold.
struct Latency {
    metrics: [String; 3],
    measure: Measure,
    values: Vec<f64>,
    is_measured: bool,
}

impl Latency {
    fn new(inputs: &Inputs<'_>, load: &str, name: &str) -> Self {
        let metrics = PERCENTILES.map(|(percentile, _)| format!("{name}_{percentile}_ms"));
        let points = || inputs.configurations().filter(|point| point.load == load);
        let largest =
            metrics.iter().flat_map(|metric| points().filter_map(|p| Figure::at(p, metric, 1.0)));
        let largest = largest.map(|figure| figure.top()).fold(0.0, f64::max);
        let measure = Measure::of(&metrics[0], largest);
        let factor = measure.factor;
        let figures = metrics
            .iter()
            .flat_map(|metric| points().filter_map(|point| Figure::at(point, metric, factor)));
        let mut values: Vec<f64> = figures.flat_map(|figure| figure.values()).collect();
        let is_measured = !values.is_empty();
        let references = metrics.iter().flat_map(|metric| {
            [inputs.referred(metric, load, factor), inputs.target(metric, load, factor)]
        });
        values.extend(references.flatten());
        Self { metrics, measure, values, is_measured }
    }
}

fn panel(
    inputs: &Inputs<'_>,
    canvas: &Canvas<'_>,
    cell: Rect,
    (load, title): (&str, &str),
    latency: &Latency,
    is_log: bool,
) {
    let Latency { metrics, measure, values, is_measured } = latency;
    let frame = Frame {
        title,
        y_title: &measure.axis(),
        x_title: "percentile of requests",
        x_lines: 1,
        legend: &[],
    };
    let scale =
        if is_log { Scale::logarithmic(values, 0.1) } else { Scale::around(values, true, 0.1) };
    let panel = Panel::new(canvas, cell, &frame, scale);
    if !is_measured {
        panel.empty();
    }
    for (i, metric) in metrics.iter().enumerate() {
        let slot = panel.plot.column(i, metrics.len(), 0);
        if i > 0 {
            canvas.line(&[(slot.left, slot.top), (slot.left, slot.bottom)], GRID, 1);
        }
        percentile(inputs, &panel, slot, (metric, load), *measure);
        panel.x_label(slot.center().0, slot.width(), &[PERCENTILES[i].1.to_owned()]);
    }
}

fn percentile(
    inputs: &Inputs<'_>,
    panel: &Panel<'_, '_>,
    slot: Rect,
    (metric, load): (&str, &str),
    Measure { factor, unit, .. }: Measure,
) {
    let title = metric::find(metric).map_or(metric, |metric| metric.title);
    let across = (slot.left + 6, slot.right - 6);
    if let Some(value) = inputs.referred(metric, load, factor) {
        panel.reference(across, value, configurations::REFERENCE_KEY);
    }
    if let Some(value) = inputs.target(metric, load, factor) {
        panel.reference(across, value, TARGET);
    }
    let inner = Rect { left: slot.left + 4, right: slot.right - 4, ..slot };
    let present: Vec<(usize, Role)> = CONFIGURATIONS
        .iter()
        .enumerate()
        .filter(|(_, (role, ..))| inputs.point(*role, load).is_some())
        .map(|(i, (role, ..))| (i, *role))
        .collect();
    let mut taken: Vec<Rect> = Vec::new();
    for (column, (i, role)) in present.iter().enumerate() {
        let Some(point) = inputs.point(*role, load) else { continue };
        let Some(figure) = Figure::at(point, metric, factor) else { continue };
        let column = inner.column(column, present.len(), 0);
        let (x, _) = column.center();
        panel.interval(x, &figure);
        panel.canvas.mark(
            (x, panel.y(figure.mean)),
            Shape::of(*i),
            CONFIGURATIONS[*i].1,
            point.saturated,
        );
        let name = inputs.name(*role);
        panel.tell((x, panel.y(figure.mean)), &format!("{title}, {name}: {}", figure.words(unit)));
        let how = small(Anchor::Middle);
        let text = number::short(figure.mean);
        let half = how.width(&text) / 2 + 3;
        let rect = |y: i32| Rect::new(x - half, y - 7, x + half, y + 7);
        // Above the mark, and above the neighbour's figure where the two would meet.
        let mut y = panel.y(figure.top()) - 15;
        while taken.iter().any(|other| other.overlaps(&rect(y))) {
            y -= 1;
        }
        taken.push(rect(y));
        panel.canvas.fill(rect(y), PAPER);
        panel.canvas.text(&text, (x, y), how);
    }
}
