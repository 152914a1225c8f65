//! Where the mean request's time went: stacked bars of the configurations and of the values that
//! attack the queue.

use bench_core::schema::{Anatomy, Point, Role, SweepResult};
use plotters::style::RGBColor;

use super::{
    Inputs,
    canvas::{Anchor, Canvas, Rect},
    data::sweep_loads,
    number,
    panel::{Frame, Key, Panel, legend, page, stacked_bar},
    scale::Scale,
    style::{CONFIGURATIONS, GRID, PARTS, QUEUE, faint, label},
};
use crate::distinct;

/// The stages whose values are drawn beside the configurations, the first that there is.
const SWEEPS: [&str; 2] = ["queue-time", "max-num-seqs"];

/// One bar to draw.
struct Slot<'a> {
    label: &'a str,
    note: &'static str,
    point: Option<&'a Point>,
}

pub(super) fn draw(inputs: &Inputs<'_>) -> String {
    let subtitle = format!(
        "{} · load {}, mean of a request's end-to-end latency by part",
        inputs.engine(),
        inputs.objective_load
    );
    page((1200, 750), "Where a request's time went", &subtitle, |canvas, body| {
        let sweep = SWEEPS
            .iter()
            .find_map(|name| inputs.sweeps.iter().find(|sweep| sweep.header.stage == *name));
        let configurations = configurations(inputs);
        let values = sweep.map_or_else(Vec::new, |sweep| values(inputs, sweep));
        let top = body.top + legend(canvas, body, &part_keys()) + 14;
        let cell = Rect { top, bottom: body.bottom - 22, ..body };
        if dwarfs(&configurations, &values) {
            let split = cell.left + cell.width() * 24 / 100;
            let title = "The handicapped baseline";
            bars(
                canvas,
                Rect { right: split - 16, ..cell },
                title,
                &configurations[..1],
                &[],
                None,
            );
            let rest = Rect { left: split + 16, ..cell };
            bars(
                canvas,
                rest,
                "The others, on a scale of their own",
                &configurations[1..],
                &values,
                sweep,
            );
        } else {
            bars(canvas, cell, "Mean end-to-end latency by part", &configurations, &values, sweep);
        }
        let how = faint(Anchor::Middle);
        let moved = how.cut(&where_it_went(inputs), body.width());
        canvas.text(&moved, (body.center().0, body.bottom - 4), how);
    })
}

/// Legend of the parts of a request's life.
pub(super) fn part_keys() -> Vec<(Key, String)> {
    let parts = Anatomy::default().parts();
    let keys =
        parts.iter().zip(PARTS).map(|((name, _), color)| (Key::Box(color), name.to_string()));
    keys.collect()
}

/// The parts in the unit of `factor` milliseconds with their colours; `None` where they are no
/// numbers or nothing.
pub(super) fn parts(point: &Point, factor: f64) -> Option<[(f64, RGBColor); 5]> {
    let lengths = point.anatomy.as_ref()?.parts().map(|(_, ms)| ms.max(0.0) * factor);
    let parts = std::array::from_fn(|i| (lengths[i], PARTS[i]));
    let total: f64 = lengths.iter().sum();
    (total.is_finite() && total > 0.0).then_some(parts)
}

fn configurations<'a>(inputs: &Inputs<'a>) -> Vec<Slot<'a>> {
    CONFIGURATIONS
        .iter()
        .filter_map(|(role, _)| {
            let point = inputs.point(*role, inputs.objective_load)?;
            let label = inputs.name(*role);
            Some(Slot { label, note: "", point: Some(point) })
        })
        .collect()
}

fn values<'a>(inputs: &Inputs<'a>, sweep: &'a SweepResult) -> Vec<Slot<'a>> {
    let loads = sweep_loads(sweep);
    let Some(load) = loads.iter().find(|l| **l == inputs.objective_load).or(loads.first()) else {
        return Vec::new();
    };
    let chosen = sweep.choice.as_ref().map(|choice| choice.label.as_str());
    distinct(sweep.points.iter().map(|point| point.label.as_str()))
        .into_iter()
        .map(|label| Slot {
            label,
            note: if chosen == Some(label) { "(chosen)" } else { "" },
            point: sweep.points.iter().find(|p| p.label == label && p.load == *load),
        })
        .collect()
}

/// From this multiple of all others on, the first bar gets a panel of its own: beside it nothing of
/// them could be seen.
const DWARFS: f64 = 3.0;

/// Whether the baseline dwarfs all others.
fn dwarfs(configurations: &[Slot<'_>], values: &[Slot<'_>]) -> bool {
    let [first, others @ ..] = configurations else { return false };
    let total = |slot: &Slot<'_>| {
        Some(parts(slot.point?, 1.0)?.iter().map(|(value, _)| value).sum::<f64>())
    };
    let most = others.iter().chain(values).filter_map(total).reduce(f64::max);
    first.label == "baseline"
        && total(first).zip(most).is_some_and(|(first, most)| first > DWARFS * most)
}

fn bars(
    canvas: &Canvas<'_>,
    cell: Rect,
    title: &str,
    configurations: &[Slot<'_>],
    values: &[Slot<'_>],
    sweep: Option<&SweepResult>,
) {
    let slots: Vec<&Slot<'_>> = configurations.iter().chain(values).collect();
    let totals: Vec<f64> = slots
        .iter()
        .filter_map(|slot| parts(slot.point?, 1e-3))
        .map(|parts| parts.iter().map(|(value, _)| value).sum())
        .collect();
    let frame =
        Frame { title, y_title: "mean E2E latency (s)", x_title: "", x_lines: 4, legend: &[] };
    let panel = Panel::new(canvas, cell, &frame, Scale::around(&totals, true, 0.12));
    if slots.is_empty() {
        panel.empty();
        return;
    }
    // A gap of half a bar stands between the configurations and the values of the sweep.
    let gap = usize::from(!configurations.is_empty() && !values.is_empty());
    let columns = 2 * slots.len() + gap;
    let edge =
        |column: usize| panel.plot.left + panel.plot.width() * column as i32 / columns as i32;
    for (i, slot) in slots.iter().enumerate() {
        let first = 2 * i + if i < configurations.len() { 0 } else { gap };
        let column = Rect { left: edge(first), right: edge(first + 2), ..panel.plot };
        bar(&panel, column, slot);
    }
    let split = 2 * configurations.len();
    if gap == 1 {
        let x = i32::midpoint(edge(split), edge(split + gap));
        canvas.line(&[(x, panel.plot.top), (x, cell.bottom)], GRID, 1);
    }
    let how = label(Anchor::Middle);
    let name = sweep.map_or("", |sweep| sweep.header.stage.as_str());
    for (from, to, text) in [
        (edge(0), edge(split), "configuration".to_owned()),
        (edge(split + gap), edge(columns), format!("values of sweep {name}")),
    ] {
        if to - from > 1 {
            let text = how.cut(&text, to - from);
            canvas.text(&text, (i32::midpoint(from, to), cell.bottom - 6), how);
        }
    }
}

fn bar(panel: &Panel<'_, '_>, slot: Rect, what: &Slot<'_>) {
    let margin = (slot.width() / 6).max(2);
    let column = Rect { left: slot.left + margin, right: slot.right - margin, ..slot };
    let (x, _) = slot.center();
    let width = slot.width() - 6;
    let mut lines =
        label(Anchor::Middle).wrap(what.label, width, if what.note.is_empty() { 4 } else { 3 });
    if !what.note.is_empty() {
        lines.push(what.note.to_owned());
    }
    panel.x_label(x, width, &lines);
    let Some(point) = what.point else { return panel.missing(slot, "not measured") };
    if let Some(failure) = &point.failure {
        return panel.failed(slot, &failure.title());
    }
    let Some(parts) = parts(point, 1e-3) else {
        return panel.missing(slot, "parts not measured");
    };
    stacked_bar(panel, column, what.label, &parts);
    let total: f64 = parts.iter().map(|(value, _)| value).sum();
    let top = panel.y(total);
    let how = label(Anchor::Middle);
    // All bars of a panel say it alike: the widest share decides.
    let named = if how.width("queue 100 %") <= width { "queue " } else { "" };
    let share = format!("{named}{:.0} %", 100.0 * parts[2].0 / total);
    panel.canvas.text(
        &how.cut(&share, width),
        (x, top - 10),
        super::canvas::Type { color: QUEUE, ..how },
    );
    let total = format!("{} s", number::short(total));
    panel.canvas.text(&how.cut(&total, width), (x, top - 26), how.bold());
}

/// The shares of the parts by default and tuned, in words.
fn where_it_went(inputs: &Inputs<'_>) -> String {
    let of = |role| {
        let point = inputs.point(role, inputs.objective_load)?;
        // Shares of nothing are no numbers.
        parts(point, 1.0).and_then(|_| Some(point.anatomy.as_ref()?.parts()))
    };
    let (Some(before), Some(after)) = (of(Role::Default), of(Role::Tuned)) else {
        return String::new();
    };
    let share = |parts: &[(&str, f64); 5], i: usize| {
        100.0 * parts[i].1 / parts.iter().map(|(_, ms)| ms).sum::<f64>()
    };
    let moved: Vec<String> = (0..5)
        .filter(|i| share(&before, *i) >= 0.5 || share(&after, *i) >= 0.5)
        .map(|i| format!("{} {:.0} → {:.0} %", before[i].0, share(&before, i), share(&after, i)))
        .collect();
    let candidate = inputs.name(Role::Tuned);
    format!("Where the time went, vLLM default → {candidate}: {}", moved.join(", "))
}
