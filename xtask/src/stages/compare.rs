//! `compare`: baseline, defaults and chosen settings side by side, with verdicts and targets.

use std::collections::BTreeMap;

use anyhow::Result;
use bench_core::{
    metric::{self, METRICS, Metric},
    schema::{Column, Comparison, Estimate, Point, ResultFile, Role, TargetOutcome, Verdict},
    stats::{self, LEVEL, Question, QuestionRole, Spread, Start},
};
use serde::Serialize;
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
        4
    }

    fn needs(&self) -> Vec<String> {
        self.context.present(&[provision::NAME, baseline::NAME, comprehensive::NAME])
    }

    fn config(&self) -> Value {
        let loads: Vec<_> = self.context.profile.loads.iter().map(|load| &load.name).collect();
        json!({
            "goals": goals(self.context.profile),
            "loads": loads,
            "margins_percent": self.context.profile.margins_percent,
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
        let told =
            |role| points.iter().find(|p| p.role == role && p.load == profile.objective.load);
        if let (Some(before), Some(after)) = (told(Role::Default), told(Role::Tuned)) {
            let went = findings::where_time_went(before, after);
            result.findings.extend((!went.is_empty()).then_some(went));
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

/// Every metric on every load, in the order of the profile's loads and of the metrics; tuned
/// against the defaults, never against a handicapped baseline.
pub fn comparisons(points: &[Point], week2: &[Point], profile: &Profile) -> Vec<Comparison> {
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
            let side = |role| points.iter().find(|p| p.role == role && p.load == load.name);
            let sides = side(Role::Default).zip(side(Role::Tuned));
            let is_same = sides.is_some_and(|(default, tuned)| hold_the_same(default, tuned));
            rows.push(row(metric.id, &load.name, columns, is_same));
        }
    }
    judged(rows, Some(profile))
}

/// A row to be judged, unless both sides are the same measurements: then they are one
/// configuration, and no test could tell them apart.
fn row(metric: &str, load: &str, columns: BTreeMap<Column, Estimate>, is_same: bool) -> Comparison {
    let (metric, load) = (metric.to_owned(), load.to_owned());
    let row = Comparison { metric, load, columns, ..Comparison::default() };
    if !is_same {
        return row;
    }
    let reason = "the same trials on both sides".to_owned();
    Comparison { verdict: Some(Verdict::Equivalent), reason, excludes_worse: true, ..row }
}

/// The rows with their changes and verdicts, from the defaults' column to the tuned one; all that
/// have no verdict yet are judged together. Without a profile no row is the primary one or a
/// guardrail, and margins are the metrics' own.
pub fn judged(rows: Vec<Comparison>, profile: Option<&Profile>) -> Vec<Comparison> {
    let (open, mut settled): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.verdict.is_none());
    let sides: Vec<_> = open.iter().map(Sides::of).collect();
    let questions: Vec<Question<'_>> =
        open.iter().zip(&sides).map(|(row, sides)| sides.question(row, profile)).collect();
    let judgements = stats::judge(&questions, LEVEL);
    let judged = open.into_iter().zip(judgements).map(|(row, judgement)| Comparison {
        change: judgement.change,
        verdict: judgement.verdict,
        reason: judgement.reason,
        detectable: judgement.detectable,
        starts_to_settle: judgement.starts_to_settle,
        excludes_worse: judgement.excludes_worse,
        ..row
    });
    settled.extend(judged);
    settled
}

/// The server starts of a row, and what its other columns say of their spread.
struct Sides {
    before: Vec<Start>,
    after: Vec<Start>,
    history: Vec<Spread>,
}

impl Sides {
    fn of(row: &Comparison) -> Self {
        let starts = |column| -> Vec<Start> {
            let values = row.columns.get(&column).map_or(&[][..], Estimate::values);
            values.iter().map(|value| Start::single(*value)).collect()
        };
        let metric = metric::find(&row.metric).expect("rows are of known metrics");
        Self {
            before: starts(Column::Default),
            after: starts(Column::Tuned),
            history: stats::spread(metric, &starts(Column::Baseline)).into_iter().collect(),
        }
    }

    fn question<'a>(&'a self, row: &'a Comparison, profile: Option<&Profile>) -> Question<'a> {
        let metric = metric::find(&row.metric).expect("rows are of known metrics");
        Question {
            metric,
            load: &row.load,
            before: &self.before,
            after: &self.after,
            history: &self.history,
            requests: None,
            margin_percent: profile
                .map_or(metric.margin().percent, |profile| profile.margin_percent(metric)),
            role: question_role(metric, &row.load, profile),
        }
    }
}

/// The objective is the primary question, limits are guardrails; what explains is judged by nobody.
fn question_role(metric: &Metric, load: &str, profile: Option<&Profile>) -> QuestionRole {
    let is = |(id, on): (&str, &str)| id == metric.id && on == load;
    let objective = profile.map(|p| (p.objective.metric.as_str(), p.objective.load.as_str()));
    let mut limits = profile.iter().flat_map(|p| &p.slo);
    if objective.is_some_and(is) {
        QuestionRole::Primary
    } else if limits.any(|limit| is((&limit.metric, &limit.load))) {
        QuestionRole::Guardrail
    } else if metric.is_diagnostic() {
        QuestionRole::Diagnostic
    } else {
        QuestionRole::Secondary
    }
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

/// Two sets of points, load by load.
pub struct Compared {
    /// Every metric of both on every load of both, the first set as the default column and the
    /// second as the tuned one.
    pub rows: Vec<Comparison>,
    /// Loads whose names are those of others on the other side.
    pub other_loads: Vec<String>,
    /// Loads that the first set ran and the second cannot, and why.
    pub broken: Vec<(String, String)>,
}

/// Compares by load and metric.
pub fn any_two(before: &[Point], after: &[Point], profile: Option<&Profile>) -> Compared {
    let (mut other_loads, mut broken, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for a in before {
        let Some(b) = after.iter().find(|b| b.load == a.load) else { continue };
        if a.load_digest.zip(b.load_digest).is_some_and(|(a, b)| a != b) {
            other_loads.push(a.load.clone());
            continue;
        }
        if let (None, Some(failure)) = (&a.failure, &b.failure) {
            broken.push((a.load.clone(), failure.title()));
        }
        let is_same = hold_the_same(a, b);
        for metric in &METRICS {
            let [before, after] = [a, b].map(|point| point.metrics.get(metric.id).cloned());
            if let (Some(before), Some(after)) = (before, after) {
                let columns = BTreeMap::from([(Column::Default, before), (Column::Tuned, after)]);
                rows.push(row(metric.id, &a.load, columns, is_same));
            }
        }
    }
    Compared { rows: judged(rows, profile), other_loads, broken }
}

/// Whether two points share a measurement: a trial by its key, and its figure.
fn hold_the_same(a: &Point, b: &Point) -> bool {
    let figures =
        |point: &Point| point.metrics.get("output_tokens_per_s").map(|e| e.starts.clone());
    let share_figure =
        figures(a).zip(figures(b)).is_some_and(|(a, b)| a.iter().any(|x| b.contains(x)));
    share_figure && a.trials.iter().any(|a| b.trials.iter().any(|b| a.key == b.key))
}

/// Whether a comparison lets a change pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Of the objective and of every limit a worsening beyond the margin is excluded.
    Passed,
    /// Something got worse, or does not run any more.
    Worse,
    /// Nothing is proven to be worse, and of some goal it is not excluded.
    Inconclusive,
}

impl Gate {
    /// Judges by the profile's goals; by every metric where there is no profile.
    pub fn new(compared: &Compared, profile: Option<&Profile>) -> Self {
        let rows = &compared.rows;
        let is_gated = |row: &&Comparison| {
            profile.is_none_or(|p| gated(p).contains(&(&row.metric, &row.load)))
        };
        let mut gated = rows.iter().filter(is_gated);
        if !compared.broken.is_empty() || gated.any(|row| row.verdict == Some(Verdict::Worse)) {
            return Self::Worse;
        }
        if open_goals(rows, profile).is_empty() { Self::Passed } else { Self::Inconclusive }
    }

    /// Exit code of `compare --gate`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Worse => 1,
            Self::Inconclusive => 3,
        }
    }
}

/// What the gate looks at: the objective and the limits.
fn gated(profile: &Profile) -> Vec<(&str, &str)> {
    let limits = profile.slo.iter().map(|limit| (limit.metric.as_str(), limit.load.as_str()));
    let objective = (profile.objective.metric.as_str(), profile.objective.load.as_str());
    std::iter::once(objective).chain(limits).collect()
}

/// Objective and limits, as metric and load, of which a change for the worse is not excluded: those that
/// were not measured on both sides too. Without a profile every metric that can get worse is one.
pub fn open_goals(rows: &[Comparison], profile: Option<&Profile>) -> Vec<(String, String)> {
    let goals: Vec<(&str, &str)> = match profile {
        Some(profile) => gated(profile),
        None => rows
            .iter()
            .filter(|row| row.verdict.is_some())
            .map(|row| (row.metric.as_str(), row.load.as_str()))
            .collect(),
    };
    let is_open = |(metric, load): &(&str, &str)| {
        let row = rows.iter().find(|row| row.metric == *metric && row.load == *load);
        !row.is_some_and(|row| row.excludes_worse)
    };
    let open = goals.into_iter().filter(is_open);
    open.map(|(metric, load)| (metric.to_owned(), load.to_owned())).collect()
}
