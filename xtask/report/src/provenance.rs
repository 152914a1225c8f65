//! From figures back to trials, and what does not count.

use std::collections::BTreeSet;

use bench_core::schema::{ComprehensiveResult, Point, Role, SweepResult};
use serde::Serialize;

use super::{Inputs, format};

/// Where the figures come from, and what is not behind them.
#[derive(Debug, Serialize)]
pub struct Provenance {
    /// Stage, settings, load, keys.
    trials: Vec<Vec<String>>,
    /// Key, stage, settings, load, reason; a trial that several stages share is named once.
    invalid: Vec<Vec<String>>,
    /// Settings and loads above capacity: stage, settings, load.
    saturated: Vec<Vec<String>>,
    /// Some figures come from a single start, of these stages.
    single_starts: Vec<String>,
    /// Settings without a figure since they do not run: stage, settings, cause.
    failed: Vec<Vec<String>>,
    /// Settings under which requests failed in trials that count, with their share.
    failed_requests: Vec<String>,
}

impl Provenance {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let points: Vec<(&str, &Point)> = files(inputs)
            .flat_map(|(stage, points)| points.iter().map(move |point| (stage, point)))
            // A sweep's file repeats the settings it is judged by.
            .filter(|(stage, point)| {
                *stage == inputs.baseline.header.stage
                    || !matches!(point.role, Role::Baseline | Role::Default)
            })
            .collect();
        Self {
            trials: points.iter().map(|(stage, point)| trials(stage, point)).collect(),
            invalid: invalid(&points),
            saturated: distinct(points.iter().filter(|(_, point)| point.saturated).map(
                |(stage, point)| {
                    vec![(*stage).to_owned(), point.label.clone(), format!("`{}`", point.load)]
                },
            )),
            single_starts: distinct(
                points
                    .iter()
                    .filter(|(_, point)| is_single(point))
                    .map(|(stage, _)| (*stage).to_owned()),
            ),
            failed: distinct(points.iter().filter_map(|(stage, point)| {
                let cause = point.failure.as_ref()?.title();
                Some(vec![(*stage).to_owned(), point.label.clone(), cause])
            })),
            failed_requests: distinct(
                points.iter().filter_map(|(_, point)| failed_requests(point)),
            ),
        }
    }
}

/// Stage and points of each file.
fn files<'a>(inputs: &Inputs<'a>) -> impl Iterator<Item = (&'a str, &'a [Point])> {
    let sweeps = inputs.sweeps.iter().map(SweepResult::measured);
    let judged = inputs.comprehensive.map(ComprehensiveResult::measured);
    std::iter::once(inputs.baseline.measured()).chain(sweeps).chain(judged)
}

/// `default on `burst` 5.0 %`
fn failed_requests(point: &Point) -> Option<String> {
    let share = point.mean("failed_share").filter(|share| *share > 0.0)?;
    let share = format::number(100.0 * share, 1);
    Some(format!("{} on `{}` {share} %", format::setting(point), point.load))
}

fn is_single(point: &Point) -> bool {
    point.trials.iter().filter(|trial| trial.invalid.is_none()).count() == 1
}

fn trials(stage: &str, point: &Point) -> Vec<String> {
    let keys: Vec<_> = point
        .trials
        .iter()
        .map(|trial| {
            let mark = if trial.invalid.is_some() { " (invalid)" } else { "" };
            format!("`{}`{mark}", trial.key.short())
        })
        .collect();
    vec![stage.to_owned(), point.label.clone(), format!("`{}`", point.load), keys.join(", ")]
}

fn invalid(points: &[(&str, &Point)]) -> Vec<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    for (stage, point) in points {
        for trial in &point.trials {
            if let Some(reason) = &trial.invalid
                && seen.insert(trial.key)
            {
                let key = format!("`{}`", trial.key.short());
                let load = format!("`{}`", point.load);
                rows.push(vec![key, (*stage).into(), point.label.clone(), load, reason.clone()]);
            }
        }
    }
    rows
}

/// The items without repetitions, in the order in which they first came.
pub fn distinct<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut out = Vec::new();
    for item in items {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}
