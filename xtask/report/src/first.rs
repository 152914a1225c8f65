//! The first page: what is decided and how surely, what got worse, what limits the server.

use bench_core::{
    metric,
    schema::{
        Column, Comparison, Decision, Effect, Estimate, FlagReason, LimitState, Recommendation,
        StopReason, Verdict,
    },
};
use serde::Serialize;

use analysis::comparison::{self, primary};

use super::{Inputs, format, tables, words};

/// Sentences, each a paragraph of its own; empty where there is nothing to say.
#[derive(Debug, Serialize)]
pub struct First {
    /// The objective, defaults against candidate or what `[baseline]` sets, with its verdict.
    primary: String,
    /// Every limit.
    guardrails: String,
    /// All that got worse.
    worse: String,
    /// Where a request's time goes at the settings to deploy.
    limited_by: String,
    /// What nothing is decided of, or nothing judges, with what would.
    undecided: String,
    /// The rates that the settings sustain within the limits.
    capacity: String,
    /// How many cards the traffic of `[capacity]` takes.
    traffic: String,
    /// When the comparison was stopped, and why.
    stopping: String,
}

impl First {
    pub fn new(inputs: &Inputs<'_>) -> Self {
        let rows = &inputs.comparison.comparisons;
        let judged = inputs.comprehensive.map_or(&[][..], |file| &file.points);
        let points = inputs.baseline.points.iter().chain(judged);
        Self {
            primary: primary(rows, inputs.profile)
                .and_then(|row| {
                    of_baseline(row, &inputs.comparison.decision).or_else(|| verdict(row))
                })
                .map(|said| said + of_rejected(&inputs.comparison.decision))
                .unwrap_or_default(),
            guardrails: guardrails(inputs),
            worse: worse(inputs),
            limited_by: words::limited_by(inputs.profile, &inputs.comparison.decision, points)
                .unwrap_or_default(),
            undecided: words::undecided(inputs.profile, inputs.comparison, inputs.lead)
                .map(|said| match said.split_once(": ") {
                    Some((head, rest)) => format!("**{head}:** {rest}"),
                    None => said,
                })
                .unwrap_or_default(),
            capacity: inputs
                .capacity
                .and_then(|found| {
                    words::capacity(found, &inputs.comparison.decision, inputs.profile)
                })
                .unwrap_or_default(),
            traffic: inputs
                .capacity
                .and_then(|found| {
                    words::traffic(found, &inputs.comparison.decision, inputs.profile)
                })
                .unwrap_or_default(),
            stopping: stopping(inputs).unwrap_or_default(),
        }
    }
}

/// ``Output throughput on `burst` is better: +35 %, from … with vLLM's defaults to … (95 % …, p = …)``
fn verdict(row: &Comparison) -> Option<String> {
    let metric = metric::find(&row.metric);
    let name = name(row);
    let figure = |column| row.columns.get(&column).map(|e| format::estimate(metric, e));
    let (default, tuned) = figure(Column::Default).zip(figure(Column::Tuned))?;
    let unit = format::unit_of_title(metric);
    let change = row.change.clone().map(|change| match row.detectable {
        // The reason of what was tested has the interval.
        Some(_) => format::change(metric, &Estimate { low: None, high: None, ..change }),
        None => format::change(metric, &change),
    });
    let change = change.unwrap_or_else(|| format::NOTHING.to_owned());
    let word = match row.verdict {
        Some(Verdict::Better) => "is **better**",
        Some(Verdict::Worse) => "is **worse**",
        Some(Verdict::Equivalent) => "is **equivalent**",
        Some(Verdict::Inconclusive) => "is **not decided**",
        None => "is not judged",
    };
    let starts = |column| row.columns.get(&column).map_or(0, |e| e.values().len());
    Some(format!(
        "{name} {word}: {change}, from {default}{unit} with vLLM's defaults to {tuned}{unit} ({} against {} \
         server starts; {}).",
        starts(Column::Default),
        starts(Column::Tuned),
        row.reason
    ))
}

/// ``Output throughput on `burst` ``
fn name(row: &Comparison) -> String {
    let name = format::sentence(&format!("{} on `{}`", format::name(&row.metric), row.load));
    name.trim_end_matches('.').to_owned()
}

/// The same of what `[baseline]` sets, where it is deployed since it is better.
fn of_baseline(row: &Comparison, decision: &Decision) -> Option<String> {
    let [FlagReason { effect: Effect::Objective { change }, .. }] = decision.flags.as_slice()
    else {
        return None;
    };
    let metric = metric::find(&row.metric);
    let figure = |column| {
        let figure = format::estimate(metric, row.columns.get(&column)?);
        Some(figure + &format::unit_of_title(metric))
    };
    let deployed = decision.deployed.filter(|column| *column == Column::Baseline)?;
    Some(format!(
        "{} is **better**: {}, from {} with vLLM's defaults to {} with what `[baseline]` sets (tested at 1 %, \
         since the candidate's is the first question).",
        name(row),
        format::change(metric, change),
        figure(Column::Default)?,
        figure(deployed)?
    ))
}

/// Says that what the change is of is not what is deployed, where that is so.
fn of_rejected(decision: &Decision) -> &'static str {
    match decision.candidate.is_some() && !decision.deploys_candidate() {
        true => " This is the candidate, which is not deployed; what got worse is of it, too.",
        false => "",
    }
}

fn guardrails(inputs: &Inputs<'_>) -> String {
    let decision = &inputs.comparison.decision;
    let guards: Vec<String> = comparison::guards(&inputs.comparison.comparisons, inputs.profile)
        .map(|(guard, row)| words::guard(guard, row))
        .collect();
    let guards = match guards.as_slice() {
        [] => String::new(),
        some => format!(" The candidate against vLLM's defaults: {}.", some.join("; ")),
    };
    if decision.limits.is_empty() {
        return format!("The profile sets no limits.{guards}");
    }
    let met = decision.limits.iter().filter(|limit| limit.state == LimitState::Met).count();
    let limits = &decision.limits;
    let each: Vec<String> = limits.iter().map(|one| words::limit(one, inputs.profile)).collect();
    let few = words::few_limits(limits, inputs.profile).map(|note| format!(" {note}"));
    let of = match decision.recommendation {
        Recommendation::Change | Recommendation::Measured => "",
        Recommendation::Defaults => " with vLLM's defaults",
        Recommendation::NoneMeets => " at the nearest setting",
    };
    format!(
        "{met} of {} limits met{of}: {}.{}{guards}",
        limits.len(),
        each.join("; "),
        few.unwrap_or_default()
    )
}

/// Whatever got worse; where nothing did, how much that says.
fn worse(inputs: &Inputs<'_>) -> String {
    let worse = tables::worse(inputs);
    let rows = inputs.comparison.comparisons.iter();
    let judged: Vec<&Comparison> = rows.filter(|row| row.verdict.is_some()).collect();
    if judged.is_empty() {
        return match inputs.comparison.decision.deployed {
            Some(Column::Baseline) => words::BASELINE_ALONE.to_owned(),
            _ => String::new(),
        };
    }
    let is_open =
        |row: &&&Comparison| row.verdict == Some(Verdict::Inconclusive) && !row.excludes_worse;
    let open = judged.iter().filter(is_open).count();
    let open = match open {
        0 => String::new(),
        n => format!(
            " For {n} of {} metrics the data do not show whether they got worse.",
            judged.len()
        ),
    };
    match worse.as_slice() {
        [] => format!("No metric is worse than with vLLM's defaults.{open}"),
        some if inputs.comparison.decision.deploys_candidate() => {
            format!("Worse than with vLLM's defaults: {}.{open}", format::list(some))
        }
        some => format!(
            "The candidate, which is not deployed, is worse than vLLM's defaults in: {}.{open}",
            format::list(some)
        ),
    }
}

fn stopping(inputs: &Inputs<'_>) -> Option<String> {
    let stopping = inputs.comparison.stopping.as_ref()?;
    let looks: Vec<String> = stopping.looks.iter().map(u32::to_string).collect();
    let why = match stopping.reason {
        StopReason::Decided => "the objective and every limit were decided",
        StopReason::Budget => "another look would have taken more than [budget]",
        StopReason::MostStarts => "there were as many starts as the profile allows",
        StopReason::NotComparable => "one side has no valid figure",
    };
    let is_early = stopping.looks.last().is_some_and(|last| stopping.starts < *last);
    let bias = match stopping.reason {
        StopReason::Decided if is_early => {
            " Stopped early, an estimate lies on average somewhat too far from no change."
        }
        _ => "",
    };
    Some(format!(
        "Stopped after {} starts a side (looks at {}), because {why}; intervals and p are those of this look \
         ({} %).{bias}",
        stopping.starts,
        format::list(&looks),
        format::number(100.0 * (1.0 - stopping.level), 2)
    ))
}
