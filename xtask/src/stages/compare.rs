//! `compare`: baseline, defaults and chosen settings side by side, with verdicts and targets.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bench_core::{
    metric::{self, METRICS},
    schema::{Anatomy, Column, Comparison, Estimate, Point, ResultFile, Role, TargetOutcome},
    stats,
};
use serde_json::{Value, json};

use super::{Context, Trial, baseline, choose, comprehensive, goals, one_file, provision};
use crate::{
    config::{Bound, Limit, Profile},
    dag::{Inputs, Leaf, Outputs, Task},
    report::findings,
};

pub const NAME: &str = "compare";
pub const FILE: &str = "comparison.json";

pub struct Compare<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Compare<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        1
    }

    fn needs(&self) -> Vec<String> {
        self.context.present(&[provision::NAME, baseline::NAME, comprehensive::NAME])
    }

    fn config(&self) -> Value {
        let loads: Vec<_> = self.context.profile.loads.iter().map(|load| &load.name).collect();
        json!({
            "goals": goals(self.context.profile),
            "loads": loads,
            "week2": super::digest_of(&serde_json::to_string(self.context.week2).unwrap_or_default()),
        })
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let mut points = inputs.json::<ResultFile>(baseline::NAME, baseline::FILE)?.points;
        if inputs.has(comprehensive::NAME) {
            points.extend(
                inputs.json::<ResultFile>(comprehensive::NAME, comprehensive::FILE)?.points,
            );
        }
        let mut result = self.context.result(NAME, inputs)?;
        result.comparisons = comparisons(&points, &self.context.week2.points, profile);
        result.targets = profile.targets.iter().map(|limit| target(limit, &points)).collect();
        let anatomy = |role| anatomy(&points, role, &profile.objective.load);
        if let (Some(before), Some(after)) = (anatomy(Role::Default), anatomy(Role::Tuned)) {
            result.findings.push(findings::where_time_went(&before, &after));
        }
        one_file(FILE, &result)
    }
}

fn column(role: Role) -> Option<Column> {
    match role {
        Role::Baseline => Some(Column::Baseline),
        Role::Default => Some(Column::Default),
        Role::Tuned => Some(Column::Tuned),
        Role::Reference => Some(Column::Week2),
        Role::Sweep => None,
    }
}

/// Mean anatomy of a configuration under a load.
pub fn anatomy(points: &[Point], role: Role, load: &str) -> Option<Anatomy> {
    points.iter().find(|point| point.role == role && point.load == load)?.anatomy
}

/// Every metric on every load, in the order of the profile's loads and of the metrics.
fn comparisons(points: &[Point], week2: &[Point], profile: &Profile) -> Vec<Comparison> {
    let mut rows = Vec::new();
    for load in &profile.loads {
        for metric in &METRICS {
            let mut columns: BTreeMap<Column, Estimate> = points
                .iter()
                .filter(|point| point.load == load.name)
                .filter_map(|p| Some((column(p.role)?, p.metrics.get(metric.id)?.clone())))
                .collect();
            if columns.is_empty() {
                continue;
            }
            if seed_load(metric.id, profile) == load.name
                && let Some(figure) = week2.iter().find_map(|point| point.metrics.get(metric.id))
            {
                columns.insert(Column::Week2, figure.clone());
            }
            rows.push(compare(metric, &load.name, columns));
        }
    }
    rows
}

/// The load beside whose figures the seed's are shown: that of the target on the same metric,
/// else that of a target on the same family of latencies, else the objective's.
fn seed_load<'a>(metric: &str, profile: &'a Profile) -> &'a str {
    let family = metric.split('_').next().unwrap_or(metric);
    let target =
        |wanted: &dyn Fn(&Limit) -> bool| profile.targets.iter().find(|limit| wanted(limit));
    target(&|limit| limit.metric == metric)
        .or_else(|| target(&|limit| metric.ends_with("_ms") && limit.metric.starts_with(family)))
        .or_else(|| {
            target(&|limit| metric == "length_slowdown" && limit.metric.starts_with("long_"))
        })
        .map_or(profile.objective.load.as_str(), |limit| limit.load.as_str())
}

/// One metric: tuned against the defaults, never against a handicapped baseline.
fn compare(metric: &metric::Metric, load: &str, columns: BTreeMap<Column, Estimate>) -> Comparison {
    let mut comparison = Comparison {
        metric: metric.id.to_owned(),
        load: load.to_owned(),
        change: None,
        verdict: None,
        reason: String::new(),
        columns,
    };
    let pair = (comparison.columns.get(&Column::Default), comparison.columns.get(&Column::Tuned));
    let (Some(before), Some(after)) = pair else {
        comparison.reason = "not measured on both sides".to_owned();
        return comparison;
    };
    let Some(change) = stats::change(before, after, metric.is_share()) else {
        comparison.reason = "the defaults' figure is zero".to_owned();
        return comparison;
    };
    let (verdict, reason) = stats::verdict(&change, metric.direction);
    Comparison { change: Some(change), verdict: Some(verdict), reason, ..comparison }
}

fn target(limit: &Limit, points: &[Point]) -> TargetOutcome {
    let tuned = points.iter().find(|p| p.role == Role::Tuned && p.load == limit.load);
    let found = tuned.and_then(|point| point.mean(&limit.metric));
    TargetOutcome {
        metric: limit.metric.clone(),
        load: limit.load.clone(),
        bound: match limit.bound {
            Bound::Max => "max".to_owned(),
            Bound::Min => "min".to_owned(),
        },
        limit: limit.limit.to_f64(),
        found,
        met: found.is_some_and(|value| choose::keeps(limit, value)),
    }
}

/// Compares any two sets of points by load and metric: `cargo xtask compare A B`.
pub fn any_two(before: &[Point], after: &[Point]) -> Vec<Comparison> {
    let loads: BTreeSet<&str> = before.iter().map(|point| point.load.as_str()).collect();
    let mut rows = Vec::new();
    for load in loads {
        let on_load = |points: &[Point]| points.iter().find(|p| p.load == load).cloned();
        let (Some(a), Some(b)) = (on_load(before), on_load(after)) else { continue };
        for metric in &METRICS {
            let pair = (a.metrics.get(metric.id), b.metrics.get(metric.id));
            if let (Some(a), Some(b)) = pair {
                let columns =
                    BTreeMap::from([(Column::Default, a.clone()), (Column::Tuned, b.clone())]);
                rows.push(compare(metric, load, columns));
            }
        }
    }
    rows
}
