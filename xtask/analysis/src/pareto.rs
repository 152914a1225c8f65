//! The Pareto front of throughput against latency, over every configuration that was measured.

use std::collections::BTreeSet;

use bench_core::{
    metric::{self, Direction, Metric},
    schema::{Args, Estimate, Point, Role},
};

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
    /// Where in [`Front::candidates`] one stands that is better in one and no worse in the other.
    pub beaten_by: Option<usize>,
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
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut known: BTreeSet<Args> = BTreeSet::new();
        for (stage, points) in files {
            for point in points.iter().filter(|point| point.load == throughput.load) {
                let Some(candidate) = candidate(stage, points, point, &throughput, &latency) else {
                    continue;
                };
                // What two sweeps have in common is one configuration, and so are the defaults
                // that each of them carries along.
                let is_known = candidates.iter().any(|other| other.name == candidate.name)
                    || !point.args.is_empty() && !known.insert(point.args.clone());
                if !is_known {
                    candidates.push(candidate);
                }
            }
        }
        candidates.sort_by(|a, b| f64::total_cmp(&b.throughput.mean, &a.throughput.mean));
        let costs: Vec<_> =
            candidates.iter().map(|c| [-c.throughput.mean, c.latency.mean]).collect();
        let by_means = beaten_by(&costs);
        let is_beaten = |i: usize| {
            by_means[i].or_else(|| {
                (0..costs.len()).find(|by| {
                    by_means[*by].is_none() && beats_beyond_noise(&candidates[*by], &candidates[i])
                })
            })
        };
        let beaten: Vec<_> = (0..costs.len()).map(is_beaten).collect();
        for (candidate, by) in candidates.iter_mut().zip(beaten) {
            candidate.beaten_by = by;
        }
        Self { throughput, latency, candidates }
    }

    /// Those that none beats, the highest throughput first.
    pub fn unbeaten(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| candidate.beaten_by.is_none())
    }
}

fn candidate(
    stage: &str,
    points: &[Point],
    point: &Point,
    throughput: &Axis,
    latency: &Axis,
) -> Option<Candidate> {
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
    Some(Candidate {
        name,
        role: point.role,
        throughput: figure(point, throughput)?,
        latency: figure(other, latency)?,
        saturated: point.saturated || other.saturated,
        beaten_by: None,
    })
}

/// Whether one is better in one figure by more than the intervals, and in the other at most as much
/// worse as they allow for chance.
fn beats_beyond_noise(by: &Candidate, other: &Candidate) -> bool {
    let ends = |e: &Estimate| (e.low.unwrap_or(e.mean), e.high.unwrap_or(e.mean));
    let above = |a: &Estimate, b: &Estimate| ends(a).0 > ends(b).1;
    let is_better = [above(&by.throughput, &other.throughput), above(&other.latency, &by.latency)];
    let is_worse = [above(&other.throughput, &by.throughput), above(&by.latency, &other.latency)];
    is_better.contains(&true) && !is_worse.contains(&true)
}

/// For each pair of costs the first that is lower in one and no higher in the other.
pub fn beaten_by(costs: &[[f64; 2]]) -> Vec<Option<usize>> {
    let beats = |[x, y]: [f64; 2], [a, b]: [f64; 2]| x <= a && y <= b && (x < a || y < b);
    costs.iter().map(|cost| costs.iter().position(|other| beats(*other, *cost))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bench_core::stats;
    use proptest::prelude::*;

    #[test]
    fn an_advantage_within_the_intervals_makes_no_front() {
        let of = |throughput: [f64; 3], latency: [f64; 3]| Candidate {
            name: String::new(),
            role: Role::Sweep,
            throughput: stats::estimate(throughput.to_vec()).expect("starts"),
            latency: stats::estimate(latency.to_vec()).expect("starts"),
            saturated: false,
            beaten_by: None,
        };
        let fast = of([1_000.0, 1_001.0, 1_002.0], [3.0, 3.1, 3.2]);
        // Quicker by less than the starts differ.
        assert!(beats_beyond_noise(&fast, &of([800.0, 801.0, 802.0], [2.9, 3.0, 3.1])));
        assert!(!beats_beyond_noise(&fast, &of([800.0, 801.0, 802.0], [2.0, 2.001, 2.002])));
        assert!(!beats_beyond_noise(&fast, &of([999.0, 1_001.0, 1_003.0], [2.9, 3.0, 3.1])));
        assert!(!beats_beyond_noise(&fast, &fast));
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
