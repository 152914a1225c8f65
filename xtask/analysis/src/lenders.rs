//! Who lends to whom. A few starts tell little of how much starts differ, so every interval and every verdict also
//! asks the other settings. One rule for all of them: a figure, or a change between two settings, borrows
//! from every setting known under the same load but those that it is made of.

use std::{borrow::Cow, collections::BTreeMap};

use bench_core::{
    canonical::Digest,
    metric::{self, METRICS, Metric},
    schema::{Estimate, Point, Role},
    stats::{self, Spread, Start},
};

use super::shared::{Pair, Start as OwnStart};

/// The settings that were measured on the same engine and card.
#[derive(Clone, Debug, Default)]
pub struct Lenders(Vec<Lender>);

/// A setting under a load.
#[derive(Clone, Debug)]
struct Lender {
    load: String,
    load_digest: Option<Digest>,
    starts: Vec<OwnStart>,
    /// By metric.
    spreads: BTreeMap<&'static str, Spread>,
}

impl Lender {
    fn of(point: &Point) -> Self {
        let spread = |metric: &'static Metric| {
            let spread = stats::spread(metric, &starts(point, metric, false))?;
            Some((metric.id, spread))
        };
        Self {
            load: point.load.clone(),
            load_digest: point.load_digest,
            starts: OwnStart::all(point),
            spreads: METRICS.iter().filter_map(spread).collect(),
        }
    }

    fn has_any_of(&self, starts: &[OwnStart]) -> bool {
        self.starts.iter().any(|start| start.is_among(starts))
    }
}

impl Lenders {
    /// Of these points.
    pub fn of<'p>(points: impl IntoIterator<Item = &'p Point>) -> Self {
        Self::default().and(points)
    }

    /// With points of more settings. Each start counts once, however many results have it: of two copies of a
    /// setting the one that was measured further lends.
    pub fn and<'p>(&self, points: impl IntoIterator<Item = &'p Point>) -> Self {
        let mut settings = self.0.clone();
        for point in points.into_iter().filter(|point| point.role != Role::Reference) {
            let new = Lender::of(point);
            let is_copy = |other: &Lender| other.load == new.load && new.has_any_of(&other.starts);
            let mut copies = settings.iter().filter(|other| is_copy(other));
            if copies.all(|copy| copy.starts.len() < new.starts.len()) {
                settings.retain(|other| !is_copy(other));
                settings.push(new);
            }
        }
        Self(settings)
    }

    /// The settings under a point's load but its own.
    fn others(&self, point: &Point, is_own: impl Fn(&Lender) -> bool) -> Vec<&Lender> {
        let is_other = |other: &&Lender| {
            let digests = other.load_digest.zip(point.load_digest);
            other.load == point.load && digests.is_none_or(|(a, b)| a == b) && !is_own(other)
        };
        self.0.iter().filter(is_other).collect()
    }

    /// These points with the intervals that verdicts use.
    pub fn figures(&self, points: &[Point]) -> Vec<Point> {
        let of_point = |point: &Point| {
            let own = OwnStart::all(point);
            let others = self.others(point, |other| other.has_any_of(&own));
            let figure = |(id, figure): (&String, &Estimate)| {
                let borrowed = metric::find(id).map(|metric| {
                    stats::borrowed(figure, metric.is_share(), &lent(&others, metric))
                });
                (id.clone(), borrowed.unwrap_or_else(|| figure.clone()))
            };
            Point { metrics: point.metrics.iter().map(figure).collect(), ..point.clone() }
        };
        points.iter().map(of_point).collect()
    }

    /// The change of a metric between two settings under one load, with the interval that its verdict has.
    pub fn change(&self, metric: &Metric, before: &Point, after: &Point) -> Option<Estimate> {
        let Sides { before, after, lent, .. } = Both::of(before, after, self).sides(metric);
        stats::change(&before, &after, metric.is_share(), &lent)
    }

    /// What is lent to a change of a metric between two settings under one load.
    pub fn to_change(&self, metric: &Metric, before: &Point, after: &Point) -> Vec<Spread> {
        Both::of(before, after, self).sides(metric).lent
    }
}

/// Two settings under one load, and all by which every metric of theirs is judged.
pub(super) struct Both<'a> {
    pub(super) pair: Pair<'a>,
    in_blocks: bool,
    others: Vec<&'a Lender>,
}

/// Of one metric the starts that are judged, and what is lent to them.
#[derive(Clone, Default)]
pub(super) struct Sides {
    pub(super) before: Vec<Start>,
    pub(super) after: Vec<Start>,
    pub(super) lent: Vec<Spread>,
    /// Whether both are of one setting, which was measured further.
    pub(super) is_one_setting: bool,
}

impl<'a> Both<'a> {
    pub(super) fn of(before: &'a Point, after: &'a Point, lenders: &'a Lenders) -> Self {
        let pair = Pair::of(before, after);
        let others = lenders.others(before, |other| pair.has_any_of(&other.starts));
        // Further starts of one setting have blocks of their own.
        let in_blocks = !pair.shared.is_grown() && are_in_blocks(&pair.sides[0], &pair.sides[1]);
        Self { pair, in_blocks, others }
    }

    pub(super) fn sides(&self, metric: &Metric) -> Sides {
        let [before, after] =
            self.pair.sides.each_ref().map(|side| starts(side, metric, self.in_blocks));
        let lent = lent(&self.others, metric);
        Sides { before, after, lent, is_one_setting: self.pair.shared.is_grown() }
    }

    /// The points that are judged.
    pub(super) fn points(&self) -> [Point; 2] {
        self.pair.sides.each_ref().map(|side| Cow::as_ref(side).clone())
    }
}

/// What these settings lend in a metric.
fn lent(lenders: &[&Lender], metric: &Metric) -> Vec<Spread> {
    lenders.iter().filter_map(|lender| lender.spreads.get(metric.id).copied()).collect()
}

/// The values of a metric start by start, with the starts' blocks where these hold.
fn starts(point: &Point, metric: &Metric, in_blocks: bool) -> Vec<Start> {
    let mut starts = point.metrics.get(metric.id).map(stats::starts_of).unwrap_or_default();
    let mut blocks: Vec<(u32, Option<u32>)> = point
        .trials
        .iter()
        .filter(|trial| trial.invalid.is_none())
        .map(|trial| (trial.replicate, trial.block))
        .collect();
    blocks.dedup();
    // A metric that a start does not tell leaves it open whose values these are.
    if in_blocks && blocks.len() == starts.len() {
        starts.iter_mut().zip(blocks).for_each(|(start, (_, block))| start.block = block);
    }
    starts
}

/// Whether the starts of two settings were made block by block: as planned in a simulation, which has
/// no clock; else one block after the other by the trials' own dates, which a cached or repeated start
/// may contradict.
fn are_in_blocks(a: &Point, b: &Point) -> bool {
    let trials = || a.trials.iter().chain(&b.trials);
    if trials().any(|trial| trial.block.is_none()) {
        return false;
    }
    let mut dated: Vec<_> =
        trials().filter_map(|t| Some((t.measured_at.as_ref()?, t.block))).collect();
    dated.sort();
    let is_ascending = dated.windows(2).all(|two| two[0].1 <= two[1].1);
    is_ascending && (dated.is_empty() || dated.len() == trials().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::point;

    const RATE: &str = "output_tokens_per_s";

    fn of(label: &str, rates: &[f64]) -> Point {
        point(label, &[], "burst", &[(RATE, rates)])
    }

    fn rate() -> &'static Metric {
        metric::find(RATE).expect("a metric")
    }

    /// A point whose starts are those of every other label with the same name, from the first on.
    fn copy(label: &str, name: &str, rates: &[f64]) -> Point {
        Point { trials: of(name, rates).trials, ..of(label, rates) }
    }

    #[test]
    fn a_side_lends_nothing_to_itself() {
        let (before, after) = (of("d", &[100.0, 101.0]), of("t", &[106.0, 107.0]));
        let others = [of("o", &[50.0, 51.0]), of("p", &[60.0, 61.5])];
        let count = |more: &[Point]| {
            let lenders = Lenders::of([&before, &after].into_iter().chain(&others).chain(more));
            lenders.to_change(rate(), &before, &after).len()
        };
        assert_eq!(count(&[]), 2);
        // Of a file of published trials, which has their keys.
        let mut same = of("other", &[99.0, 106.0]);
        same.trials[1].key = after.trials[0].key;
        assert_eq!(count(&[same]), 2);
        assert_eq!(count(&[of("t", &[105.0, 108.0])]), 3, "measured again, and another figure");
        let elsewhere = point("e", &[], "production", &[(RATE, &[50.0, 51.0])]);
        assert_eq!(count(&[elsewhere]), 2);
    }

    /// What holds for a change holds for the figures that it is made of.
    #[test]
    fn figures_borrow_where_their_change_does() {
        let points: Vec<Point> = [100.0, 106.0, 50.0, 60.0]
            .map(|mean| of(&mean.to_string(), &[mean, mean * 1.01]))
            .into();
        for known in 2..=4 {
            let lenders = Lenders::of(&points[..known]);
            let (alone, borrowed) = (Lenders::default(), lenders.figures(&points[..2]));
            let is_lent = borrowed != points[..2];
            let change = |lenders: &Lenders| lenders.change(rate(), &points[0], &points[1]);
            assert_eq!(change(&lenders) != change(&alone), is_lent, "{known} settings");
            assert_eq!(is_lent, known == 4, "{known} settings");
        }
    }

    #[test]
    fn of_two_copies_the_one_with_more_starts_lends() {
        let (before, after) = (of("d", &[100.0, 101.0]), of("t", &[106.0, 107.0]));
        let other = of("o", &[50.0, 51.0]);
        let first = copy("first", "grown", &[60.0, 61.0]);
        let grown = copy("grown", "grown", &[60.0, 61.0, 90.0]);
        let change =
            |points: &[&Point]| Lenders::of(points.iter().copied()).change(rate(), &before, &after);
        let with_grown = change(&[&other, &grown]);
        assert_ne!(with_grown, change(&[&other, &first]));
        assert_eq!(change(&[&other, &first, &grown]), with_grown);
        assert_eq!(change(&[&other, &grown, &first]), with_grown);
    }
}
