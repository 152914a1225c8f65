//! One section a sweep.

use bench_core::{
    metric::{self, Metric},
    schema::{Point, Role, SweepResult},
    stats::{Judgement, QuestionRole},
};
use serde::Serialize;

use super::{
    Inputs, findings,
    format::{self, NOTHING},
    provenance::distinct,
    words,
};
use analysis::{
    comparison::{self, carries},
    lenders::Lenders,
};
use profile::{Objective, Profile, role};

/// Figures of every sweep; the objective's comes first.
const METRICS: [&str; 6] = [
    "output_tokens_per_s",
    "queue_share",
    "front_end_share",
    "ttft_p95_ms",
    "e2e_mean_ms",
    "e2e_p95_ms",
];

/// Figures that are shown where the values differ in them.
const WHERE_THEY_DIFFER: [&str; 6] = [
    "short_ttft_p95_ms",
    "long_ttft_p95_ms",
    "stall_p99_ms",
    "tpot_p95_ms",
    "kv_cache_tokens",
    "preemptions",
];

/// What long prompts do to others.
const PROMPTS: [&str; 3] = ["stall_p99_ms", "short_ttft_p95_ms", "long_ttft_p95_ms"];

/// A sweep's section.
#[derive(Debug, Serialize)]
pub struct SweepView {
    /// Name of the stage.
    name: String,
    /// Flag that is swept; the name again where a value sets several.
    flag: String,
    /// Name of the plot, if it was drawn.
    plot: Option<String>,
    /// One table a load.
    loads: Vec<LoadView>,
    /// Label and reason of the choice.
    choice: Option<(String, String)>,
    /// Labels of the values that run.
    runs: Vec<String>,
    /// Values that do not, with the cause.
    fails: Vec<String>,
    /// What the server said: value and lines.
    evidence: Vec<(String, String)>,
    /// Values that none beats in both of these metrics.
    frontier: Vec<String>,
    /// Those metrics.
    frontier_of: Vec<String>,
    /// In sentences.
    findings: Vec<String>,
}

/// A sweep under one load.
#[derive(Debug, Serialize)]
struct LoadView {
    name: String,
    header: String,
    rows: Vec<Vec<String>>,
    /// What long prompts do to others, each value against the defaults, where the load has such.
    prompt_header: String,
    prompt_rows: Vec<Vec<String>>,
    /// E2E P95 by class, where the load has several.
    class_header: String,
    class_rows: Vec<Vec<String>>,
}

impl SweepView {
    pub fn new(inputs: &Inputs<'_>, sweep: &SweepResult) -> Self {
        let objective = &inputs.profile.objective;
        let plot = format!("sweep_{}", sweep.header.stage.replace('-', "_"));
        let values: Vec<_> =
            sweep.points.iter().filter(|point| point.role == Role::Sweep).collect();
        let runs = values.iter().filter(|point| point.failure.is_none());
        let (frontier, frontier_of) = frontier(&values, objective);
        Self {
            plot: inputs.plots.contains(&plot).then_some(plot),
            loads: distinct(values.iter().map(|point| point.load.as_str()))
                .into_iter()
                .map(|load| LoadView::new(inputs, sweep, load))
                .collect(),
            choice: sweep.choice.as_ref().map(|c| (shown(&c.label), c.reason.clone())),
            runs: distinct(runs.map(|point| point.label.clone())),
            fails: distinct(values.iter().filter_map(|point| {
                Some(format!("{} ({})", point.label, point.failure.as_ref()?.title()))
            })),
            evidence: evidence(&values),
            frontier,
            frontier_of,
            findings: {
                let baseline = &inputs.baseline.points;
                let mut said = findings::of_sweep(&sweep.points, inputs.lenders, objective);
                said.extend(findings::against_baseline(&sweep.points, baseline, &objective.load));
                said
            },
            name: sweep.header.stage.clone(),
            flag: sweep.flag.clone(),
        }
    }
}

impl LoadView {
    fn new(inputs: &Inputs<'_>, sweep: &SweepResult, load: &str) -> Self {
        let Inputs { profile, lenders, .. } = *inputs;
        let objective = &profile.objective;
        let mut points: Vec<_> = sweep.points.iter().filter(|point| point.load == load).collect();
        // The settings to judge by come first.
        points.sort_by_key(|point| point.role);
        let metrics = columns(&points, objective);
        let notes: Vec<_> = points.iter().map(|point| words::note(point)).collect();
        let has_notes = notes.iter().any(|note| !note.is_empty());
        let chosen = sweep.choice.as_ref().map(|choice| choice.label.as_str());
        let name = |point: &Point| {
            let is_chosen = chosen == Some(point.label.as_str());
            let label = shown(&point.label);
            match point.role {
                _ if is_chosen => format!("**{label}**"),
                Role::Sweep => label,
                _ => format!("*{label}*"),
            }
        };
        let mut header: Vec<_> = metrics.iter().map(|id| format!("| >{}", title(id))).collect();
        header.extend(has_notes.then(|| "| Note".to_owned()));
        let rows = points.iter().zip(notes).map(|(point, note)| {
            let figures = metrics.iter().map(|id| cell(point, id));
            let note = has_notes.then_some(note);
            std::iter::once(name(point)).chain(figures).chain(note).collect()
        });
        let classes =
            distinct(points.iter().flat_map(|p| p.classes.iter().map(|c| c.name.as_str())));
        let mut classes = if classes.len() > 1 { classes } else { Vec::new() };
        // What a class is too small for is not shown.
        if let (Some(named), Some(metric)) =
            (profile.loads.iter().find(|named| named.name == load), metric::find("e2e_p95_ms"))
        {
            classes.retain(|class| carries(named, Some(class), metric));
        }
        let prompts: Vec<&Metric> = PROMPTS
            .into_iter()
            .filter(|id| {
                points.iter().any(|point| point.role == Role::Sweep && point.mean(id).is_some())
            })
            .filter_map(metric::find)
            .collect();
        Self {
            name: load.to_owned(),
            prompt_header: prompts.iter().map(|m| format!("| >{}", title(m.id))).collect(),
            prompt_rows: against_default(&points, &prompts, lenders, profile),
            header: header.join(" "),
            rows: rows.collect(),
            class_header: classes.iter().map(|class| format!("| >{class}")).collect(),
            class_rows: points
                .iter()
                .filter(|point| !point.classes.is_empty() && !classes.is_empty())
                .map(|point| {
                    let figures =
                        classes.iter().map(|class| class_cell(point, class, "e2e_p95_ms"));
                    std::iter::once(name(point)).chain(figures).collect()
                })
                .collect(),
        }
    }
}

/// Values against the defaults on these metrics, with verdicts: what the table asks is one family of
/// questions. None without metrics or defaults.
fn against_default(
    points: &[&Point],
    metrics: &[&'static Metric],
    lenders: &Lenders,
    profile: &Profile,
) -> Vec<Vec<String>> {
    let default = points.iter().find(|point| point.role == Role::Default);
    let Some(default) = default.filter(|_| !metrics.is_empty()) else { return Vec::new() };
    let values: Vec<&Point> =
        points.iter().copied().filter(|point| point.role == Role::Sweep).collect();
    let asked =
        values.iter().flat_map(|value| metrics.iter().map(|metric| (*default, *value, *metric)));
    let role = QuestionRole::Secondary;
    let judged = comparison::judged_together(asked, role, lenders, profile);
    let rows = values.iter().zip(judged.chunks(metrics.len()));
    rows.map(|(value, judged)| {
        let cell = |(judgement, metric): (&Judgement, &&'static Metric)| {
            let change = judgement.change.as_ref();
            let said = change.map(|change| words::judged(metric.id, change, judgement.verdict));
            said.unwrap_or_else(|| NOTHING.to_owned())
        };
        std::iter::once(shown(&value.label)).chain(judged.iter().zip(metrics).map(cell)).collect()
    })
    .collect()
}

/// A point's label as it is shown.
fn shown(label: &str) -> String {
    if label == role::DEFAULT { format::DEFAULT.to_owned() } else { label.to_owned() }
}

/// Metrics worth a column: the objective's, the usual ones, and those in which values differ.
fn columns<'a>(points: &[&Point], objective: &'a Objective) -> Vec<&'a str> {
    let usual = std::iter::once(objective.metric.as_str()).chain(METRICS);
    let differing = WHERE_THEY_DIFFER.into_iter().filter(|id| {
        distinct(points.iter().filter_map(|point| point.mean(id)).map(f64::to_bits)).len() > 1
    });
    let measured = |id: &&str| points.iter().any(|point| point.mean(id).is_some());
    distinct(usual.chain(differing)).into_iter().filter(measured).collect()
}

fn title(id: &str) -> String {
    format::title(metric::find(id), id)
}

fn cell(point: &Point, id: &str) -> String {
    match point.metrics.get(id) {
        Some(estimate) => format::estimate(metric::find(id), estimate),
        None => NOTHING.to_owned(),
    }
}

/// A class's figure under a point.
pub fn class_cell(point: &Point, class: &str, id: &str) -> String {
    let class = point.classes.iter().find(|candidate| candidate.name == class);
    match class.and_then(|class| class.metrics.get(id)) {
        Some(estimate) => format::estimate(metric::find(id), estimate),
        None => NOTHING.to_owned(),
    }
}

fn evidence(values: &[&Point]) -> Vec<(String, String)> {
    distinct(values.iter().filter_map(|point| {
        let failure = point.failure.as_ref().filter(|failure| failure.foreseen.is_none())?;
        let lines = &failure.evidence;
        (!lines.is_empty()).then(|| (point.label.clone(), lines.join("\n")))
    }))
}

/// Values that none beats in both the objective and the tail latency, and the two metrics.
fn frontier(values: &[&Point], objective: &Objective) -> (Vec<String>, Vec<String>) {
    let other = if objective.metric == "e2e_p95_ms" { "output_tokens_per_s" } else { "e2e_p95_ms" };
    let (Some(first), Some(second)) = (metric::find(&objective.metric), metric::find(other)) else {
        return (Vec::new(), Vec::new());
    };
    let points: Vec<_> =
        values.iter().copied().filter(|point| point.load == objective.load).collect();
    let labels = findings::pareto(&points, [first, second]);
    let names = [first, second].map(|metric| format::name(metric.id));
    (labels.into_iter().map(str::to_owned).collect(), names.to_vec())
}
