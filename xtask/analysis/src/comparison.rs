//! Metrics side by side, with their verdicts.

use std::collections::BTreeMap;

use bench_core::{
    metric::{self, METRICS, Metric},
    schema::{Column, Comparison, Estimate, Point, Role, TargetOutcome, Verdict},
    stats::{self, LEVEL, Question, QuestionRole, Spread, Start},
};

use super::limits;
use profile::{Bound, Limit, Profile};

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
pub fn comparisons(points: &[Point], reference: &[Point], profile: &Profile) -> Vec<Comparison> {
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
                && let Some(figure) =
                    reference.iter().find_map(|point| point.metrics.get(metric.id))
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
/// have no verdict yet are judged together. Without a profile no row is the primary question or a
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
        let starts = |column| row.columns.get(&column).map(stats::starts_of).unwrap_or_default();
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
            requests: profile.and_then(|profile| requests(profile, metric, &row.load)),
            margin_percent: profile
                .map_or(metric.margin().percent, |profile| profile.margin_percent(metric)),
            role: question_role(profile, metric, &row.load),
        }
    }
}

/// Requests of a start that the metric is made of, where the profile tells.
fn requests(profile: &Profile, metric: &Metric, load: &str) -> Option<u64> {
    let spec = &profile.loads.iter().find(|named| named.name == load)?.spec;
    let requests = spec.requests_expected()?;
    if metric.id != "long_e2e_p95_ms" {
        return Some(requests);
    }
    let shares = || spec.classes.iter().map(|class| class.share.to_f64());
    Some((requests as f64 * shares().next_back()? / shares().sum::<f64>()) as u64)
}

/// What a metric on a load is asked for. What explains is not judged.
fn question_role(profile: Option<&Profile>, metric: &Metric, load: &str) -> QuestionRole {
    let objective = profile.map(|profile| &profile.objective);
    if objective.is_some_and(|o| o.metric == metric.id && o.load == load) {
        QuestionRole::Primary
    } else if profile.is_some_and(|profile| is_goal(profile, metric.id, load)) {
        QuestionRole::Guardrail
    } else if metric.is_diagnostic() {
        QuestionRole::Diagnostic
    } else {
        QuestionRole::Secondary
    }
}

/// Whether a metric on a load is the objective (the primary question) or a limit (a guardrail): by
/// these alone anything is decided.
pub fn is_goal(profile: &Profile, metric: &str, load: &str) -> bool {
    let objective = &profile.objective;
    (metric == objective.metric && load == objective.load)
        || profile.slo.iter().any(|limit| metric == limit.metric && load == limit.load)
}

/// The objective's row.
pub fn primary<'a>(rows: &'a [Comparison], profile: &Profile) -> Option<&'a Comparison> {
    let objective = &profile.objective;
    rows.iter().find(|row| row.metric == objective.metric && row.load == objective.load)
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

/// A target and the tuned figure.
pub fn target(limit: &Limit, points: &[Point]) -> TargetOutcome {
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
        met: found.is_some_and(|value| limits::keeps(limit, value)),
    }
}

/// Two sets of points, load by load.
pub struct Compared<'a> {
    /// The points before.
    pub before: &'a [Point],
    /// The points after.
    pub after: &'a [Point],
    /// Every metric of both on every load of both, the first set as the default column and the
    /// second as the tuned one.
    pub rows: Vec<Comparison>,
    /// Loads whose names are those of others on the other side.
    pub other_loads: Vec<String>,
    /// Loads that the first set ran and the second cannot, and why.
    pub broken: Vec<(String, String)>,
}

/// Compares by load and metric.
pub fn any_two<'a>(
    before: &'a [Point],
    after: &'a [Point],
    profile: Option<&Profile>,
) -> Compared<'a> {
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
    Compared { before, after, rows: judged(rows, profile), other_loads, broken }
}

/// Whether two points share a measurement: a trial by its key, and its figure.
fn hold_the_same(a: &Point, b: &Point) -> bool {
    let figures =
        |point: &Point| point.metrics.get("output_tokens_per_s").map(|e| e.starts.clone());
    let share_figure =
        figures(a).zip(figures(b)).is_some_and(|(a, b)| a.iter().any(|x| b.contains(x)));
    share_figure && a.trials.iter().any(|a| b.trials.iter().any(|b| a.key == b.key))
}
