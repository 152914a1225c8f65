//! What the templates see.

use std::collections::BTreeMap;

use bench_core::{
    metric::{self, METRICS},
    schema::{Column, Comparison, ComprehensiveResult, Estimate, LayoutPoint, Point, SweepResult},
};
use serde::Serialize;

use super::{
    Inputs,
    deploy::Deploy,
    findings,
    first::First,
    format,
    load_generator::CalibrationView,
    provenance::{Provenance, distinct},
    speculation::SpeculationView,
    starts::StartsView,
    sweeps::SweepView,
    tables::{self, AnatomyView, ComparisonView, Figures, PartView},
    targets::{FloorsView, TargetsView},
    words,
};
use analysis::{
    comparison::primary,
    pareto::{Axis, Beaten, Candidate, Front},
};
use profile::{Bound, EngineConfig, Limit, Part};

/// Everything that a template may name; figures are text already.
#[derive(Debug, Serialize)]
pub struct View {
    engine: String,
    simulated: bool,
    has_reference: bool,
    /// Name of the figures shown beside, and whether they are the seed's, which set priorities.
    reference: String,
    is_week2: bool,
    /// Whether a server that runs already was measured, and in how many starts.
    runs_already: bool,
    starts: u32,
    dummy_weights: bool,
    profile: String,
    profile_digest: String,
    identity_digest: String,
    /// The engine's identity as JSON.
    identity: String,
    instrument_epoch: u32,
    calibration: Option<CalibrationView>,
    margin_percent: String,
    baseline_args: String,
    objective: Objective,
    /// What the candidate's figures are called, at the beginning of a head and within a sentence.
    candidate_head: String,
    candidate: &'static str,
    headline: Option<Headline>,
    first: First,
    deploy: Deploy,
    figures: BTreeMap<&'static str, Figures>,
    sweep_names: Vec<String>,
    lessons: Vec<String>,
    comparison: ComparisonView,
    targets: TargetsView,
    floors: FloorsView,
    slo: Vec<Vec<String>>,
    /// What the mark of too few requests among them means.
    slo_few: Option<String>,
    /// What tuning made worse, with the change.
    worse: Vec<String>,
    anatomy: Vec<AnatomyView>,
    sweeps: Vec<SweepView>,
    speculation: Vec<SpeculationView>,
    front: FrontView,
    layouts: Vec<Vec<String>>,
    parts: Vec<PartView>,
    provenance: Provenance,
    server_starts: Option<StartsView>,
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

/// Every configuration by throughput and latency.
#[derive(Debug, Serialize)]
struct FrontView {
    /// `output throughput on `burst``, with its unit.
    throughput: String,
    latency: String,
    /// Names of those that none beats.
    unbeaten: Vec<String>,
    /// Configuration, both figures, and what beats it by how much.
    rows: Vec<Vec<String>>,
}

impl FrontView {
    fn new(front: &Front) -> Self {
        let title = |axis: &Axis| {
            format!("{} on `{}`", format::title(Some(axis.metric), axis.metric.id), axis.load)
        };
        let figure =
            |axis: &Axis, estimate: &Estimate| format::estimate(Some(axis.metric), estimate);
        let row = |candidate: &Candidate| {
            let name = match candidate.beaten {
                None => format!("**{}**", candidate.name),
                Some(_) => candidate.name.clone(),
            };
            let note = if candidate.saturated { " (saturated)" } else { "" };
            vec![
                name + note,
                figure(&front.throughput, &candidate.throughput),
                figure(&front.latency, &candidate.latency),
                candidate.beaten.as_ref().map_or_else(
                    || "nothing beats it in both".to_owned(),
                    |beaten| beaten_words(front, beaten),
                ),
            ]
        };
        Self {
            throughput: title(&front.throughput),
            latency: title(&front.latency),
            unbeaten: front.unbeaten().map(|candidate| candidate.name.clone()).collect(),
            rows: front.candidates.iter().map(row).collect(),
        }
    }
}

fn front(inputs: &Inputs<'_>) -> Front {
    let objective = (&*inputs.profile.objective.metric, &*inputs.profile.objective.load);
    Front::new(objective, inputs.profile.latency_load(), measured(inputs), inputs.lenders)
}

/// Stage and points of each file, those of the fresh starts first.
fn measured<'a>(inputs: &Inputs<'a>) -> impl Iterator<Item = (&'a str, &'a [Point])> + use<'a> {
    let judged = inputs.comprehensive.map(ComprehensiveResult::measured);
    let sweeps = inputs.sweeps.iter().map(SweepResult::measured);
    judged.into_iter().chain([inputs.baseline.measured()]).chain(sweeps)
}

/// Settings under loads that give more tokens/s a user or a card than every other: layout, cards, setting,
/// load, both figures.
fn layouts(inputs: &Inputs<'_>) -> Vec<Vec<String>> {
    let points = analysis::layouts::points(inputs.profile, measured(inputs));
    let figure = |found: &Estimate| format::estimate(metric::find("output_tokens_per_s"), found);
    let row = |point: &LayoutPoint| {
        vec![
            point.layout.clone(),
            point.cards.to_string(),
            point.label.clone(),
            format!("`{}`", point.load),
            figure(&point.tokens_per_s_per_user),
            figure(&point.tokens_per_s_per_card),
        ]
    };
    let mut unbeaten: Vec<_> = points.iter().filter(|point| point.is_unbeaten).collect();
    unbeaten.sort_by(|a, b| a.tokens_per_s_per_user.mean.total_cmp(&b.tokens_per_s_per_user.mean));
    unbeaten.into_iter().map(row).collect()
}

/// `beaten by tuned: +5.8 ± 1.1 % and −3.0 ± 0.5 %`
fn beaten_words(front: &Front, beaten: &Beaten) -> String {
    let change = |axis: &Axis, change: &Option<Estimate>| match change {
        Some(change) => format::change(Some(axis.metric), change),
        None => format::NOTHING.to_owned(),
    };
    let [throughput, latency] = &beaten.changes;
    format!(
        "beaten by {}: {} and {}",
        front.candidates[beaten.by].name,
        change(&front.throughput, throughput),
        change(&front.latency, latency)
    )
}

/// The objective before and after.
#[derive(Debug, Serialize)]
struct Headline {
    baseline: Option<String>,
    default: Option<String>,
    tuned: Option<String>,
    change: Option<String>,
    default_over_baseline: Option<String>,
    /// Most of the way from the baseline to the tuned settings lies before the defaults.
    is_mostly_handicap: bool,
    /// From the baseline to the tuned settings.
    over_baseline: Option<String>,
    verdict: Option<&'static str>,
    reason: String,
}

impl View {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let profile = inputs.profile;
        let label = &inputs.identity.header.engine;
        let row = primary(&inputs.comparison.comparisons, profile);
        let slo = tables::slo(inputs);
        let candidate = words::candidate_name(&inputs.comparison.decision).unwrap_or_default();
        let anatomy: Vec<_> = loads_of_interest(inputs)
            .into_iter()
            .filter_map(|load| AnatomyView::new(inputs, load))
            .collect();
        Self {
            engine: label.shown(),
            simulated: label.simulated,
            has_reference: inputs.reference.is_some(),
            reference: tables::reference_name(profile).to_owned(),
            is_week2: profile.reference.as_deref() == Some(tables::WEEK2_FILE),
            runs_already: profile.endpoint().is_some(),
            starts: profile.starts,
            dummy_weights: matches!(
                &profile.engine,
                EngineConfig::Vllm(vllm) if vllm.model.starts_with("dummy:")
            ),
            profile: profile.name.clone(),
            profile_digest: inputs.profile_digest.to_string(),
            identity_digest: label.identity.to_string(),
            identity: format!("{:#}", inputs.identity.identity),
            instrument_epoch: profile.instrument_epoch,
            calibration: inputs.calibration.map(|found| CalibrationView::new(inputs, found)),
            margin_percent: profile.objective.margin_percent().to_string(),
            baseline_args: match &profile.baseline_args {
                none if none.is_empty() => String::new(),
                args => format::args(args),
            },
            objective: Objective {
                maximize: profile.objective.maximize,
                title: format::name(&profile.objective.metric),
                load: profile.objective.load.clone(),
                limits: profile.slo.iter().map(limit).collect(),
            },
            candidate_head: format::sentence(candidate).trim_end_matches('.').to_owned(),
            candidate,
            headline: row.map(|row| Headline::new(inputs, row)),
            first: First::new(inputs),
            deploy: Deploy::new(inputs),
            figures: Figures::all(inputs),
            sweep_names: inputs.sweeps.iter().map(|sweep| sweep.header.stage.clone()).collect(),
            lessons: lessons(inputs, &anatomy),
            comparison: ComparisonView::new(inputs),
            targets: TargetsView::new(inputs),
            floors: FloorsView::new(inputs),
            anatomy,
            sweeps: inputs.sweeps.iter().map(|sweep| SweepView::new(inputs, sweep)).collect(),
            speculation: SpeculationView::all(inputs),
            front: FrontView::new(&front(inputs)),
            layouts: layouts(inputs),
            parts: Part::ALL.map(|part| PartView::new(inputs, part)).into(),
            provenance: Provenance::new(inputs),
            server_starts: StartsView::new(inputs.trials),
            glossary: glossary(inputs),
            plots: inputs.plots.to_vec(),
            worse: tables::worse(inputs),
            slo,
            slo_few: words::few_limits(&inputs.comparison.decision.limits, profile),
        }
    }
}

impl Headline {
    fn new(inputs: &Inputs<'_>, row: &Comparison) -> Self {
        let metric = metric::find(&row.metric);
        let unit = format::unit_of_title(metric);
        let figure = |column| {
            let estimate = row.columns.get(&column)?;
            Some(format!("{}{unit}", format::estimate(metric, estimate)))
        };
        let over_baseline = |column| {
            row.columns.get(&Column::Baseline).zip(row.columns.get(&column))?;
            let change = inputs.over_baseline(&row.metric, &row.load, column)?;
            Some(format::change(metric, &change))
        };
        let way = |from, to| {
            let (from, to) = (row.columns.get(&from)?, row.columns.get(&to)?);
            Some((to.mean - from.mean).abs())
        };
        Self {
            baseline: figure(Column::Baseline),
            default: figure(Column::Default),
            tuned: figure(Column::Tuned),
            change: row.change.as_ref().map(|change| format::change(metric, change)),
            is_mostly_handicap: way(Column::Baseline, Column::Default)
                > way(Column::Default, Column::Tuned),
            default_over_baseline: over_baseline(Column::Default),
            over_baseline: match &row.over_baseline {
                Some(judged) => judged.change.as_ref().map(|change| {
                    let word = judged.verdict.map(words::verdict_word);
                    let word = word.map(|word| format!(", {word}")).unwrap_or_default();
                    format::change(metric, change) + &word
                }),
                None => over_baseline(Column::Tuned),
            },
            verdict: row.verdict.map(words::verdict_word),
            reason: row.reason.clone(),
        }
    }
}

fn limit(limit: &Limit) -> String {
    format!("{} on `{}`", bound(limit), limit.load)
}

/// A limit in words, such as `TTFT P95 ≤ 500 ms`.
pub fn bound(limit: &Limit) -> String {
    let sign = if limit.bound == Bound::Max { "≤" } else { "≥" };
    let value = format::given(metric::find(&limit.metric), limit.limit.to_f64());
    format!("{} {sign} {value}", format::name(&limit.metric))
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
/// nothing, what does not run, and what the comparison says that no table above says already.
fn lessons(inputs: &Inputs<'_>, anatomy: &[AnatomyView]) -> Vec<String> {
    let objective = &inputs.profile.objective;
    let sweeps: Vec<_> =
        inputs.sweeps.iter().map(|sweep| (format!("`{}`", sweep.flag), &sweep.points)).collect();
    let keys = |point: &Point| point.trials.iter().map(|trial| trial.key).collect::<Vec<_>>();

    // Two sweeps may hold the same trials: one trap.
    let mut seen = Vec::new();
    let mut lessons = Vec::new();
    for (flag, points) in &sweeps {
        if let Some(trap) = findings::trap(points, inputs.lenders, objective) {
            let pair = (keys(trap.from), keys(trap.to));
            if !seen.contains(&pair) {
                lessons.push(format!("{flag}: {}", trap.sentence(objective)));
                seen.push(pair);
            }
        }
    }

    let mut effects: Vec<_> = sweeps
        .iter()
        .filter_map(|(flag, points)| {
            Some((flag, findings::knob_effect(points, inputs.lenders, objective)?))
        })
        .collect();
    let size = |effect: &findings::Effect<'_>| effect.change.mean.abs();
    effects.sort_by(|(_, a), (_, b)| {
        b.is_real.cmp(&a.is_real).then(f64::total_cmp(&size(b), &size(a)))
    });
    for (i, (flag, effect)) in effects.iter().enumerate() {
        let is_most = i == 0 && effects.len() > 1 && effect.is_real;
        let most = if is_most { " had most effect" } else { "" };
        lessons.push(format!("{flag}{most}: {}", effect.sentence(objective)));
    }

    for (flag, points) in &sweeps {
        lessons.extend(findings::failures(points).map(|failures| format!("{flag}: {failures}")));
    }
    let is_told = |finding: &&String| anatomy.iter().any(|view| view.tells(finding));
    let new = inputs.comparison.findings.iter().filter(|finding| !is_told(finding));
    lessons.extend(new.map(|finding| format::sentence(finding)));
    distinct(lessons)
}

/// Metrics with their formulas; those that share one are one row. One that no load of the profile
/// has is left out.
fn glossary(inputs: &Inputs<'_>) -> Vec<Vec<String>> {
    let is_limited = inputs.profile.loads.iter().any(|load| load.spec.max_concurrency.is_some());
    let has_starts = StartsView::new(inputs.trials).is_some();
    let has_figure =
        |id: &str| inputs.baseline.points.iter().any(|point| point.metrics.contains_key(id));
    let shown = METRICS.iter().filter(|m| match m.id {
        "client_queue_mean_ms" => is_limited,
        "start_s" => has_starts,
        "joules_per_million_output_tokens"
        | "dollars_per_million_output_tokens"
        | "output_tokens_per_s_per_card"
        | "requests_per_s_per_card" => has_figure(m.id),
        _ => true,
    });
    distinct(shown.map(|metric| (metric.formula, metric.vllm)))
        .into_iter()
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
