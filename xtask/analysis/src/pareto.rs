//! The Pareto front of throughput against latency, over every configuration that was measured.

use std::collections::BTreeSet;

use bench_core::{
    metric::{self, Direction, Metric},
    schema::{Args, Estimate, Point, Role},
};

use super::lenders::Lenders;

/// The latency of the front.
const LATENCY: &str = "e2e_p95_ms";
/// Its other metric, where the objective is no throughput.
const THROUGHPUT: &str = "output_tokens_per_s";

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is measured.
    pub metric: &'static Metric,
    /// Name of the load that it is measured on.
    pub load: String,
}

/// A configuration with valid trials on both loads.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// `tuned`, or a sweep and its value.
    pub name: String,
    /// Role of its points.
    pub role: Role,
    /// Over the valid starts.
    pub throughput: Estimate,
    /// Over the valid starts.
    pub latency: Estimate,
    /// Whether a load was above capacity in any start.
    pub saturated: bool,
    /// One that is better in one figure and not shown to be worse in the other.
    pub beaten: Option<Beaten>,
}

/// What beats a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Beaten {
    /// Where it stands in [`Front::candidates`].
    pub by: usize,
    /// The changes from the candidate to it, in throughput and latency.
    pub changes: [Option<Estimate>; 2],
}

/// Every configuration, the highest throughput first.
#[derive(Clone, Debug)]
pub struct Front {
    /// Higher is better.
    pub throughput: Axis,
    /// Lower is better.
    pub latency: Axis,
    /// Sorted by throughput.
    pub candidates: Vec<Candidate>,
}

impl Front {
    /// Of files (stage and points) the objective (or output throughput, where that is no throughput) on its
    /// load against E2E P95 on the load of the limits.
    pub fn new<'a>(
        objective: (&str, &str),
        latency_load: &str,
        files: impl Iterator<Item = (&'a str, &'a [Point])>,
        lenders: &Lenders,
    ) -> Self {
        let is_throughput = |m: &&Metric| m.direction == Direction::Higher;
        let of = |id| metric::find(id).expect("the front's metrics are metrics");
        let throughput = Axis {
            metric: metric::find(objective.0)
                .filter(is_throughput)
                .unwrap_or_else(|| of(THROUGHPUT)),
            load: objective.1.to_owned(),
        };
        let latency = Axis { metric: of(LATENCY), load: latency_load.to_owned() };
        let mut candidates: Vec<(Candidate, [&Point; 2])> = Vec::new();
        let mut known: BTreeSet<Args> = BTreeSet::new();
        for (stage, points) in files {
            for point in points.iter().filter(|point| point.load == throughput.load) {
                let found = candidate(stage, points, point, &throughput, &latency);
                let Some((candidate, other)) = found else { continue };
                // What two sweeps have in common is one configuration, and so are the defaults
                // that each of them carries along.
                let is_known = candidates.iter().any(|(other, _)| other.name == candidate.name)
                    || !point.args.is_empty() && !known.insert(point.args.clone());
                if !is_known {
                    candidates.push((candidate, [point, other]));
                }
            }
        }
        candidates.sort_by(|(a, _), (b, _)| b.throughput.mean.total_cmp(&a.throughput.mean));
        let (mut candidates, points): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
        let costs: Vec<_> =
            candidates.iter().map(|c| [-c.throughput.mean, c.latency.mean]).collect();
        let by_means = beaten_by(&costs);
        let unbeaten: Vec<usize> = (0..costs.len()).filter(|i| by_means[*i].is_none()).collect();
        let axes = [&throughput, &latency];
        let beaten = |i: usize, by: usize| Beaten {
            by,
            changes: [0, 1]
                .map(|axis| lenders.change(axes[axis].metric, points[i][axis], points[by][axis])),
        };
        for (i, candidate) in candidates.iter_mut().enumerate() {
            candidate.beaten = match by_means[i] {
                Some(by) => Some(beaten(i, by)),
                None => {
                    let mut others =
                        unbeaten.iter().filter(|by| **by != i).map(|by| beaten(i, *by));
                    others.find(|beaten| beats_beyond_noise(&beaten.changes))
                }
            };
        }
        Self { throughput, latency, candidates }
    }

    /// Those that none beats, the highest throughput first.
    pub fn unbeaten(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.beaten.is_none())
    }
}

/// A point under the load of the throughput as a candidate, with that under the other load.
fn candidate<'a>(
    stage: &str,
    points: &'a [Point],
    point: &'a Point,
    throughput: &Axis,
    latency: &Axis,
) -> Option<(Candidate, &'a Point)> {
    let other = points.iter().find(|other| {
        other.load == latency.load && other.label == point.label && other.role == point.role
    })?;
    let name = match point.role {
        Role::Sweep => format!("{stage}: {}", point.label),
        Role::Default => "vLLM default".to_owned(),
        _ => point.label.clone(),
    };
    let figure = |point: &Point, axis: &Axis| {
        point.metrics.get(axis.metric.id).filter(|found| found.mean.is_finite()).cloned()
    };
    let candidate = Candidate {
        name,
        role: point.role,
        throughput: figure(point, throughput)?,
        latency: figure(other, latency)?,
        saturated: point.saturated || other.saturated,
        beaten: None,
    };
    Some((candidate, other))
}

/// Whether changes of throughput and latency show that one of them gets better and do not show that the other gets
/// worse. One of single starts, whose noise is not known, shows what its mean says.
fn beats_beyond_noise([throughput, latency]: &[Option<Estimate>; 2]) -> bool {
    let way = |change: &Option<Estimate>| {
        let change = change.as_ref()?;
        let (low, high) = change.low.zip(change.high).unwrap_or((change.mean, change.mean));
        Some(if low > 0.0 { 1 } else { -i32::from(high < 0.0) })
    };
    let Some((throughput, latency)) = way(throughput).zip(way(latency)) else { return false };
    let gains = [throughput, -latency];
    gains.contains(&1) && !gains.contains(&-1)
}

/// For each pair of costs the first that is lower in one and no higher in the other.
pub fn beaten_by(costs: &[[f64; 2]]) -> Vec<Option<usize>> {
    let beats = |[x, y]: [f64; 2], [a, b]: [f64; 2]| x <= a && y <= b && (x < a || y < b);
    costs.iter().map(|cost| costs.iter().position(|other| beats(*other, *cost))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::point;
    use proptest::prelude::*;

    /// Whether the first of two settings, by the starts of their throughputs and latencies, beats the other although
    /// its means do not.
    fn beats(by: [&[f64]; 2], other: [&[f64]; 2]) -> bool {
        let setting = |label: &str, [throughput, latency]: [&[f64]; 2]| {
            let n = if label == "by" { 1 } else { 2 };
            let figures = [(THROUGHPUT, throughput), (LATENCY, latency)];
            point(label, &[("max-num-seqs", n)], "burst", &figures)
        };
        let points = [setting("by", by), setting("other", other)];
        let files = std::iter::once(("sweep", &points[..]));
        let front = Front::new((THROUGHPUT, "burst"), "burst", files, &Lenders::default());
        let beaten = front.candidates.iter().find(|candidate| candidate.name == "sweep: other");
        beaten.is_some_and(|other| other.beaten.is_some())
    }

    #[test]
    fn an_advantage_within_the_intervals_makes_no_front() {
        let fast: [&[f64]; 2] = [&[1_000.0, 1_001.0, 1_002.0], &[3.0, 3.1, 3.2]];
        // Quicker by less than the starts differ.
        assert!(beats(fast, [&[800.0, 801.0, 802.0], &[2.9, 3.0, 3.1]]));
        assert!(!beats(fast, [&[800.0, 801.0, 802.0], &[2.0, 2.001, 2.002]]));
        assert!(!beats(fast, [&[999.0, 1_001.0, 1_002.0], &[2.9, 3.0, 3.1]]));
    }

    /// Of a single start nobody knows the noise: that the other's interval holds its figure is no sign of it.
    #[test]
    fn a_single_start_is_beaten_by_its_means_alone() {
        let slow: [&[f64]; 2] = [&[9_300.0, 9_400.0], &[3.3, 3.6]];
        assert!(!beats(slow, [&[7_456.0], &[3.33]]));
        assert!(beats(slow, [&[7_456.0], &[3.53]]));
    }

    proptest! {
        #[test]
        fn nobody_beats_the_front(costs in prop::collection::vec((0..9_u8, 0..9_u8), 1..12)) {
            let costs: Vec<_> = costs.iter().map(|(a, b)| [f64::from(*a), f64::from(*b)]).collect();
            let beaten = beaten_by(&costs);
            prop_assert!(beaten.iter().any(Option::is_none));
            for (cost, by) in costs.iter().zip(&beaten) {
                let is_beaten = |[x, y]: &[f64; 2]| {
                    *x <= cost[0] && *y <= cost[1] && (*x < cost[0] || *y < cost[1])
                };
                prop_assert_eq!(by.is_some(), costs.iter().any(is_beaten));
                prop_assert!(by.is_none_or(|by| is_beaten(&costs[by])));
            }
        }
    }
}
