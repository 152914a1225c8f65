//! Limits: whether a figure meets one, with the confidence of its interval over starts.

use bench_core::schema::{LimitOutcome, LimitState, Point};

use profile::{Bound, Limit};

/// Judges one limit by the points of a configuration.
pub fn judge(limit: &Limit, points: &[&Point]) -> LimitOutcome {
    let point = points.iter().find(|point| point.load == limit.load);
    let found = point.and_then(|point| point.metrics.get(&limit.metric)).cloned();
    let saturated = point.is_some_and(|point| point.saturated) && limit.bound == Bound::Max;
    let state = match &found {
        None => LimitState::NotMeasured,
        // Above capacity a latency grows with the length of the load, whatever it says.
        Some(_) if saturated => LimitState::Violated,
        Some(found) => match found.low.zip(found.high) {
            None => LimitState::OneStart,
            Some((low, high)) => match [low, high].map(|end| keeps(limit, end)) {
                [true, true] => LimitState::Met,
                [false, false] => LimitState::Violated,
                _ => LimitState::Open,
            },
        },
    };
    LimitOutcome {
        metric: limit.metric.clone(),
        load: limit.load.clone(),
        bound: limit.bound.name().to_owned(),
        limit: limit.limit.to_f64(),
        found,
        saturated,
        state,
    }
}

/// Whether a value keeps a limit.
pub fn keeps(limit: &Limit, value: f64) -> bool {
    within(limit.bound, limit.limit.to_f64(), value)
}

/// Whether a value lies on the right side of a bound.
pub fn within(bound: Bound, limit: f64, value: f64) -> bool {
    match bound {
        Bound::Max => value <= limit,
        Bound::Min => value >= limit,
    }
}

/// The worst of some limits; met where there is none.
pub fn worst(limits: &[LimitOutcome]) -> LimitState {
    limits.iter().map(|limit| limit.state).max().unwrap_or(LimitState::Met)
}

/// How far the mean lies beyond the limit that it breaks most, as a share of the limit; 0 where
/// all are kept by the mean, `None` where a limit was not measured.
pub fn excess(limits: &[LimitOutcome]) -> Option<f64> {
    limits.iter().try_fold(0.0_f64, |worst, outcome| {
        let mean = outcome.found.as_ref()?.mean;
        if outcome.saturated {
            return Some(f64::INFINITY);
        }
        let beyond = match outcome.bound.as_str() {
            "max" => mean - outcome.limit,
            _ => outcome.limit - mean,
        };
        let scale = if outcome.limit == 0.0 { 1.0 } else { outcome.limit.abs() };
        Some(worst.max(beyond / scale))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::point;
    use bench_core::stats;
    use proptest::prelude::*;

    fn limit(bound: Bound, at: i64) -> Limit {
        Limit {
            metric: "tpot_p95_ms".to_owned(),
            load: "burst".to_owned(),
            bound,
            limit: bench_core::decimal::Decimal::from_int(at).expect("a decimal"),
        }
    }

    fn of(starts: &[f64], saturated: bool) -> Point {
        let mut point = point("a", &[], "burst", &[]);
        let found = stats::estimate(starts.to_vec());
        point.metrics.extend(found.map(|found| ("tpot_p95_ms".to_owned(), found)));
        Point { saturated, ..point }
    }

    #[test]
    fn a_limit_is_met_by_its_interval_and_not_by_its_mean() {
        let state = |starts: &[f64], saturated| {
            judge(&limit(Bound::Max, 20), &[&of(starts, saturated)]).state
        };
        assert_eq!(state(&[18.0, 18.2, 18.1], false), LimitState::Met);
        assert_eq!(state(&[19.0, 20.5, 19.9], false), LimitState::Open, "the mean is 19.8");
        assert_eq!(state(&[130.0, 131.0, 132.0], false), LimitState::Violated);
        assert_eq!(state(&[18.0], false), LimitState::OneStart, "whatever it is");
        assert_eq!(state(&[], false), LimitState::NotMeasured);
        assert_eq!(state(&[18.0, 18.0], true), LimitState::Violated, "above capacity");
        let least = |starts| judge(&limit(Bound::Min, 20), &[&of(starts, false)]).state;
        assert_eq!(least(&[18.0, 18.2, 18.1]), LimitState::Violated);
        assert_eq!(least(&[28.0, 28.2, 28.1]), LimitState::Met);
    }

    #[test]
    fn excess_is_that_of_the_limit_broken_most() {
        let judged = |starts: &[f64]| judge(&limit(Bound::Max, 20), &[&of(starts, false)]);
        assert_eq!(excess(&[judged(&[30.0]), judged(&[22.0])]), Some(0.5));
        assert_eq!(excess(&[judged(&[19.0])]), Some(0.0));
        assert_eq!(excess(&[judged(&[19.0]), judged(&[])]), None);
    }

    proptest! {
        #[test]
        fn a_looser_limit_is_no_harder_to_meet(
            starts in prop::collection::vec(1.0..100.0_f64, 2..6), at in 1_i64..100, more in 0_i64..50,
        ) {
            let point = of(&starts, false);
            let state = |at| judge(&limit(Bound::Max, at), &[&point]).state;
            prop_assert!(state(at + more) <= state(at));
        }
    }
}
