//! Targets and floors in tables and words.

use std::collections::BTreeMap;

use bench_core::{
    metric::{self, Metric},
    schema::{Column, Estimate, Floor, FloorOutcome, FloorPart, TargetOutcome, TargetState},
};
use serde::Serialize;

use super::{
    Inputs,
    format::{self, NOTHING},
    tables, words,
};
use profile::Profile;

/// Columns in the order of the tables.
const COLUMNS: [Column; 4] = [Column::Week2, Column::Baseline, Column::Default, Column::Tuned];

/// What became of the targets.
#[derive(Debug, Serialize)]
pub struct TargetsView {
    /// Columns of figures that any target has.
    columns: Vec<String>,
    /// Metric, load, target, a figure a column, floor, outcome.
    rows: Vec<Vec<String>>,
    /// Which are out of reach, and what would move them.
    out_of_reach: Vec<String>,
    met: usize,
    /// Of these, how many come of too few requests for a verdict, and what is to be known of all such.
    met_of_few: usize,
    few: Option<String>,
    /// Metric and load of those that were not measured.
    not_measured: Vec<String>,
}

impl TargetsView {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let targets = &inputs.comparison.targets;
        let columns = shown(&targets.iter().map(|target| &target.columns).collect::<Vec<_>>());
        let is_of_few = |target: &TargetOutcome| {
            !words::few(inputs.profile, &target.metric, &target.load).is_empty()
        };
        let of_state = |state| targets.iter().filter(move |target| target.state == state);
        Self {
            columns: columns.iter().map(|column| tables::name(*column, inputs)).collect(),
            rows: targets.iter().map(|target| row(inputs, target, &columns)).collect(),
            out_of_reach: of_state(TargetState::OutOfReach).filter_map(why).collect(),
            met: of_state(TargetState::Met).count(),
            met_of_few: of_state(TargetState::Met).filter(|target| is_of_few(target)).count(),
            few: words::few_note(
                inputs.profile,
                targets.iter().filter(|target| target.found.is_some()).map(named),
            ),
            not_measured: of_state(TargetState::NotMeasured)
                .map(|target| format!("{} on `{}`", name(target), target.load))
                .collect(),
        }
    }
}

/// How far each setting is from the floor of each load.
#[derive(Debug, Serialize)]
pub struct FloorsView {
    columns: Vec<String>,
    /// Metric, load, floor, what sets it, and each column's figure over the floor.
    rows: Vec<Vec<String>>,
    is_measured: bool,
}

impl FloorsView {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let floors = &inputs.comparison.floors;
        let mut columns = shown(&floors.iter().map(|floor| &floor.columns).collect::<Vec<_>>());
        columns.retain(|column| *column != Column::Week2);
        let row = |outcome: &FloorOutcome| {
            let FloorOutcome { metric: id, load, floor, columns: figures } = outcome;
            let metric = metric::find(id);
            let distance = |column: &Column| {
                let found = figures.get(column).map(|estimate| estimate.mean / floor.value);
                found.map_or_else(|| NOTHING.to_owned(), |ratio| format!("{} ×", ratio_text(ratio)))
            };
            [format::title(metric, id), format!("`{load}`"), best(metric, floor), set_by(floor)]
                .into_iter()
                .chain(columns.iter().map(distance))
                .collect()
        };
        Self {
            rows: floors.iter().map(row).collect(),
            columns: columns.iter().map(|column| tables::name(*column, inputs)).collect(),
            is_measured: floors.iter().any(|outcome| outcome.floor.is_measured),
        }
    }
}

/// The columns that any of these has.
fn shown(all: &[&BTreeMap<Column, Estimate>]) -> Vec<Column> {
    let has = |column: &Column| all.iter().any(|columns| columns.contains_key(column));
    COLUMNS.into_iter().filter(has).collect()
}

fn row(inputs: &Inputs<'_>, target: &TargetOutcome, columns: &[Column]) -> Vec<String> {
    let metric = metric::find(&target.metric);
    let title = match target.over_baseline {
        true => name(target),
        false => format::title(metric, &target.metric),
    };
    let floor = target.floor.as_ref().filter(|_| !target.over_baseline);
    [title, format!("`{}`", target.load), goal(target)]
        .into_iter()
        .chain(columns.iter().map(|column| figure(inputs, target, *column)))
        .chain([
            floor.map_or_else(|| NOTHING.to_owned(), |floor| best(metric, floor)),
            outcome(target, inputs.profile),
        ])
        .collect()
}

/// The metric, and that it is a gain where it is one.
pub fn name(target: &TargetOutcome) -> String {
    let title = metric::find(&target.metric).map_or(target.metric.as_str(), |metric| metric.title);
    if target.over_baseline { format!("{title}, gain over the baseline") } else { title.to_owned() }
}

/// The limit in words, such as `≤ 3 s` or `≥ +25 %`.
pub fn goal(target: &TargetOutcome) -> String {
    let sign = if target.bound == "max" { "≤" } else { "≥" };
    if target.over_baseline {
        return format!("{sign} {} %", format::signed(target.limit, 0));
    }
    format!("{sign} {}", format::given(metric::find(&target.metric), target.limit))
}

/// A column's figure, in the unit of the target.
fn figure(inputs: &Inputs<'_>, target: &TargetOutcome, column: Column) -> String {
    let metric = metric::find(&target.metric);
    let found = target.columns.get(&column);
    if !target.over_baseline {
        return match found {
            None => NOTHING.to_owned(),
            Some(given) if column == Column::Week2 => format::given(metric, given.mean),
            Some(found) => format::estimate(metric, found),
        };
    }
    let gain =
        inputs.over_baseline(&target.metric, &target.load, column).filter(|_| found.is_some());
    gain.map_or_else(|| NOTHING.to_owned(), |gain| format::change(metric, &gain))
}

/// A target's state in a word or two, with the mark of [`words::few`].
pub fn outcome(target: &TargetOutcome, profile: &Profile) -> String {
    let state = match target.state {
        TargetState::Met => "met",
        TargetState::Missed => "missed",
        TargetState::OutOfReach => "out of reach",
        TargetState::NotMeasured => return "not measured".to_owned(),
    };
    format!("{state}{}", words::few(profile, &target.metric, &target.load))
}

fn named(target: &TargetOutcome) -> (&str, &str) {
    (&target.metric, &target.load)
}

/// The floor, with the side that it bounds.
pub fn best(metric: Option<&Metric>, floor: &Floor) -> String {
    let sign = match metric.map(|metric| metric.direction) {
        Some(metric::Direction::Higher) => "≤",
        _ => "≥",
    };
    format!("{sign} {}", format::value(metric, floor.value))
}

/// What sets a floor: its parts from a percent on, the largest first.
fn set_by(floor: &Floor) -> String {
    let mut parts: Vec<(&FloorPart, &f64)> = floor.parts.iter().collect();
    parts.retain(|(_, percent)| **percent >= 1.0);
    parts.sort_by(|a, b| b.1.total_cmp(a.1));
    let named = parts.iter().map(|(what, percent)| match parts.len() {
        1 => part(**what).to_owned(),
        _ => format!("{} {percent:.0} %", part(**what)),
    });
    if parts.is_empty() {
        part(floor.set_by).to_owned()
    } else {
        named.collect::<Vec<_>>().join(", ")
    }
}

fn part(part: FloorPart) -> &'static str {
    match part {
        FloorPart::Weights => "reading weights",
        FloorPart::Kv => "reading the KV cache",
        FloorPart::Compute => "arithmetic",
        FloorPart::Step => "the rest of the step",
        FloorPart::ApiServer => "API server",
        FloorPart::Load => "the load, which asks for no more",
    }
}

/// The kinds of change that move a floor.
fn mover(part: FloorPart) -> &'static str {
    match part {
        FloorPart::Weights | FloorPart::Step => {
            "fewer bytes a step (quantisation), fewer steps (speculative decoding), a card with more \
             memory bandwidth, or more cards"
        }
        FloorPart::Kv => {
            "a smaller KV cache (fp8), a card with more memory bandwidth, or more cards"
        }
        FloorPart::Compute => "cheaper arithmetic (fp8), a faster card, or more cards",
        FloorPart::ApiServer => "a faster host, or a leaner client protocol",
        FloorPart::Load => "a load that asks for more",
    }
}

/// Why a target is out of reach, and what would move it.
fn why(target: &TargetOutcome) -> Option<String> {
    let floor = target.floor.as_ref()?;
    Some(format!(
        "**{} on `{}` is out of reach of these flags on this card.** The best that the load allows is \
         {} ({}), and the target is {}. What would move it: {}.",
        name(target),
        target.load,
        format::value(metric::find(&target.metric), floor.value),
        set_by(floor),
        goal(target),
        mover(floor.set_by)
    ))
}

/// Two digits where they tell.
fn ratio_text(ratio: f64) -> String {
    format::number(ratio, if ratio < 9.95 { 2 } else { 0 })
}
