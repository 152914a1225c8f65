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
#[derive(Clone, Debug)]
pub struct Start {
    replicate: u32,
    keys: Vec<Digest>,
    /// Its figure in [`MARK`]; `None` where that cannot be said of each start.
    figure: Option<f64>,
}

impl Start {
    /// The starts of a point.
    pub fn all(point: &Point) -> Vec<Self> {
        let mut starts: Vec<Self> = Vec::new();
        for trial in point.trials.iter().filter(|trial| trial.invalid.is_none()) {
            match starts.last_mut() {
                Some(start) if start.replicate == trial.replicate => start.keys.push(trial.key),
                _ => {
                    let (replicate, keys) = (trial.replicate, vec![trial.key]);
                    starts.push(Self { replicate, keys, figure: None });
                }
            }
        }
        let figures = point.metrics.get(MARK).map_or(&[][..], |figure| &figure.starts);
        if figures.len() == starts.len() {
            starts.iter_mut().zip(figures).for_each(|(start, f)| start.figure = Some(*f));
        }
        starts
    }

    /// Whether it is one of these: it has the key of one, and its figure.
    pub fn is_among(&self, others: &[Self]) -> bool {
        let is_same = |other: &Self| {
            let figures = self.figure.zip(other.figure);
            let has_key = self.keys.iter().any(|key| other.keys.contains(key));
            has_key && figures.is_none_or(|(a, b)| a == b)
        };
        others.iter().any(is_same)
    }
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

    /// Whether each start of one is one of the other's, which has more: keys name engine and settings, so it
    /// is one setting that was measured further.
    pub fn is_grown(self) -> bool {
        !self.is_all() && self.both > 0 && self.both == self.before.min(self.after)
    }
}

/// Two points under one load.
#[derive(Debug)]
pub struct Pair<'a> {
    /// What they have in common.
    pub shared: Shared,
    /// What is judged of each: the starts that the other has not. Of one setting that was measured further the
    /// first starts against the further ones.
    pub sides: [Cow<'a, Point>; 2],
    /// The starts of either.
    starts: [Vec<Start>; 2],
}

impl<'a> Pair<'a> {
    /// Of two points.
    pub fn of(before: &'a Point, after: &'a Point) -> Self {
        let [a, b] = [before, after].map(Start::all);
        let both = a.iter().filter(|start| start.is_among(&b)).count();
        let shared = Shared { both, before: a.len(), after: b.len() };
        let is_first = |own: usize| shared.is_grown() && own == both;
        let is_whole = |own| both == 0 || shared.is_all() || is_first(own);
        let side = |point: &'a Point, own: &[Start], others: &[Start]| match is_whole(own.len()) {
            true => Cow::Borrowed(point),
            false => Cow::Owned(without(point, own, others)),
        };
        let sides = [side(before, &a, &b), side(after, &b, &a)];
        Self { shared, sides, starts: [a, b] }
    }

    /// Whether a start of either is one of these.
    pub fn has_any_of(&self, starts: &[Start]) -> bool {
        starts.iter().any(|start| self.starts.iter().any(|own| start.is_among(own)))
    }
}

/// A point without the starts that are among others; of these a metric has no figure where no start is left.
fn without(point: &Point, starts: &[Start], others: &[Start]) -> Point {
    let own: Vec<bool> = starts.iter().map(|start| !start.is_among(others)).collect();
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
        let Pair { shared, sides: [a, b], .. } = Pair::of(&before, &after);
        assert_eq!(shared, Shared { both: 1, before: 2, after: 3 });
        assert!(!shared.is_all() && !shared.is_grown());
        assert_eq!(a.metrics["e2e_p95_ms"].starts, [100.0]);
        assert_eq!(b.metrics["e2e_p95_ms"].starts, [50.0, 51.0]);
        assert_eq!((a.trials.len(), b.trials.len()), (1, 2));
        let same = Pair::of(&before, &before);
        assert!(same.shared.is_all());
        assert_eq!(same.sides[0].trials.len(), 2, "what is compared with itself is shown whole");
    }

    /// What was measured further is judged as what it is: the first starts against the further ones.
    #[test]
    fn the_first_starts_of_a_setting_stay_whole_on_either_side() {
        let (first, grown) = (side("a", 1, &[100.0, 101.0]), side("b", 1, &[100.0, 101.0, 50.0]));
        let figures = |pair: Pair<'_>| {
            assert!(pair.shared.is_grown() && !pair.shared.is_all());
            pair.sides.map(|side| side.metrics["e2e_p95_ms"].starts.clone())
        };
        assert_eq!(figures(Pair::of(&first, &grown)), [vec![100.0, 101.0], vec![50.0]]);
        assert_eq!(figures(Pair::of(&grown, &first)), [vec![50.0], vec![100.0, 101.0]]);
    }

    /// A trial that was measured again has its key, and is another measurement.
    #[test]
    fn a_key_with_another_figure_is_another_measurement() {
        let (before, after) = (side("a", 1, &[100.0, 101.0]), side("b", 1, &[99.0, 102.0]));
        let pair = Pair::of(&before, &after);
        assert_eq!(pair.shared.both, 0);
        assert!(pair.sides.iter().all(|side| matches!(side, Cow::Borrowed(_))));
        assert!(pair.has_any_of(&Start::all(&before)));
        assert!(!pair.has_any_of(&Start::all(&side("c", 1, &[98.0, 103.0]))));
    }
}
