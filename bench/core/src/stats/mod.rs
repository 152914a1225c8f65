//! Means over server starts, their intervals, and verdicts.
//!
//! The unit is the server start: requests of one start share its luck and say nothing of the
//! spread between starts.

pub mod student;
mod verdict;

use crate::schema::Estimate;

pub use crate::metric::MARGIN_PERCENT;
pub use verdict::{Judgement, LEVEL, POWER, Question, STARTS_MAX, judge};

/// Mean of one value a start, with its 95 % interval by Student's t.
///
/// `None` without values.
pub fn estimate(starts: Vec<f64>) -> Option<Estimate> {
    let sample = Sample::of(&starts)?;
    let half = sample.variance.map(|variance| {
        let freedom = starts.len() as u32 - 1;
        student::critical(LEVEL, freedom) * libm::sqrt(variance / sample.n)
    });
    Some(Estimate {
        mean: sample.mean,
        low: half.map(|half| sample.mean - half),
        high: half.map(|half| sample.mean + half),
        starts,
    })
}

/// A figure made of two, start by start, such as a ratio; `None` where they do not have a value each
/// for the same number of starts.
pub fn of_both(a: &Estimate, b: &Estimate, of: impl Fn(f64, f64) -> f64) -> Option<Estimate> {
    let (a, b) = (a.values(), b.values());
    if a.len() != b.len() {
        return None;
    }
    estimate(a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect())
}

/// Change from `before` to `after` with its 95 % interval by Welch's t (1947): in percent of
/// `before`, or in points when the values are shares.
///
/// `None` when `before` is zero and the values are no shares. `starts` of the result is empty:
/// a change has no value of its own for a start.
pub fn change(before: &Estimate, after: &Estimate, is_share: bool) -> Option<Estimate> {
    Difference::between(before.values(), after.values(), is_share)?.estimate()
}

/// On what a change is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    /// Logarithms: a start is so much faster or slower than another, and a change is a ratio.
    Ratio,
    /// Differences, shown in percent of this value; of shares in points.
    Linear { hundred_percent: f64 },
}

impl Scale {
    fn of(before: &[f64], after: &[f64], is_share: bool) -> Self {
        if is_share {
            return Self::Linear { hundred_percent: 1.0 };
        }
        if before.iter().chain(after).all(|value| *value > 0.0) {
            return Self::Ratio;
        }
        Self::Linear { hundred_percent: before.iter().sum::<f64>() / before.len() as f64 }
    }

    fn apply(self, value: f64) -> f64 {
        if self == Self::Ratio { libm::log(value) } else { value }
    }

    /// A difference on this scale in percent or points; not finite where nothing was before.
    fn shown(self, difference: f64) -> f64 {
        match self {
            Self::Ratio => 100.0 * libm::expm1(difference),
            Self::Linear { hundred_percent } => 100.0 * difference / hundred_percent,
        }
    }
}

/// A change on its scale.
#[derive(Clone, Copy, Debug)]
struct Difference {
    scale: Scale,
    mean: f64,
    /// `None` where a side has a single start.
    spread: Option<Spread>,
}

/// How far a difference may be off.
#[derive(Clone, Copy, Debug)]
struct Spread {
    /// Of the difference of the means.
    standard_error: f64,
    /// Of one start, over both sides.
    deviation: f64,
    /// By Welch and Satterthwaite, without the fraction of a degree: with three to five starts and
    /// sides that spread unequally, the fraction makes far tails too thin.
    freedom: u32,
}

impl Difference {
    /// `None` when a side has no start.
    fn between(before: &[f64], after: &[f64], is_share: bool) -> Option<Self> {
        let scale = Scale::of(before, after, is_share);
        let on_scale = |values: &[f64]| {
            Sample::of(&values.iter().map(|v| scale.apply(*v)).collect::<Vec<_>>())
        };
        let (before, after) = (on_scale(before)?, on_scale(after)?);
        let spread = before.variance.zip(after.variance).map(|(v, w)| {
            let (a, b) = (v / before.n, w / after.n);
            let freedom = (a + b) * (a + b) / (a * a / (before.n - 1.0) + b * b / (after.n - 1.0));
            Spread {
                standard_error: libm::sqrt(a + b),
                deviation: libm::sqrt(f64::midpoint(v, w)),
                // Not a number where neither side varies; then nothing is read off it.
                freedom: freedom.max(1.0) as u32,
            }
        });
        Some(Self { scale, mean: after.mean - before.mean, spread })
    }

    /// As it is shown; `None` where nothing was before.
    fn estimate(&self) -> Option<Estimate> {
        let shown = |difference| Some(self.scale.shown(difference)).filter(|d| d.is_finite());
        let half = self.spread.map(|spread| spread.interval(LEVEL));
        Some(Estimate {
            mean: shown(self.mean)?,
            low: half.and_then(|half| shown(self.mean - half)),
            high: half.and_then(|half| shown(self.mean + half)),
            starts: Vec::new(),
        })
    }
}

impl Spread {
    /// Half the interval that misses the true difference with this probability.
    fn interval(self, two_sided: f64) -> f64 {
        student::critical(two_sided, self.freedom) * self.standard_error
    }
}

/// Mean and variance of some starts.
#[derive(Clone, Copy, Debug)]
struct Sample {
    n: f64,
    mean: f64,
    /// `None` of a single one.
    variance: Option<f64>,
}

impl Sample {
    fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let first = *values.first()?;
        if values.iter().all(|value| *value == first) {
            // Exactly, whatever a sum would round to.
            return Some(Self { n, mean: first, variance: (n > 1.0).then_some(0.0) });
        }
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Some(Self { n, mean, variance: Some(squares / (n - 1.0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(starts: &[f64]) -> Estimate {
        estimate(starts.to_vec()).expect("values")
    }

    #[test]
    fn one_start_has_no_interval() {
        let one = of(&[5.0]);
        assert_eq!((one.mean, one.low, one.high), (5.0, None, None));
        assert_eq!(estimate(vec![]), None);
    }

    #[test]
    fn shares_change_in_points() {
        let change = change(&of(&[0.5, 0.5]), &of(&[0.4, 0.4]), true).expect("a share");
        assert!((change.mean + 10.0).abs() < 1e-9);
    }

    #[test]
    fn changes_are_ratios_where_they_can_be() {
        let doubled = change(&of(&[10.0, 20.0]), &of(&[20.0, 40.0]), false).expect("not zero");
        assert!((doubled.mean - 100.0).abs() < 1e-9);
        let to_zero = change(&of(&[1.0, 3.0]), &of(&[0.0, 0.0]), false).expect("not zero");
        assert!((to_zero.mean + 100.0).abs() < 1e-9);
        assert_eq!(change(&of(&[0.0, 0.0]), &of(&[1.0, 2.0]), false), None);
    }

    #[test]
    fn the_interval_is_that_of_welch() {
        // R: t.test(log(b), log(a)) with a = (100, 101, 99), b = (110, 115, 105).
        let change = change(&of(&[100.0, 101.0, 99.0]), &of(&[110.0, 115.0, 105.0]), false);
        let change = change.expect("not zero");
        assert!((change.mean - 9.93).abs() < 0.01, "{change:?}");
        assert!(change.low.expect("two starts") < 0.0, "two degrees of freedom: {change:?}");
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_mean(starts in prop::collection::vec(-1e6..1e6_f64, 2..20)) {
            let estimate = estimate(starts).expect("values");
            prop_assert!(estimate.low <= Some(estimate.mean) && Some(estimate.mean) <= estimate.high);
        }

        #[test]
        fn units_do_not_matter(
            before in prop::collection::vec(1.0..100.0_f64, 2..6),
            after in prop::collection::vec(1.0..100.0_f64, 2..6),
        ) {
            let in_seconds = |values: &[f64]| of(&values.iter().map(|v| v / 1024.0).collect::<Vec<_>>());
            let a = change(&of(&before), &of(&after), false).expect("not zero");
            let b = change(&in_seconds(&before), &in_seconds(&after), false).expect("not zero");
            for (a, b) in [(Some(a.mean), Some(b.mean)), (a.low, b.low), (a.high, b.high)] {
                let (a, b) = (a.expect("two starts"), b.expect("two starts"));
                prop_assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0));
            }
        }
    }
}
