//! The configurations that are compared, side by side: what several plots share.

use bench_core::schema::Point;

use super::{
    Inputs,
    canvas::{Canvas, Rect},
    data::{Figure, Measure},
    panel::{
        BAR_HEADROOM, Bar, Frame, Group, Key, Panel, SATURATED, TARGET, grouped_bars, x_lines,
    },
    scale::Scale,
    style::{CONFIGURATIONS, INK},
};

/// Key of the reference's figures.
pub(super) const REFERENCE_KEY: Key = Key::Dots(INK);

/// Legend of the configurations that were measured; `key` draws the one of that index.
pub(super) fn keys(inputs: &Inputs<'_>, key: impl Fn(usize) -> Key) -> Vec<(Key, String)> {
    CONFIGURATIONS
        .iter()
        .enumerate()
        .filter(|(_, (role, ..))| inputs.configurations().any(|point| point.role == *role))
        .map(|(i, (role, _))| (key(i), inputs.name(*role).to_owned()))
        .collect()
}

/// Legend of the reference's figures, where there are any for these metrics and loads.
pub(super) fn reference_key(inputs: &Inputs<'_>, shown: &[(&str, &str)]) -> Option<(Key, String)> {
    let mut shown = shown.iter();
    let any = shown.any(|(metric, load)| inputs.referred(metric, load, 1.0).is_some());
    inputs.reference.filter(|_| any).map(|found| (REFERENCE_KEY, found.legend.to_owned()))
}

/// Legend of the targets' lines, where there are any for these metrics and loads.
pub(super) fn target_key(inputs: &Inputs<'_>, shown: &[(&str, &str)]) -> Option<(Key, String)> {
    let any = shown.iter().any(|(metric, load)| inputs.target(metric, load, 1.0).is_some());
    any.then(|| (TARGET, "target".to_owned()))
}

/// Legend of hollow marks, where a configuration was above capacity on these loads.
pub(super) fn saturated_key(inputs: &Inputs<'_>, loads: &[&str]) -> Option<(Key, String)> {
    let saturated = |point: &Point| point.saturated && loads.contains(&point.load.as_str());
    inputs.configurations().any(saturated).then(|| (Key::Hollow, SATURATED.to_owned()))
}

/// The metric of the configurations under each load, as grouped bars.
pub(super) fn bars(
    inputs: &Inputs<'_>,
    canvas: &Canvas<'_>,
    cell: Rect,
    metric: &str,
    loads: &[&str],
    legend: &[(Key, String)],
) {
    let shown = |point: &&Point| loads.contains(&point.load.as_str());
    let measure = Measure::over(metric, inputs.configurations().filter(shown));
    let groups: Vec<Group<'_>> =
        loads.iter().map(|load| group(inputs, metric, load, measure.factor)).collect();
    let bars = || groups.iter().flat_map(|group| &group.bars).flatten();
    let tops = bars().map(|bar| bar.figure.top());
    let lines = groups.iter().flat_map(|group| [group.reference, group.target]).flatten();
    let values: Vec<f64> = tops.chain(lines).collect();
    let frame = Frame {
        title: measure.title,
        y_title: &measure.axis(),
        x_title: "load",
        x_lines: x_lines(cell, loads),
        legend,
    };
    let panel = Panel::new(canvas, cell, &frame, Scale::around(&values, true, BAR_HEADROOM));
    grouped_bars(&panel, &groups, REFERENCE_KEY, measure.unit);
}

fn group<'t>(inputs: &Inputs<'_>, metric: &str, load: &'t str, factor: f64) -> Group<'t> {
    let present = |(role, _): &&(_, _)| inputs.configurations().any(|p| p.role == *role);
    let bars = CONFIGURATIONS
        .iter()
        .filter(present)
        .map(|(role, color)| {
            let name = inputs.name(*role);
            let point = inputs.point(*role, load)?;
            let figure = Figure::at(point, metric, factor)?;
            Some(Bar { name, figure, color: *color, hollow: point.saturated })
        })
        .collect();
    let reference = inputs.referred(metric, load, factor);
    Group { label: load, bars, reference, target: inputs.target(metric, load, factor) }
}
