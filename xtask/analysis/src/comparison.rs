//! Metrics side by side, with their verdicts.

use std::collections::BTreeMap;

use bench_core::{
    metric::{self, METRICS, Metric},
    schema::{Column, Comparison, Estimate, OverBaseline, Point, Role, Verdict},
    stats::{self, Judgement, LEVEL, Question, QuestionRole},
    summarize::long_prompt_share,
};

use super::lenders::{Both, Lenders, Sides};
use profile::{Guard, NamedLoad, Profile};

/// The column that settings of a role are in; none of a sweep's.
pub fn column(role: Role) -> Option<Column> {
    match role {
        Role::Baseline => Some(Column::Baseline),
        Role::Default => Some(Column::Default),
        Role::Tuned => Some(Column::Tuned),
        Role::Reference => Some(Column::Week2),
        Role::Sweep => None,
    }
}

/// The role of the settings in a column.
pub fn role(column: Column) -> Role {
    match column {
        Column::Baseline => Role::Baseline,
        Column::Default => Role::Default,
        Column::Tuned => Role::Tuned,
        Column::Week2 => Role::Reference,
    }
}

/// Every metric on every load, in the order of the profile's loads and of the metrics; tuned
/// against the defaults, never against a handicapped baseline. `level`: [`LEVEL`], or what a look
/// before the last start may spend of it.
pub fn comparisons(
    points: &[Point],
    lenders: &Lenders,
    reference: &[Point],
    profile: &Profile,
    level: f64,
) -> Vec<Comparison> {
    let lenders = lenders.and(points);
    let asked = asked_of(points, &lenders, reference, profile, |_, _| true);
    let mut rows = judged_at(asked, Some(profile), level);
    over_baseline(&mut rows, points, &lenders, profile, level);
    rows
}

/// [`comparisons`] of the goals alone: all by which a comparison is decided, and a small part of the work. Their
/// verdicts are the same, for each role's questions are corrected for apart.
pub fn goals(
    points: &[Point],
    lenders: &Lenders,
    profile: &Profile,
    level: f64,
) -> Vec<Comparison> {
    judged_at(asked_of_goals(points, lenders, profile), Some(profile), level)
}

/// The questions of [`goals`].
fn asked_of_goals(
    points: &[Point],
    lenders: &Lenders,
    profile: &Profile,
) -> Vec<(Comparison, Sides)> {
    let lenders = lenders.and(points);
    asked_of(points, &lenders, &[], profile, |metric, load| is_goal(profile, metric, load))
}

/// Level at which the settings of `[baseline]` are held against the defaults where no candidate is better: a
/// second question beside the candidate's, which together with it is wrongly answered in at most 6 of 100.
pub const BASELINE_LEVEL: f64 = 0.01;

/// [`goals`] of the settings of `[baseline]` against the defaults: verdicts at [`BASELINE_LEVEL`], intervals as
/// everywhere.
pub fn baseline_goals(points: &[Point], lenders: &Lenders, profile: &Profile) -> Vec<Comparison> {
    let role = |role| match role {
        Role::Default => Some(Role::Default),
        Role::Baseline => Some(Role::Tuned),
        _ => None,
    };
    let sides = points.iter().filter_map(|p| Some(Point { role: role(p.role)?, ..p.clone() }));
    let (sides, lenders) = (sides.collect::<Vec<_>>(), lenders.and(points));
    let asked = asked_of_goals(&sides, &lenders, profile);
    let shown = judged_at(asked.clone(), Some(profile), LEVEL);
    let judged = judged_at(asked, Some(profile), BASELINE_LEVEL);
    let shown = shown.into_iter().map(|row| row.change);
    judged.into_iter().zip(shown).map(|(row, change)| Comparison { change, ..row }).collect()
}

/// Metrics on loads, with the starts by which each is judged.
fn asked_of(
    points: &[Point],
    lenders: &Lenders,
    reference: &[Point],
    profile: &Profile,
    is_asked: impl Fn(&str, &str) -> bool,
) -> Vec<(Comparison, Sides)> {
    let mut rows = Vec::new();
    for load in &profile.loads {
        let side = |role| points.iter().find(|p| p.role == role && p.load == load.name);
        let sides = side(Role::Default).zip(side(Role::Tuned));
        let compared = sides.map(|(before, after)| Both::of(before, after, lenders));
        for metric in METRICS.iter().filter(|metric| is_asked(metric.id, &load.name)) {
            let mut columns: BTreeMap<Column, Estimate> = points
                .iter()
                .filter(|point| point.load == load.name)
                .filter_map(|p| Some((column(p.role)?, p.metrics.get(metric.id)?.clone())))
                .collect();
            if columns.is_empty() {
                continue;
            }
            if let Some(figure) = reference_figure(metric.id, &load.name, reference, profile) {
                columns.insert(Column::Week2, figure.clone());
            }
            let row = row(metric.id, &load.name, columns, compared.as_ref());
            let sides = compared.as_ref().map(|both| both.sides(metric)).unwrap_or_default();
            rows.push((row, sides));
        }
    }
    rows
}

/// Judges the tuned settings against the profile's baseline, in the objective and the limits.
fn over_baseline(
    rows: &mut [Comparison],
    points: &[Point],
    lenders: &Lenders,
    profile: &Profile,
    level: f64,
) {
    let side = |role, load: &str| points.iter().find(|p| p.role == role && p.load == load);
    let compared = profile.loads.iter().filter_map(|load| {
        let sides = side(Role::Baseline, &load.name).zip(side(Role::Tuned, &load.name));
        let both = sides.map(|(before, after)| Both::of(before, after, lenders))?;
        (!both.pair.shared.is_all()).then_some((load.name.as_str(), both))
    });
    let compared: BTreeMap<&str, Both<'_>> = compared.collect();
    let mut asked: Vec<(&mut Comparison, Sides)> = Vec::new();
    for row in rows.iter_mut().filter(|row| is_goal(profile, &row.metric, &row.load)) {
        let Some(both) = compared.get(row.load.as_str()) else { continue };
        let metric = metric::find(&row.metric).expect("rows are of known metrics");
        asked.push((row, both.sides(metric)));
    }
    let questions: Vec<Question<'_>> =
        asked.iter().map(|(row, sides)| question_of_row((row, sides), Some(profile))).collect();
    let judgements = stats::judge(&questions, level);
    for ((row, _), judgement) in asked.into_iter().zip(judgements) {
        let Judgement { change, verdict, reason, .. } = judgement;
        row.over_baseline = Some(OverBaseline { change, verdict, reason });
    }
}

/// Settings held against each other, each pair under one load and in one metric: one family of questions in
/// this role.
pub fn judged_together<'p>(
    questions: impl IntoIterator<Item = (&'p Point, &'p Point, &'static Metric)>,
    role: QuestionRole,
    lenders: &Lenders,
    profile: &Profile,
) -> Vec<Judgement> {
    let asked = questions.into_iter().map(|(before, after, metric)| {
        (after.load.as_str(), metric, Both::of(before, after, lenders).sides(metric))
    });
    let asked: Vec<(&str, &'static Metric, Sides)> = asked.collect();
    let questions = asked.iter().map(|(load, metric, sides)| Question {
        role,
        ..question(sides, metric, load, Some(profile))
    });
    stats::judge(&questions.collect::<Vec<_>>(), LEVEL)
}

/// The figure shown beside a metric on a load: of the seed's, which are of no load, beside the one that
/// answers to it; of a saved baseline the figure on the same load, tuned where it has that.
fn reference_figure<'a>(
    metric: &str,
    load: &str,
    reference: &'a [Point],
    profile: &Profile,
) -> Option<&'a Estimate> {
    let of = |role| reference.iter().filter(move |point| point.role == role);
    let seed = of(Role::Reference).find_map(|point| point.metrics.get(metric));
    let own = of(Role::Tuned).chain(of(Role::Default)).filter(|point| point.load == load);
    seed.filter(|_| seed_load(metric, profile) == load)
        .or_else(|| own.filter_map(|point| point.metrics.get(metric)).next())
}

/// A row to be judged, unless both sides are the same measurements: then they are one
/// configuration, and no test could tell them apart.
fn row(
    metric: &str,
    load: &str,
    columns: BTreeMap<Column, Estimate>,
    both: Option<&Both<'_>>,
) -> Comparison {
    let (metric, load) = (metric.to_owned(), load.to_owned());
    let row = Comparison { metric, load, columns, ..Comparison::default() };
    if both.is_some_and(|both| both.pair.shared.is_all()) {
        let reason = "the same trials on both sides".to_owned();
        return Comparison {
            verdict: Some(Verdict::Equivalent),
            reason,
            excludes_worse: true,
            ..row
        };
    }
    row
}

/// The rows with their changes and verdicts, from the defaults' column to the tuned one, by their
/// figures alone.
pub fn judged(rows: Vec<Comparison>, profile: Option<&Profile>) -> Vec<Comparison> {
    let sides = |row: &Comparison| {
        let starts = |column| row.columns.get(&column).map(stats::starts_of).unwrap_or_default();
        Sides { before: starts(Column::Default), after: starts(Column::Tuned), ..Sides::default() }
    };
    let rows = rows.into_iter().map(|row| {
        let sides = sides(&row);
        (row, sides)
    });
    judged_at(rows.collect(), profile, LEVEL)
}

/// The rows with their changes and verdicts; all that have no verdict yet are judged together. Without
/// a profile no row is the primary question or a guardrail, and margins are the metrics' own.
fn judged_at(
    rows: Vec<(Comparison, Sides)>,
    profile: Option<&Profile>,
    level: f64,
) -> Vec<Comparison> {
    let (open, settled): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(row, _)| row.verdict.is_none());
    let mut settled: Vec<_> = settled.into_iter().map(|(row, _)| row).collect();
    let questions: Vec<Question<'_>> =
        open.iter().map(|(row, sides)| question_of_row((row, sides), profile)).collect();
    let judgements = stats::judge(&questions, level);
    // What is behind an endpoint only its owner knows.
    let is_known = profile.is_none_or(|profile| profile.endpoint().is_none());
    let judged = open.iter().zip(judgements).map(|((row, sides), judgement)| {
        let row = Comparison {
            change: judgement.change,
            verdict: judgement.verdict,
            reason: judgement.reason,
            detectable: judgement.detectable,
            starts_to_settle: judgement.starts_to_settle,
            excludes_worse: judgement.excludes_worse,
            ..row.clone()
        };
        if is_known && sides.is_one_setting { of_one_setting(row) } else { row }
    });
    settled.extend(judged);
    settled
}

/// The first starts of a setting against its further ones: what is tested and not shown to have changed has
/// not, for nothing was changed.
fn of_one_setting(row: Comparison) -> Comparison {
    let is_tested = row.verdict == Some(Verdict::Inconclusive) && row.detectable.is_some();
    if !is_tested {
        return row;
    }
    Comparison {
        verdict: Some(Verdict::Equivalent),
        reason: format!("one setting, and no change is shown ({})", row.reason),
        starts_to_settle: None,
        excludes_worse: true,
        ..row
    }
}

/// What is asked of a metric on a load. Without a profile it is neither the primary question nor a guardrail, and
/// its margin is the metric's own.
fn question<'a>(
    sides: &'a Sides,
    metric: &'static Metric,
    load: &'a str,
    profile: Option<&Profile>,
) -> Question<'a> {
    Question {
        metric,
        load,
        before: &sides.before,
        after: &sides.after,
        lent: &sides.lent,
        requests: profile.and_then(|profile| requests(profile, metric, load)),
        margin_percent: profile
            .map_or(metric.margin().percent, |profile| profile.margin_percent(metric, load)),
        role: question_role(profile, metric, load),
    }
}

fn question_of_row<'a>(
    (row, sides): (&'a Comparison, &'a Sides),
    profile: Option<&Profile>,
) -> Question<'a> {
    let metric = metric::find(&row.metric).expect("rows are of known metrics");
    question(sides, metric, &row.load, profile)
}

/// Requests of a start that the metric is made of, where the profile tells.
fn requests(profile: &Profile, metric: &Metric, load: &str) -> Option<u64> {
    let named = profile.loads.iter().find(|named| named.name == load)?;
    let spec = &named.spec;
    let requests = spec.requests_expected()? * u64::from(named.repeats);
    let shares = || spec.classes.iter().map(|class| class.share.to_f64());
    let share = match metric.id {
        "long_e2e_p95_ms" => shares().next_back()? / shares().sum::<f64>(),
        "short_ttft_p95_ms" => 1.0 - long_prompt_share(spec)?,
        "long_ttft_p95_ms" | "stall_p99_ms" => long_prompt_share(spec)?,
        _ => return Some(requests),
    };
    Some((requests as f64 * share).round() as u64)
}

/// Whether a load has the requests that the metric needs ([`Metric::is_judged_from`]), of all its
/// classes or of one. A load that does not say how many it has is taken to have them.
pub fn carries(load: &NamedLoad, class: Option<&str>, metric: &Metric) -> bool {
    let Some(requests) = load.spec.requests_expected() else { return true };
    let requests = requests * u64::from(load.repeats);
    let classes = &load.spec.classes;
    let all: f64 = classes.iter().map(|class| class.share.to_f64()).sum();
    let of_class = |name| classes.iter().find(|class| class.name == name);
    let share = class.and_then(of_class).map_or(1.0, |class| class.share.to_f64() / all);
    (requests as f64 * share).round() as u64 >= metric.is_judged_from()
}

/// Why the objective or a guard can be judged by no number of starts, where that is so: a percentile of
/// too few requests.
pub fn unjudgeable(profile: &Profile) -> Option<String> {
    let objective = (&profile.objective.metric, &profile.objective.load);
    let guards = profile.guards.iter().map(|guard| (&guard.metric, &guard.load));
    std::iter::once(objective).chain(guards).find_map(|(metric, load)| {
        let (requests, least) = too_few(profile, metric, load)?;
        Some(format!(
            "{metric} on {load} is made of {requests} requests a start and judged from {least} on: no change \
             will be recommended by it; ask for more requests, or for `repeats`"
        ))
    })
}

/// The requests of a start that a metric is made of, and those that a verdict on it needs, where these
/// are more.
pub fn too_few(profile: &Profile, metric: &str, load: &str) -> Option<(u64, u64)> {
    let metric = metric::find(metric)?;
    let (requests, least) = (requests(profile, metric, load)?, metric.is_judged_from());
    (requests < least).then_some((requests, least))
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

/// Whether a metric on a load is the objective (the primary question) or a guardrail, of `[slo]` or
/// `[guard]`: by these alone anything is decided.
pub fn is_goal(profile: &Profile, metric: &str, load: &str) -> bool {
    let objective = &profile.objective;
    (metric == objective.metric && load == objective.load)
        || profile.slo.iter().any(|limit| metric == limit.metric && load == limit.load)
        || profile.guards.iter().any(|guard| metric == guard.metric && load == guard.load)
}

/// Each guard of the profile with its row, where it was measured.
pub fn guards<'a>(
    rows: &'a [Comparison],
    profile: &'a Profile,
) -> impl Iterator<Item = (&'a Guard, Option<&'a Comparison>)> {
    profile.guards.iter().map(|guard| {
        let is_of = |row: &&Comparison| row.metric == guard.metric && row.load == guard.load;
        (guard, rows.iter().find(is_of))
    })
}

/// The objective's row.
pub fn primary<'a>(rows: &'a [Comparison], profile: &Profile) -> Option<&'a Comparison> {
    let objective = &profile.objective;
    rows.iter().find(|row| row.metric == objective.metric && row.load == objective.load)
}

/// Metrics of the seed's that were measured together: the first one's target says on which load.
const FAMILIES: [(&str, &[&str]); 4] = [
    ("queue_share", &["queue_share", "queue_mean_ms", "e2e_mean_ms"]),
    ("e2e_p95_ms", &["e2e_p50_ms", "e2e_p95_ms", "e2e_p95_over_p50"]),
    ("output_tokens_per_s", &["output_tokens_per_s", "requests_per_s"]),
    ("long_e2e_p95_ms", &["long_e2e_p95_ms", "length_slowdown"]),
];

/// The load beside whose figures the seed's are shown: that of the target on what it was measured
/// with; without such a target the objective's.
fn seed_load<'a>(metric: &str, profile: &'a Profile) -> &'a str {
    let families = FAMILIES.iter().filter(|(_, members)| members.contains(&metric));
    let lead = families.map(|(lead, _)| *lead).next().unwrap_or(metric);
    let target = profile.targets.iter().find(|limit| limit.metric == lead);
    target.map_or(profile.objective.load.as_str(), |limit| limit.load.as_str())
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
    /// Loads that both sets have and of which the first has no figure, and why.
    pub unknown: Vec<(String, String)>,
}

/// Compares by load and metric, with the verdicts that [`comparisons`] has for the same points, lenders and
/// level.
pub fn any_two<'a>(
    before: &'a [Point],
    after: &'a [Point],
    profile: Option<&Profile>,
    lenders: &Lenders,
    level: f64,
) -> Compared<'a> {
    let (mut other_loads, mut rows) = (Vec::new(), Vec::new());
    let (mut broken, mut unknown) = (Vec::new(), Vec::new());
    for a in before {
        let Some(b) = after.iter().find(|b| b.load == a.load) else { continue };
        if a.load_digest.zip(b.load_digest).is_some_and(|(a, b)| a != b) {
            other_loads.push(a.load.clone());
            continue;
        }
        match (why_without_figures(a), why_without_figures(b)) {
            (Some(why), _) => unknown.push((a.load.clone(), why)),
            (None, Some(why)) => broken.push((a.load.clone(), why)),
            (None, None) => {}
        }
        let both = Both::of(a, b, lenders);
        // What is shown is what is judged.
        let sides = lenders.figures(&both.points());
        for metric in &METRICS {
            let figure = |side: usize| sides[side].metrics.get(metric.id).cloned();
            if let (Some(before), Some(after)) = (figure(0), figure(1)) {
                let columns = BTreeMap::from([(Column::Default, before), (Column::Tuned, after)]);
                let row = row(metric.id, &a.load, columns, Some(&both));
                rows.push((row, both.sides(metric)));
            }
        }
    }
    let rows = judged_at(rows, profile, level);
    Compared { before, after, rows, other_loads, broken, unknown }
}

/// Why a point has no figure, where it has none: its setting does not run, or no trial counts.
fn why_without_figures(point: &Point) -> Option<String> {
    if let Some(failure) = &point.failure {
        return Some(failure.title());
    }
    let mut causes: Vec<&str> = Vec::new();
    for cause in point.trials.iter().filter_map(|trial| trial.invalid.as_deref()) {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    let cause = if causes.is_empty() { String::new() } else { format!(": {}", causes.join("; ")) };
    point.metrics.is_empty().then(|| format!("no trial counts{cause}"))
}

/// Figures of another system under loads of its own, such as the seed's, beside a profile's: metric by
/// metric a change, on the load beside which the report shows them, and no verdict.
pub fn with_reference<'a>(
    before: &'a [Point],
    after: &'a [Point],
    profile: &Profile,
) -> Compared<'a> {
    let find = |points: &[Point], metric: &Metric| -> Option<Estimate> {
        let load = seed_load(metric.id, profile);
        let mut found = points.iter().filter(|p| p.role == Role::Reference || p.load == load);
        found.find_map(|point| point.metrics.get(metric.id)).cloned()
    };
    let row = |metric: &'static Metric| {
        let (a, b) = (find(before, metric)?, find(after, metric)?);
        Some(Comparison {
            metric: metric.id.to_owned(),
            load: seed_load(metric.id, profile).to_owned(),
            change: stats::change(
                &stats::starts_of(&a),
                &stats::starts_of(&b),
                metric.is_share(),
                &[],
            )
            .map(|change| Estimate { low: None, high: None, ..change }),
            columns: BTreeMap::from([(Column::Default, a), (Column::Tuned, b)]),
            reason: "other hardware and another load: a change, and no verdict".to_owned(),
            ..Comparison::default()
        })
    };
    let rows = METRICS.iter().filter_map(row).collect();
    Compared {
        before,
        after,
        rows,
        other_loads: Vec::new(),
        broken: Vec::new(),
        unknown: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{point, profile};
    use bench_core::schema::{Arrival, Class, LoadSpec, Size, TokenRange};

    #[test]
    fn a_class_carries_a_percentile_by_its_share_of_the_requests() {
        let class = |name: &str, share: &str| Class {
            name: name.to_owned(),
            share: share.parse().expect("a decimal"),
            input_tokens: TokenRange { min: 1, max: 1 },
            output_tokens: TokenRange { min: 1, max: 1 },
            prefix: None,
        };
        let classes = vec![class("few", "1"), class("many", "4")];
        let spec = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(125), classes, 1);
        let (name, part, data_file) = ("load".to_owned(), None, None);
        let load = NamedLoad { name, part, spec, repeats: 2, data_file, replay_per_s: None };
        let carries = |class, id| carries(&load, class, metric::find(id).expect("a metric"));
        assert!(carries(None, "e2e_p95_ms") && carries(Some("many"), "e2e_p95_ms"));
        assert!(!carries(Some("few"), "e2e_p95_ms"), "50 of the 200 that a P95 needs");
        assert!(carries(Some("few"), "e2e_p50_ms") && carries(Some("few"), "e2e_mean_ms"));
        assert!(!carries(None, "e2e_p99_ms"));
    }

    /// A percentile of too few requests is told of before it is measured, since no verdict comes of it.
    #[test]
    fn an_objective_that_cannot_be_judged_is_told() {
        let mut profile = profile(None);
        assert_eq!(unjudgeable(&profile), None);
        profile.objective.metric = "e2e_p95_ms".to_owned();
        assert_eq!(unjudgeable(&profile), None, "1,000 requests");
        profile.loads[0].spec.size = bench_core::schema::Size::Requests(60);
        let why = unjudgeable(&profile).expect("too few");
        assert!(why.starts_with("e2e_p95_ms on burst is made of 60 requests a start"), "{why}");
        profile.loads[0].repeats = 4;
        assert_eq!(unjudgeable(&profile), None, "240 requests");
    }

    /// A side on a host that drifts by a quarter from block to block, with the blocks' dates.
    fn drifting(role: Role, rate: [f64; 3], dates: [Option<&str>; 3]) -> Point {
        let rate: Vec<f64> = (0..3).map(|i| rate[i] * [1.0, 1.25, 1.5][i]).collect();
        let mut point =
            point(&format!("{role:?}"), &[], "burst", &[("output_tokens_per_s", &rate)]);
        for (i, trial) in point.trials.iter_mut().enumerate() {
            trial.block = Some(i as u32);
            trial.measured_at = dates[i].map(str::to_owned);
        }
        Point { role, ..point }
    }

    #[test]
    fn blocks_count_where_the_starts_were_made_in_them() {
        let verdict = |before: [Option<&str>; 3], after: [Option<&str>; 3]| {
            let points = [
                drifting(Role::Default, [100.0, 101.0, 99.0], before),
                drifting(Role::Tuned, [110.0, 112.0, 108.0], after),
            ];
            let profile = profile(None);
            let rows = comparisons(&points, &Lenders::default(), &[], &profile, LEVEL);
            primary(&rows, &profile).and_then(|row| row.verdict)
        };
        let (better, open) = (Some(Verdict::Better), Some(Verdict::Inconclusive));
        assert_eq!(verdict([None; 3], [None; 3]), better, "planned so, in a simulation");
        let in_turn = [Some("10:00"), Some("10:20"), Some("10:40")];
        assert_eq!(verdict(in_turn, [Some("10:10"), Some("10:30"), Some("10:50")]), better);
        assert_eq!(verdict(in_turn, [Some("12:10"), Some("12:30"), Some("12:50")]), open);
        assert_eq!(verdict(in_turn, [None; 3]), open);
    }

    #[test]
    fn settings_of_sweeps_say_how_much_starts_differ() {
        let rate = |values: &'static [f64]| [("output_tokens_per_s", values)];
        let points = [
            Point { role: Role::Default, ..point("d", &[], "burst", &rate(&[100.0, 101.0])) },
            Point { role: Role::Tuned, ..point("t", &[], "burst", &rate(&[106.0, 107.0])) },
        ];
        let quiet: &[f64] = &[50.0, 50.4, 49.8];
        let swept = [0, 1, 2, 3, 4, 5].map(|i| point(&i.to_string(), &[], "burst", &rate(quiet)));
        let profile = profile(None);
        let verdict = |lenders: Lenders| {
            let rows = comparisons(&points, &lenders, &[], &profile, LEVEL);
            primary(&rows, &profile).and_then(|row| row.verdict)
        };
        assert_eq!(verdict(Lenders::default()), Some(Verdict::Inconclusive));
        assert_eq!(verdict(Lenders::of(&swept)), Some(Verdict::Better));
    }

    /// `compare` and the suite have one verdict on the same starts, whatever is known besides.
    #[test]
    fn two_sides_have_the_verdicts_of_their_suite() {
        let rate = |values: &'static [f64]| [("output_tokens_per_s", values)];
        let side = |role, label: &str, values: &'static [f64]| Point {
            role,
            ..point(label, &[], "burst", &rate(values))
        };
        let points = [
            side(Role::Baseline, "b", &[20.0, 20.4, 19.9]),
            side(Role::Default, "d", &[100.0, 101.0]),
            side(Role::Tuned, "t", &[106.0, 107.2]),
        ];
        let swept = [0, 1, 2, 3, 4].map(|i| side(Role::Sweep, &i.to_string(), &[50.0, 50.4, 49.8]));
        let profile = profile(None);
        for lenders in [Lenders::default(), Lenders::of(&swept)] {
            for level in [LEVEL, 0.0045] {
                let of_suite = comparisons(&points, &lenders, &[], &profile, level);
                let lenders = lenders.and(&points);
                let (before, after) = (&points[1..2], &points[2..]);
                let two = any_two(before, after, Some(&profile), &lenders, level);
                let of = |rows: &[Comparison]| {
                    primary(rows, &profile).map(|row| (row.verdict, row.reason.clone()))
                };
                assert_eq!(of(&of_suite), of(&two.rows));
            }
        }
    }
}
