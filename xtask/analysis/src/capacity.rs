//! The highest rates that two settings sustain, compared over server starts.

use std::collections::BTreeMap;

use bench_core::{
    schema::{Column, Comparison, Estimate, Verdict},
    stats::{self, LEVEL, student},
};

/// What the rates are called: requests a second of the load, within the limits.
pub const METRIC: &str = "requests_per_s";

/// What a rate says of the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sustained {
    /// Every limit is met.
    Met,
    /// What is violated, in words.
    Violated(String),
    /// Why nothing is known: the trial is invalid, or a metric is missing.
    Unknown(String),
}

/// Defaults against tuned settings by the rates that each start sustained; `load` names the row.
/// `precision_percent`: how wide a bracket around a capacity may be, which no spread of a few starts
/// shows.
pub fn compare(
    load: &str,
    sustained: &BTreeMap<Column, Vec<f64>>,
    precision_percent: u32,
) -> Comparison {
    let columns: BTreeMap<Column, Estimate> = sustained
        .iter()
        .filter_map(|(column, rates)| Some((*column, stats::estimate(rates.clone())?)))
        .collect();
    let row = Comparison {
        metric: METRIC.to_owned(),
        load: load.to_owned(),
        columns,
        ..Comparison::default()
    };
    let side = |column| sustained.get(&column).map(|rates| logs(rates));
    let (Some(Some(before)), Some(Some(after))) = (side(Column::Default), side(Column::Tuned))
    else {
        return Comparison { reason: "not found on both sides".to_owned(), ..row };
    };
    let difference = mean(&after) - mean(&before);
    let percent = |difference: f64| 100.0 * difference.exp_m1();
    let change = Estimate { mean: percent(difference), ..Estimate::default() };
    if before.len().min(after.len()) < 2 {
        let reason =
            "a single start on one side: the spread between starts is not known".to_owned();
        let verdict = Some(Verdict::Inconclusive);
        return Comparison { change: Some(change), verdict, reason, ..row };
    }
    // The true capacity lies anywhere in its bracket: the variance of a uniform distribution.
    let width = (f64::from(precision_percent) / 100.0).ln_1p();
    let parts = [&before, &after].map(|side| {
        ((variance(side) + width * width / 12.0) / side.len() as f64, side.len() as f64 - 1.0)
    });
    let square: f64 = parts.iter().map(|(variance, _)| variance).sum();
    let freedom = square * square / parts.iter().map(|(v, d)| v * v / d).sum::<f64>();
    let freedom = freedom.floor().max(1.0);
    let p = student::two_sided_p(difference / square.sqrt(), freedom);
    let half = student::critical(LEVEL, freedom) * square.sqrt();
    let verdict = match p <= LEVEL {
        true if difference > 0.0 => Verdict::Better,
        true => Verdict::Worse,
        false => Verdict::Inconclusive,
    };
    let (low, high) = (percent(difference - half), percent(difference + half));
    Comparison {
        change: Some(Estimate { low: Some(low), high: Some(high), ..change }),
        verdict: Some(verdict),
        reason: format!(
            "95 % interval {low:+.1} to {high:+.1} %, p = {p:.3}, brackets of {precision_percent} % included"
        ),
        excludes_worse: low >= 0.0,
        ..row
    }
}

/// `None` where a start sustained no rate at all: that is no ratio.
fn logs(rates: &[f64]) -> Option<Vec<f64>> {
    (!rates.is_empty() && rates.iter().all(|rate| *rate > 0.0))
        .then(|| rates.iter().map(|rate| rate.ln()).collect())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (values.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(default: &[f64], tuned: &[f64]) -> Comparison {
        let sides =
            BTreeMap::from([(Column::Default, default.to_vec()), (Column::Tuned, tuned.to_vec())]);
        compare("production", &sides, 5)
    }

    #[test]
    fn a_capacity_is_judged_over_starts_and_never_finer_than_its_bracket() {
        let verdict = |a: &[f64], b: &[f64]| compared(a, b).verdict;
        assert_eq!(verdict(&[45.0, 46.0, 45.5], &[60.0, 61.0, 60.5]), Some(Verdict::Better));
        assert_eq!(verdict(&[60.0, 61.0, 60.5], &[45.0, 46.0, 45.5]), Some(Verdict::Worse));
        assert_eq!(verdict(&[45.0], &[60.0, 61.0]), Some(Verdict::Inconclusive));
        let equal = compared(&[45.0, 45.0], &[46.0, 46.0]);
        assert_eq!(equal.verdict, Some(Verdict::Inconclusive), "within the bracket: {equal:?}");
        assert_eq!(verdict(&[0.0, 45.0], &[60.0, 61.0]), None);
    }
}
