//! What the templates see.

use std::collections::BTreeMap;

use bench_core::{
    INSTRUMENT_EPOCH,
    metric::{self, METRICS},
    schema::{Column, Comparison, Point},
    stats,
};
use serde::Serialize;

use super::{
    Inputs,
    deploy::Deploy,
    findings, format,
    provenance::{Provenance, distinct},
    sweeps::SweepView,
    tables::{self, AnatomyView, ComparisonView, PartView},
};
use crate::config::{Bound, EngineConfig, Limit, Part};

/// Everything that a template may name; figures are text already.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    engine: String,
    simulated: bool,
    dummy_weights: bool,
    profile: String,
    profile_digest: String,
    identity_digest: String,
    /// The engine's identity as JSON, if it is known whole.
    identity: Option<String>,
    instrument_epoch: u32,
    margin_percent: f64,
    baseline_args: String,
    objective: Objective,
    headline: Option<Headline>,
    deploy: Deploy,
    figures: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    sweep_names: Vec<String>,
    lessons: Vec<String>,
    comparison: ComparisonView,
    targets: Vec<Vec<String>>,
    targets_met: usize,
    slo: Vec<Vec<String>>,
    slo_missed: Vec<String>,
    anatomy: Vec<AnatomyView>,
    sweeps: Vec<SweepView>,
    parts: Vec<PartView>,
    provenance: Provenance,
    /// Metric, formula, name in vLLM.
    glossary: Vec<Vec<String>>,
    plots: Vec<String>,
}

/// What "best" means.
#[derive(Debug, Serialize)]
struct Objective {
    maximize: bool,
    title: String,
    load: String,
    /// In words, such as ``TTFT P95 ≤ 500 ms on `production` ``.
    limits: Vec<String>,
}

/// The objective before and after.
#[derive(Debug, Serialize)]
struct Headline {
    baseline: Option<String>,
    default: Option<String>,
    tuned: Option<String>,
    change: Option<String>,
    default_over_baseline: Option<String>,
    /// From the baseline to the tuned settings.
    over_baseline: Option<String>,
    verdict: Option<&'static str>,
    reason: String,
}

impl View {
    pub(crate) fn new(inputs: &Inputs<'_>) -> Self {
        let profile = inputs.profile;
        let label = &inputs.identity.engine;
        let row = objective_row(inputs);
        let targets = tables::targets(inputs);
        let slo = tables::slo(inputs);
        let missed = |row: &&Vec<String>| row.last().is_some_and(|outcome| outcome == "missed");
        Self {
            engine: if label.simulated && !label.title.contains("simulated") {
                format!("simulated {}", label.title)
            } else {
                label.title.clone()
            },
            simulated: label.simulated,
            dummy_weights: matches!(
                &profile.engine,
                EngineConfig::Vllm(vllm) if vllm.model.starts_with("dummy:")
            ),
            profile: profile.name.clone(),
            profile_digest: inputs.profile_digest.to_string(),
            identity_digest: label.identity.to_string(),
            identity: inputs.identity.identity.as_ref().map(|json| format!("{json:#}")),
            instrument_epoch: INSTRUMENT_EPOCH,
            margin_percent: stats::MARGIN_PERCENT,
            baseline_args: format::args(&profile.baseline_args),
            objective: Objective {
                maximize: profile.objective.maximize,
                title: metric_in_sentence(&profile.objective.metric),
                load: profile.objective.load.clone(),
                limits: profile.slo.iter().map(limit).collect(),
            },
            headline: row.map(Headline::new),
            deploy: Deploy::new(inputs, row.and_then(|row| row.verdict)),
            figures: tables::figures(inputs),
            sweep_names: inputs.sweeps.iter().map(|sweep| sweep.stage.clone()).collect(),
            lessons: lessons(inputs),
            comparison: ComparisonView::new(inputs),
            targets_met: targets
                .iter()
                .filter(|row| row.last().is_some_and(|o| o == "met"))
                .count(),
            slo_missed: slo.iter().filter(missed).map(|row| format::in_sentence(&row[0])).collect(),
            anatomy: loads_of_interest(inputs)
                .into_iter()
                .filter_map(|load| AnatomyView::new(inputs, load))
                .collect(),
            sweeps: inputs.sweeps.iter().map(|sweep| SweepView::new(inputs, sweep)).collect(),
            parts: Part::ALL.map(|part| PartView::new(inputs, part)).into(),
            provenance: Provenance::new(inputs),
            glossary: glossary(),
            plots: inputs.plots.to_vec(),
            targets,
            slo,
        }
    }
}

impl Headline {
    fn new(row: &Comparison) -> Self {
        let metric = metric::find(&row.metric);
        let unit = match metric.map_or("", |m| m.unit) {
            "ms" | "share" | "%" | "×" | "" => String::new(),
            unit => format!(" {unit}"),
        };
        let figure = |column| {
            let estimate = row.columns.get(&column)?;
            Some(format!("{}{unit}", format::estimate(metric, estimate)))
        };
        let over_baseline = |column| {
            let (before, after) = (row.columns.get(&Column::Baseline)?, row.columns.get(&column)?);
            let change = stats::change(before, after, metric.is_some_and(|m| m.is_share()))?;
            Some(format::change(metric, &change))
        };
        Self {
            baseline: figure(Column::Baseline),
            default: figure(Column::Default),
            tuned: figure(Column::Tuned),
            change: row.change.as_ref().map(|change| format::change(metric, change)),
            default_over_baseline: over_baseline(Column::Default),
            over_baseline: over_baseline(Column::Tuned),
            verdict: row.verdict.map(tables::verdict_word),
            reason: row.reason.clone(),
        }
    }
}

fn objective_row<'a>(inputs: &Inputs<'a>) -> Option<&'a Comparison> {
    let objective = &inputs.profile.objective;
    let mut rows = inputs.comparison.comparisons.iter();
    rows.find(|row| row.metric == objective.metric && row.load == objective.load)
}

fn metric_in_sentence(id: &str) -> String {
    metric::find(id).map_or_else(|| id.to_owned(), |metric| format::in_sentence(metric.title))
}

fn limit(limit: &Limit) -> String {
    format!(
        "{} {} {} on `{}`",
        metric_in_sentence(&limit.metric),
        if limit.bound == Bound::Max { "≤" } else { "≥" },
        format::given(metric::find(&limit.metric), limit.limit.to_f64()),
        limit.load,
    )
}

/// Loads of the objective and the limits, in the profile's order.
fn loads_of_interest<'a>(inputs: &Inputs<'a>) -> Vec<&'a str> {
    let profile = inputs.profile;
    let named = |name: &str| {
        name == profile.objective.load
            || profile.slo.iter().chain(&profile.targets).any(|limit| limit.load == name)
    };
    profile.loads.iter().map(|load| load.name.as_str()).filter(|name| named(name)).collect()
}

/// What the run taught, each drawn from figures: traps first, then which knob mattered, which did
/// nothing, what does not run, and what the stages say themselves.
fn lessons(inputs: &Inputs<'_>) -> Vec<String> {
    let objective = &inputs.profile.objective;
    let flag = |i: usize| inputs.sweeps[i].flag.as_ref().unwrap_or(&inputs.sweeps[i].stage);
    let keys = |point: &Point| point.trials.iter().map(|trial| trial.key).collect::<Vec<_>>();

    // Two sweeps may hold the same trials: one trap.
    let mut seen = Vec::new();
    let mut lessons = Vec::new();
    for (i, sweep) in inputs.sweeps.iter().enumerate() {
        if let Some(trap) = findings::trap(&sweep.points, objective) {
            let pair = (keys(trap.from), keys(trap.to));
            if !seen.contains(&pair) {
                lessons.push(trap.sentence(flag(i), objective));
                seen.push(pair);
            }
        }
    }

    let mut effects: Vec<_> = inputs
        .sweeps
        .iter()
        .enumerate()
        .filter_map(|(i, sweep)| Some((flag(i), findings::knob_effect(&sweep.points, objective)?)))
        .collect();
    effects.sort_by(|(_, a), (_, b)| {
        (b.is_real, b.change.mean.abs())
            .partial_cmp(&(a.is_real, a.change.mean.abs()))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    lessons.extend(effects.iter().map(|(flag, effect)| effect.sentence(flag, objective)));
    let failures = inputs.sweeps.iter().enumerate();
    lessons.extend(failures.filter_map(|(i, sweep)| findings::failures(flag(i), &sweep.points)));
    lessons.extend(inputs.choose.iter().flat_map(|file| file.findings.clone()));
    lessons.extend(inputs.comparison.findings.clone());
    distinct(lessons)
}

/// Metrics with their formulas; those that share one are one row.
fn glossary() -> Vec<Vec<String>> {
    let keys = distinct(METRICS.iter().map(|metric| (metric.formula, metric.vllm)));
    keys.into_iter()
        .map(|(formula, vllm)| {
            let mut titles =
                METRICS.iter().filter(|m| (m.formula, m.vllm) == (formula, vllm)).map(|m| m.title);
            let first = titles.next().unwrap_or_default();
            // "TTFT mean", "TTFT P50", …: the name once, then what follows it.
            let name = first.split(' ').next().unwrap_or_default();
            let rest = titles.map(|title| title.trim_start_matches(name).trim().to_owned());
            let titles: Vec<_> = std::iter::once(first.to_owned()).chain(rest).collect();
            let vllm = if vllm.is_empty() { format::NOTHING } else { vllm };
            vec![titles.join(", "), formula.to_owned(), vllm.to_owned()]
        })
        .collect()
}
