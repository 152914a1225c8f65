//! Means over server starts, their intervals, and verdicts.
//!
//! The unit is the server start: requests of one start share its luck and say nothing of the
//! spread between starts.

use crate::{
    metric::Direction,
    schema::{Estimate, Verdict},
};

/// Changes within this many percent (or, for shares, points) are no change worth having.
pub const MARGIN_PERCENT: f64 = 2.0;

/// Mean of one value a start, with its 95 % interval by Student's t.
///
/// `None` without values.
pub fn estimate(starts: Vec<f64>) -> Option<Estimate> {
    let (mean, variance) = mean_and_variance(&starts)?;
    let half = variance
        .map(|v| student_t_975((starts.len() - 1) as f64) * libm::sqrt(v / starts.len() as f64));
    Some(Estimate {
        mean,
        low: half.map(|half| mean - half),
        high: half.map(|half| mean + half),
        starts,
    })
}

/// Change from `before` to `after` with its 95 % interval by Welch's t (1947): in percent of
/// `before`'s mean, or in points when the values are shares.
///
/// `None` when `before` is zero and the values are no shares. `starts` of the result is empty:
/// a change has no value of its own for a start.
pub fn change(before: &Estimate, after: &Estimate, is_share: bool) -> Option<Estimate> {
    let scale = if is_share { 100.0 } else { 100.0 / before.mean };
    if !scale.is_finite() {
        return None;
    }
    let mean = (after.mean - before.mean) * scale;
    let half = welch_half_width(&before.starts, &after.starts).map(|half| half * scale.abs());
    Some(Estimate {
        mean,
        low: half.map(|half| mean - half),
        high: half.map(|half| mean + half),
        starts: Vec::new(),
    })
}

/// The verdict on a change, and why.
pub fn verdict(change: &Estimate, direction: Direction) -> (Verdict, String) {
    let (Some(low), Some(high)) = (change.low, change.high) else {
        let reason = "a single start on one side: the spread between starts is not known";
        return (Verdict::Inconclusive, reason.to_owned());
    };
    let interval = format!("95 % interval {low:+.1} to {high:+.1}");
    if low >= -MARGIN_PERCENT && high <= MARGIN_PERCENT {
        return (Verdict::Equivalent, format!("{interval}, within ±{MARGIN_PERCENT:.0}"));
    }
    let rises = low > 0.0;
    if !rises && high >= 0.0 {
        return (Verdict::Inconclusive, format!("{interval} holds no change and more"));
    }
    let verdict = match direction {
        Direction::Higher if rises => Verdict::Better,
        Direction::Lower if !rises => Verdict::Better,
        Direction::Neither => {
            return (Verdict::Inconclusive, format!("{interval}; neither way is better"));
        }
        Direction::Higher | Direction::Lower => Verdict::Worse,
    };
    (verdict, interval)
}

fn mean_and_variance(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    Some((mean, (values.len() > 1).then(|| squares / (n - 1.0))))
}

fn welch_half_width(before: &[f64], after: &[f64]) -> Option<f64> {
    let (_, before_variance) = mean_and_variance(before)?;
    let (_, after_variance) = mean_and_variance(after)?;
    let (n, m) = (before.len() as f64, after.len() as f64);
    let (a, b) = (before_variance? / n, after_variance? / m);
    if a + b == 0.0 {
        return Some(0.0);
    }
    let freedom = (a + b) * (a + b) / (a * a / (n - 1.0) + b * b / (m - 1.0));
    Some(student_t_975(freedom) * libm::sqrt(a + b))
}

/// The 97.5 % quantile of Student's t with `freedom` degrees of freedom, at least 1.
///
/// From the table up to 4; beyond, the expansion of Abramowitz and Stegun (26.7.5), off by less
/// than 0.1 %. Fractions of a degree are dropped, which widens the interval.
fn student_t_975(freedom: f64) -> f64 {
    const TABLE: [f64; 4] = [12.706_205, 4.302_653, 3.182_446, 2.776_445];
    const Z: f64 = 1.959_964;
    let whole = libm::floor(freedom.max(1.0));
    if whole <= TABLE.len() as f64 {
        return TABLE[whole as usize - 1];
    }
    let (z3, z5, z7) = (Z * Z * Z, Z * Z * Z * Z * Z, Z * Z * Z * Z * Z * Z * Z);
    Z + (z3 + Z) / (4.0 * whole)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * Z) / (96.0 * whole * whole)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * Z) / (384.0 * whole * whole * whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, expected) in [
            (1.0, 12.706),
            (2.9, 4.303),
            (4.0, 2.776),
            (5.0, 2.571),
            (10.0, 2.228),
            (30.0, 2.042),
            (1e6, 1.960),
        ] {
            let found = student_t_975(freedom);
            assert!((found / expected - 1.0).abs() < 0.002, "{freedom}: {found}");
        }
    }

    #[test]
    fn one_start_has_no_interval() {
        let one = estimate(vec![5.0]).expect("one value");
        assert_eq!((one.mean, one.low, one.high), (5.0, None, None));
        assert_eq!(estimate(vec![]), None);
    }

    fn verdict_of(before: [f64; 3], after: [f64; 3], direction: Direction) -> Verdict {
        let before = estimate(before.to_vec()).expect("values");
        let after = estimate(after.to_vec()).expect("values");
        verdict(&change(&before, &after, false).expect("not zero"), direction).0
    }

    #[test]
    fn the_four_verdicts() {
        use Direction::{Higher, Lower, Neither};
        let base = [100.0, 101.0, 99.0];
        assert_eq!(verdict_of(base, [120.0, 121.0, 119.0], Higher), Verdict::Better);
        assert_eq!(verdict_of(base, [120.0, 121.0, 119.0], Lower), Verdict::Worse);
        assert_eq!(verdict_of(base, [80.0, 81.0, 79.0], Lower), Verdict::Better);
        assert_eq!(verdict_of(base, [150.0, 101.0, 60.0], Higher), Verdict::Inconclusive);
        assert_eq!(
            verdict_of([100.0, 100.1, 99.9], [100.2, 100.1, 100.0], Higher),
            Verdict::Equivalent
        );
        assert_eq!(verdict_of(base, [120.0, 121.0, 119.0], Neither), Verdict::Inconclusive);
    }

    #[test]
    fn shares_change_in_points() {
        let before = estimate(vec![0.5, 0.5]).expect("values");
        let after = estimate(vec![0.4, 0.4]).expect("values");
        let change = change(&before, &after, true).expect("a share");
        assert!((change.mean + 10.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_mean(starts in prop::collection::vec(-1e6..1e6_f64, 2..20)) {
            let estimate = estimate(starts).expect("values");
            prop_assert!(estimate.low <= Some(estimate.mean) && Some(estimate.mean) <= estimate.high);
        }
    }
}
