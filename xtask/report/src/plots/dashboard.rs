//! The whole suite on one page.

use bench_core::{
    metric,
    schema::{Column, Comparison, Point, TargetOutcome, TargetState, Verdict},
};
use plotters::style::RGBColor;

use super::{
    Inputs,
    canvas::{Anchor, Canvas, Rect, Shape},
    configurations,
    data::{Figure, Measure, lower_first},
    number,
    panel::{Frame, Key, Panel, X_LINES, legend, page, stacked_bar, x_lines},
    queue_time::{part_keys, parts},
    scale::Scale,
    style::{CONFIGURATIONS, FAINT_INK, GREEN, INK, VERMILLION, label},
    table::{self, Cell},
};
use crate::{distinct, format};

/// Metrics whose verdicts are shown first.
const HEADLINES: [&str; 9] = [
    "output_tokens_per_s",
    "requests_per_s",
    "queue_share",
    "front_end_share",
    "ttft_p95_ms",
    "tpot_p95_ms",
    "e2e_p95_ms",
    "long_e2e_p95_ms",
    "length_slowdown",
];
/// Height of the page without its tables.
const UPPER: i32 = 577;
/// Most loads whose tail latency is shown.
const TAIL_LOADS: usize = 6;

pub(super) fn draw(inputs: &Inputs<'_>) -> String {
    let subtitle = format!(
        "{} · profile {}, objective {} on load {}",
        inputs.engine(),
        inputs.baseline.header.profile,
        metric::find(inputs.objective_metric)
            .map_or(inputs.objective_metric.to_owned(), |m| lower_first(m.title)),
        inputs.objective_load
    );
    // As many rows below as there are targets or verdicts, so that neither table leaves a hole in the page.
    let judged = inputs.comparisons.iter().filter(|row| row.verdict.is_some()).count();
    let tables = table::height(inputs.targets.len().max(judged.min(8)).clamp(1, 12));
    page((1600, UPPER + tables), "Optimization summary", &subtitle, |canvas, body| {
        let throughput = ("output_tokens_per_s", inputs.objective_load);
        let queue = ("queue_share", queue_load(inputs));
        let shown = [throughput, queue];
        let mut entries = configurations::keys(inputs, |i| Key::Box(CONFIGURATIONS[i].1));
        entries.extend(configurations::reference_key(inputs, &shown));
        entries.extend(configurations::target_key(inputs, &shown));
        entries.extend(configurations::saturated_key(inputs, &shown.map(|(_, load)| load)));
        let top = body.top + legend(canvas, body, &entries) + 16;
        let middle = body.bottom - tables - 14;
        let cell = |row: i32, from: i32, to: i32| {
            let (top, bottom) =
                if row == 0 { (top, middle - 14) } else { (middle + 14, body.bottom) };
            let at = |percent: i32| body.left + body.width() * percent / 100;
            Rect {
                top,
                bottom,
                left: at(from) + 16 * i32::from(from > 0),
                right: at(to) - 16 * i32::from(to < 100),
            }
        };
        configurations::bars(inputs, canvas, cell(0, 0, 21), throughput.0, &[throughput.1], &[]);
        configurations::bars(inputs, canvas, cell(0, 21, 42), queue.0, &[queue.1], &[]);
        anatomy(inputs, canvas, cell(0, 42, 66));
        tail(inputs, canvas, cell(0, 66, 100));
        targets(inputs, canvas, cell(1, 0, 58));
        verdicts(inputs, canvas, cell(1, 58, 100));
    })
}

/// The load of the target on the queue's share, else the objective's.
fn queue_load<'a>(inputs: &Inputs<'a>) -> &'a str {
    let mut targets = inputs.targets.iter();
    let target = targets.find(|target| target.metric == "queue_share");
    target.map_or(inputs.objective_load, |target| target.load.as_str())
}

fn anatomy(inputs: &Inputs<'_>, canvas: &Canvas<'_>, cell: Rect) {
    let title = "Where the time went";
    let frame = Frame {
        title,
        y_title: "share of mean E2E (%)",
        x_title: "configuration",
        x_lines: 1,
        legend: &part_keys(),
    };
    let panel = Panel::new(canvas, cell, &frame, Scale::linear(0.0, 100.0, 5));
    let slots: Vec<(&str, &Point)> = CONFIGURATIONS
        .iter()
        .filter_map(|(role, _)| {
            Some((inputs.name(*role), inputs.point(*role, inputs.objective_load)?))
        })
        .collect();
    if slots.is_empty() {
        panel.empty();
    }
    for (i, (name, point)) in slots.iter().enumerate() {
        let slot = panel.plot.column(i, slots.len(), 0);
        panel.x_label(slot.center().0, slot.width() - 6, &[(*name).to_owned()]);
        let margin = slot.width() / 5;
        let column = Rect { left: slot.left + margin, right: slot.right - margin, ..slot };
        let total = parts(point, 1.0).map(|parts| parts.iter().map(|(ms, _)| ms).sum::<f64>());
        match total.and_then(|total| parts(point, 100.0 / total)) {
            Some(parts) => stacked_bar(&panel, column, name, &parts),
            None => panel.missing(slot, "parts not measured"),
        }
    }
}

/// E2E P95 of the loads of the comprehensive benchmark, part by part.
fn tail(inputs: &Inputs<'_>, canvas: &Canvas<'_>, cell: Rect) {
    const METRIC: &str = "e2e_p95_ms";
    let mut loads: Vec<&str> = inputs.loads(METRIC);
    let part = |load: &str| {
        inputs.configurations().find(|p| p.load == load).and_then(|p| p.part.as_deref())
    };
    if loads.iter().any(|load| part(load).is_some()) {
        loads.retain(|load| part(load).is_some());
    }
    // Where there are more than fit, those of goals come first.
    if loads.len() > TAIL_LOADS {
        let targets = inputs.targets.iter().map(|target| target.load.as_str());
        let limits = inputs.limits.iter();
        let goals: Vec<&str> = std::iter::once(inputs.objective_load)
            .chain(targets)
            .chain(limits.map(|limit| limit.load.as_str()))
            .collect();
        loads.sort_by_key(|load| !goals.contains(load));
        loads.truncate(TAIL_LOADS);
    }
    let order = distinct(inputs.configurations().filter_map(|point| point.part.as_deref()));
    loads.sort_by_key(|load| order.iter().position(|name| Some(*name) == part(load)));
    let points = || inputs.configurations().filter(|point| loads.contains(&point.load.as_str()));
    let measure = Measure::over(METRIC, points());
    let values: Vec<f64> = points()
        .filter_map(|point| Figure::at(point, METRIC, measure.factor))
        .flat_map(|figure| figure.values())
        .collect();
    let mut keys = configurations::keys(inputs, |i| Key::Mark(CONFIGURATIONS[i].1, Shape::of(i)));
    keys.extend(configurations::saturated_key(inputs, &loads));
    let frame = Frame {
        title: "E2E P95 of the benchmark's parts",
        y_title: &measure.axis(),
        x_title: "load",
        x_lines: x_lines(cell, &loads),
        legend: &keys,
    };
    let panel = Panel::new(canvas, cell, &frame, Scale::fitting(&values, 0.05));
    if values.is_empty() {
        panel.empty();
    }
    for (i, load) in loads.iter().enumerate() {
        let slot = panel.plot.column(i, loads.len(), 0);
        let how = label(Anchor::Middle);
        panel.x_label(
            slot.center().0,
            slot.width() - 6,
            &how.wrap(load, slot.width() - 6, X_LINES),
        );
        for (j, (role, color)) in CONFIGURATIONS.iter().enumerate() {
            let name = inputs.name(*role);
            let Some(point) = inputs.point(*role, load) else { continue };
            let Some(figure) = Figure::at(point, METRIC, measure.factor) else { continue };
            let (x, _) = slot.column(j, CONFIGURATIONS.len(), 0).center();
            panel.interval(x, &figure);
            let at = (x, panel.y(figure.mean));
            panel.canvas.mark(at, Shape::of(j), *color, point.saturated);
            panel.tell(at, &format!("{load}, {name}: {}", figure.words(measure.unit)));
        }
    }
}

/// A figure with its unit in short, seconds from one second on.
fn shown(id: &str, value: f64, text: fn(f64) -> String) -> String {
    let measure = Measure::of(id, value);
    let (factor, unit) = match measure.unit {
        "ms" if value >= 1_000.0 => (1e-3, "s"),
        "tokens/s" => (1.0, "tok/s"),
        "requests/s" => (1.0, "req/s"),
        unit => (measure.factor, unit),
    };
    format!("{} {unit}", text(value * factor)).trim_end().to_owned()
}

/// The metric's title with its load.
fn subject(metric: &str, load: &str) -> String {
    let title = metric::find(metric).map_or(metric, |found| found.title);
    format!("{}, {load}", title.trim_end_matches(" of E2E"))
}

fn targets(inputs: &Inputs<'_>, canvas: &Canvas<'_>, cell: Rect) {
    let all = inputs.targets;
    let capacity = table::capacity(cell);
    let reference = inputs.reference.map(|reference| reference.name);
    let columns: Vec<(Column, &str)> = [
        (Column::Week2, reference),
        (Column::Baseline, Some("baseline")),
        (Column::Default, Some("default")),
        (Column::Tuned, inputs.candidate),
    ]
    .into_iter()
    .filter_map(|(column, head)| Some((column, head?)))
    .collect();
    let row = |target| target_row(target, &columns);
    let rows: Vec<_> = all.iter().take(capacity).map(row).collect();
    let note = match all.len() {
        0 => "the profile names no targets".to_owned(),
        many if many > capacity => format!("and {} more", many - capacity),
        _ => String::new(),
    };
    let heads: Vec<&str> = ["metric, load", "target"]
        .into_iter()
        .chain(columns.iter().map(|(_, head)| *head))
        .chain(["floor", ""])
        .collect();
    table::draw(canvas, cell, "Targets", &heads, &rows, &note);
}

fn target_row(target: &TargetOutcome, columns: &[(Column, &str)]) -> Vec<Cell> {
    let sign = if target.bound == "min" { "≥" } else { "≤" };
    let limit = if target.over_baseline {
        format!("{sign} +{} %", number::plain(target.limit))
    } else {
        format!("{sign} {}", shown(&target.metric, target.limit, number::plain))
    };
    let baseline = target.columns.get(&Column::Baseline);
    let cell = |column: Column| {
        let found = target.columns.get(&column).map(|estimate| estimate.mean);
        let text = match (found, baseline, column) {
            (None, ..) => None,
            (Some(found), _, _) if !target.over_baseline => {
                Some(bare(&target.metric, found, number::figure))
            }
            (Some(found), Some(baseline), Column::Default | Column::Tuned) => {
                let gain = 100.0 * (found / baseline.mean - 1.0);
                let sign = if gain < 0.0 { "" } else { "+" };
                Some(format!("{sign}{} %", number::grouped(gain, 0)))
            }
            _ => None,
        };
        (text.unwrap_or_else(|| "–".to_owned()), INK)
    };
    let floor = target.floor.as_ref().filter(|_| !target.over_baseline);
    let floor = floor.map(|floor| bare(&target.metric, floor.value, number::figure));
    let outcome = match target.state {
        TargetState::NotMeasured => ("–", FAINT_INK),
        TargetState::Met => ("✓ met", GREEN),
        TargetState::Missed => ("✗ missed", VERMILLION),
        TargetState::OutOfReach => ("out of reach", VERMILLION),
    };
    let gain = if target.over_baseline { ", gain" } else { "" };
    [(format!("{}{gain}", subject(&target.metric, &target.load)), INK), (limit, INK)]
        .into_iter()
        .chain(columns.iter().map(|(column, _)| cell(*column)))
        .chain([
            (floor.unwrap_or_else(|| "–".to_owned()), FAINT_INK),
            (outcome.0.to_owned(), outcome.1),
        ])
        .collect()
}

/// A figure without the unit of its row's target, which latencies keep: theirs may differ.
fn bare(id: &str, value: f64, text: fn(f64) -> String) -> String {
    let shown = shown(id, value, text);
    let unit = [" tok/s", " req/s"].into_iter().find(|unit| shown.ends_with(unit));
    shown.trim_end_matches(unit.unwrap_or_default()).to_owned()
}

fn verdicts(inputs: &Inputs<'_>, canvas: &Canvas<'_>, cell: Rect) {
    let mut judged: Vec<&Comparison> =
        inputs.comparisons.iter().filter(|row| row.verdict.is_some()).collect();
    let production = inputs.production_load();
    judged.sort_by_key(|row| {
        let headline = HEADLINES.iter().position(|id| *id == row.metric).unwrap_or(HEADLINES.len());
        let load = [inputs.objective_load, production].iter().position(|load| *load == row.load);
        (load.is_none() || headline == HEADLINES.len(), headline, load)
    });
    let rows: Vec<_> =
        judged.iter().take(table::capacity(cell)).map(|row| verdict_row(row)).collect();
    let heads = ["metric, load", "change", "interval", "verdict"];
    let title = match inputs.candidate {
        Some(name) => format::sentence(&format!("{name} against vLLM default")),
        None => "Verdicts against vLLM default".to_owned(),
    };
    let title = title.trim_end_matches('.');
    table::draw(canvas, cell, title, &heads, &rows, &tally(&judged));
}

fn verdict_row(row: &Comparison) -> [Cell; 4] {
    let points = metric::find(&row.metric).is_some_and(metric::Metric::is_share);
    let unit = if points { "points" } else { "%" };
    let sign = |value: f64| if value > 0.0 { "+" } else { "" };
    let change = row.change.as_ref().and_then(|change| Figure::of(change, 1.0));
    let mean = change.map_or(String::new(), |c| {
        format!("{}{} {unit}", sign(c.mean), number::grouped(c.mean, 1))
    });
    let interval =
        change.and_then(|change| change.interval).map_or(String::new(), |(low, high)| {
            format!(
                "{}{} to {}{}",
                sign(low),
                number::grouped(low, 1),
                sign(high),
                number::grouped(high, 1)
            )
        });
    let (word, color) = row.verdict.map_or(("", INK), word);
    [(subject(&row.metric, &row.load), INK), (mean, INK), (interval, INK), (word.to_owned(), color)]
}

fn word(verdict: Verdict) -> (&'static str, RGBColor) {
    match verdict {
        Verdict::Better => ("▲ better", GREEN),
        Verdict::Worse => ("▼ worse", VERMILLION),
        Verdict::Equivalent => ("equivalent", INK),
        Verdict::Inconclusive => ("inconclusive", FAINT_INK),
    }
}

/// How many comparisons came out which way.
fn tally(judged: &[&Comparison]) -> String {
    if judged.is_empty() {
        return "nothing was compared".to_owned();
    }
    let all = [Verdict::Better, Verdict::Worse, Verdict::Equivalent, Verdict::Inconclusive];
    let counts =
        all.map(|verdict| judged.iter().filter(|row| row.verdict == Some(verdict)).count());
    let [better, worse, equivalent, inconclusive] = counts;
    format!(
        "of {} comparisons: {better} better, {worse} worse, {equivalent} equivalent, {inconclusive} inconclusive",
        judged.len()
    )
}
