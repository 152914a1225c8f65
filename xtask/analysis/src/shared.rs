//! Trials that two sides have in common. They say nothing of a change, so what is judged is the others.

use std::borrow::Cow;

use bench_core::{
    canonical::Digest,
    schema::{Estimate, Point},
    stats,
};

/// The metric by which two measurements under one key are told apart: a trial may have been measured again.
const MARK: &str = "output_tokens_per_s";

/// A server start whose trials count.
struct Start {
    replicate: u32,
    keys: Vec<Digest>,
    /// Its figure in [`MARK`]; `None` where that cannot be said of each start.
    figure: Option<f64>,
}

fn starts(point: &Point) -> Vec<Start> {
    let mut starts: Vec<Start> = Vec::new();
    for trial in point.trials.iter().filter(|trial| trial.invalid.is_none()) {
        match starts.last_mut() {
            Some(start) if start.replicate == trial.replicate => start.keys.push(trial.key),
            _ => {
                let (replicate, keys) = (trial.replicate, vec![trial.key]);
                starts.push(Start { replicate, keys, figure: None });
            }
        }
    }
    let figures = point.metrics.get(MARK).map_or(&[][..], |figure| &figure.starts);
    if figures.len() == starts.len() {
        starts.iter_mut().zip(figures).for_each(|(start, figure)| start.figure = Some(*figure));
    }
    starts
}

/// How many starts two points have, and how many of these are the same measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Starts of both.
    pub both: usize,
    /// Starts of the first that count.
    pub before: usize,
    /// Starts of the second that count.
    pub after: usize,
}

impl Shared {
    /// Whether each start of either is one of the other: then they are one measurement.
    pub fn is_all(self) -> bool {
        self.both > 0 && self.both == self.before.max(self.after)
    }

    /// Whether only one of them has starts of its own.
    pub fn leaves_a_side_nothing(self) -> bool {
        !self.is_all() && self.both > 0 && self.both == self.before.min(self.after)
    }
}

/// What two points under one load have in common.
pub fn shared(before: &Point, after: &Point) -> Shared {
    let [a, b] = [before, after].map(starts);
    let both = a.iter().filter(|start| is_among(start, &b)).count();
    Shared { both, before: a.len(), after: b.len() }
}

/// Both points without the starts that they have in common; of these a metric has no figure where no start
/// is left.
pub fn apart<'a>(before: &'a Point, after: &'a Point) -> [Cow<'a, Point>; 2] {
    let [a, b] = [before, after].map(starts);
    if !a.iter().any(|start| is_among(start, &b)) {
        return [Cow::Borrowed(before), Cow::Borrowed(after)];
    }
    [Cow::Owned(without(before, &a, &b)), Cow::Owned(without(after, &b, &a))]
}

fn is_among(start: &Start, others: &[Start]) -> bool {
    let is_same = |other: &Start| {
        let figures = start.figure.zip(other.figure);
        start.keys.iter().any(|key| other.keys.contains(key)) && figures.is_none_or(|(a, b)| a == b)
    };
    others.iter().any(is_same)
}

fn without(point: &Point, starts: &[Start], others: &[Start]) -> Point {
    let own: Vec<bool> = starts.iter().map(|start| !is_among(start, others)).collect();
    let kept: Vec<u32> = starts
        .iter()
        .zip(&own)
        .filter(|(_, own)| **own)
        .map(|(start, _)| start.replicate)
        .collect();
    let estimate = |figure: &Estimate| {
        // Whose values these are is not known where a start does not tell the metric.
        (figure.values().len() == own.len()).then_some(())?;
        let values = stats::starts_of(figure).into_iter().zip(&own);
        let values = values.filter(|(_, own)| **own).map(|(start, _)| start.repeats);
        stats::estimate_of_repeats(values.collect())
    };
    let metrics = point.metrics.iter();
    Point {
        trials: point.trials.iter().filter(|t| kept.contains(&t.replicate)).cloned().collect(),
        metrics: metrics.filter_map(|(id, f)| Some((id.clone(), estimate(f)?))).collect(),
        ..point.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::point;

    fn side(name: &str, first: u32, values: &[f64]) -> Point {
        let mut point = point(name, &[], "burst", &[(MARK, values), ("e2e_p95_ms", values)]);
        for (trial, replicate) in point.trials.iter_mut().zip(first..) {
            trial.replicate = replicate;
            trial.key = Digest::of(format!("{replicate}").as_bytes());
        }
        point
    }

    #[test]
    fn starts_of_both_sides_are_left_out_and_counted() {
        let (before, after) = (side("a", 1, &[100.0, 101.0]), side("b", 2, &[101.0, 50.0, 51.0]));
        let found = shared(&before, &after);
        assert_eq!(found, Shared { both: 1, before: 2, after: 3 });
        assert!(!found.is_all() && !found.leaves_a_side_nothing());
        let [a, b] = apart(&before, &after);
        assert_eq!(a.metrics["e2e_p95_ms"].starts, [100.0]);
        assert_eq!(b.metrics["e2e_p95_ms"].starts, [50.0, 51.0]);
        assert_eq!((a.trials.len(), b.trials.len()), (1, 2));
        assert!(shared(&before, &before).is_all());
        let within = shared(&side("a", 2, &[101.0]), &after);
        assert!(within.leaves_a_side_nothing() && !within.is_all());
    }

    /// A trial that was measured again has its key, and is another measurement.
    #[test]
    fn a_key_with_another_figure_is_another_measurement() {
        let (before, after) = (side("a", 1, &[100.0, 101.0]), side("b", 1, &[99.0, 102.0]));
        assert_eq!(shared(&before, &after).both, 0);
        assert!(apart(&before, &after).iter().all(|side| matches!(side, Cow::Borrowed(_))));
    }
}
