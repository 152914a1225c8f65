//! Means over server starts, their intervals, and verdicts.
//!
//! The unit is the server start: requests of one start share its luck and say nothing of the
//! spread between starts.

mod difference;
mod looks;
mod rank;
mod repeats;
mod spread;
pub mod student;
mod verdict;

use crate::schema::Estimate;

pub use crate::metric::MARGIN_PERCENT;
use difference::{Difference, Scale, error_of_one};
pub use looks::{Looks, levels};
pub use repeats::{Costs, REPEATS_MAX, repeats};
pub use spread::{Spread, Start, are_enough};
pub use student::critical;
pub use verdict::{Judgement, LEVEL, POWER, Question, QuestionRole, STARTS_MAX, judge, spread};

/// Mean of one value a start, with its 95 % interval by Student's t.
///
/// `None` without values. A figure that some starts did not reach has no mean that is a number, and an
/// interval that reaches from the best start to nowhere.
pub fn estimate(starts: Vec<f64>) -> Option<Estimate> {
    let first = *starts.first()?;
    if let Some(unreached) = starts.iter().copied().find(|value| !value.is_finite()) {
        let has_several = starts.len() > 1;
        let end = |of: fn(f64, f64) -> f64| starts.iter().copied().reduce(of);
        let (low, high) = (end(f64::min), end(f64::max));
        return Some(Estimate {
            mean: unreached,
            low: low.filter(|_| has_several),
            high: high.filter(|_| has_several),
            repeats: Vec::new(),
            starts,
        });
    }
    let is_constant = starts.iter().all(|value| *value == first);
    // Of equal values exactly that, whatever a sum would round to.
    let mean = if is_constant { first } else { spread::mean(&starts) };
    let n = starts.len() as f64;
    let half = (starts.len() > 1).then(|| {
        let variance = spread::squares(&starts) / (n - 1.0);
        student::critical(LEVEL, n - 1.0) * libm::sqrt(variance / n)
    });
    let (low, high) = (half.map(|h| mean - h), half.map(|h| mean + h));
    Some(Estimate { mean, low, high, starts, repeats: Vec::new() })
}

/// Mean of the starts' means over their repeats, with its 95 % interval; `None` without values.
pub fn estimate_of_repeats(starts: Vec<Vec<f64>>) -> Option<Estimate> {
    let starts: Vec<_> = starts.into_iter().filter(|repeats| !repeats.is_empty()).collect();
    let mean = |repeats: &Vec<f64>| {
        let unreached = repeats.iter().copied().find(|value| !value.is_finite());
        unreached.unwrap_or_else(|| spread::exact_mean(repeats))
    };
    let of = estimate(starts.iter().map(mean).collect())?;
    let is_repeated = starts.iter().any(|repeats| repeats.len() > 1);
    Some(Estimate { repeats: if is_repeated { starts } else { Vec::new() }, ..of })
}

/// A figure made of two, start by start, such as a ratio; `None` where they do not have a value each
/// for the same number of starts.
pub fn of_both(a: &Estimate, b: &Estimate, of: impl Fn(f64, f64) -> f64) -> Option<Estimate> {
    let (a, b) = (a.values(), b.values());
    if a.len() != b.len() {
        return None;
    }
    let values: Vec<f64> = a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect();
    // Of two figures that were not reached nothing is known.
    estimate(values).filter(|found| !found.starts.iter().any(|value| value.is_nan()))
}

/// The starts of a figure, each of no block.
pub fn starts_of(estimate: &Estimate) -> Vec<Start> {
    if estimate.repeats.is_empty() {
        return estimate.values().iter().map(|value| Start::single(*value)).collect();
    }
    let start = |repeats: &Vec<f64>| Start { block: None, repeats: repeats.clone() };
    estimate.repeats.iter().map(start).collect()
}

/// Change from `before` to `after` with its 95 % interval, as verdicts have it: in percent of `before`, or in
/// points when the values are shares.
///
/// `None` when `before` is zero and the values are no shares. `starts` of the result is empty:
/// a change has no value of its own for a start.
pub fn change(
    before: &[Start],
    after: &[Start],
    is_share: bool,
    lent: &[Spread],
) -> Option<Estimate> {
    if rank::has_unreached(before) || rank::has_unreached(after) {
        return None;
    }
    Difference::between(before, after, is_share, lent)?.estimate(LEVEL)
}

/// The figure of one setting with the interval that verdicts use: the spread of its starts shrunk towards those
/// of other settings. The figure as it is where nothing is borrowed.
pub fn borrowed(figure: &Estimate, is_share: bool, lent: &[Spread]) -> Estimate {
    let starts = starts_of(figure);
    if rank::has_unreached(&starts) {
        return figure.clone();
    }
    let scale = Scale::of(&starts, &[], is_share);
    let Some(error) = error_of_one(&starts, scale, is_share, lent) else { return figure.clone() };
    let means = scale.of_starts(&starts);
    let middle =
        spread::mean(&means.iter().map(|start| spread::exact_mean(start)).collect::<Vec<_>>());
    let half = error.half_interval(LEVEL);
    let value = |on_scale: f64| match scale {
        Scale::Ratio => libm::exp(on_scale),
        Scale::Linear { .. } if is_share => on_scale.clamp(0.0, 1.0),
        Scale::Linear { .. } => on_scale,
    };
    Estimate {
        // The mean is arithmetic, the middle of a ratio is not.
        low: Some(value(middle - half).min(figure.mean)),
        high: Some(value(middle + half).max(figure.mean)),
        ..figure.clone()
    }
}

/// Two figures as their [`change`] compares them: where it is a ratio, the geometric means over repeats
/// and starts, so that the change is what leads from the one to the other, with intervals of the same width.
pub fn compared(before: &Estimate, after: &Estimate, is_share: bool) -> [Estimate; 2] {
    let sides = [before, after].map(starts_of);
    let is_unreached = sides.iter().any(|side| rank::has_unreached(side) || side.is_empty());
    if is_unreached || Scale::of(&sides[0], &sides[1], is_share) != Scale::Ratio {
        return [before.clone(), after.clone()];
    }
    let [a, b] = &sides;
    [geometric(before, a), geometric(after, b)]
}

/// The figure with the geometric mean of its starts, which are positive.
fn geometric(figure: &Estimate, starts: &[Start]) -> Estimate {
    let log = |start: &Start| {
        let logs: Vec<f64> = start.repeats.iter().map(|value| libm::log(*value)).collect();
        spread::exact_mean(&logs)
    };
    let logs: Vec<f64> = starts.iter().map(log).collect();
    let mean = libm::exp(spread::exact_mean(&logs));
    let scaled = |end: Option<f64>| end.map(|end| end * mean / figure.mean);
    let starts = logs.into_iter().map(libm::exp).collect();
    let (low, high) = (scaled(figure.low), scaled(figure.high));
    Estimate { mean, low, high, starts, repeats: Vec::new() }
}

/// The middle value, halfway between two; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (below, above) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some(f64::midpoint(values[below], values[above]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    }
    use proptest::prelude::*;

    fn of(starts: &[f64]) -> Estimate {
        estimate(starts.to_vec()).expect("values")
    }

    fn change(before: &Estimate, after: &Estimate, is_share: bool) -> Option<Estimate> {
        super::change(&starts_of(before), &starts_of(after), is_share, &[])
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
    fn figures_that_are_compared_agree_with_their_change() {
        let (before, after) = (of(&[100.0, 30.0, 95.0]), of(&[75.0, 70.0, 72.0]));
        let found = change(&before, &after, false).expect("not zero").mean;
        let [a, b] = compared(&before, &after, false);
        assert!((100.0 * (b.mean / a.mean - 1.0) - found).abs() < 1e-9, "{a:?} {b:?} {found}");
        // The arithmetic means fall where most starts rise.
        assert!(after.mean < before.mean && b.mean > a.mean, "{a:?} {b:?}");
        assert!(a.low < Some(a.mean) && Some(a.mean) < a.high, "{a:?}");
        // Shares change by the difference of their means; what was not reached has no logarithm.
        let shares = [of(&[0.5, 0.1]), of(&[0.4, 0.3])];
        assert_eq!(compared(&shares[0], &shares[1], true), shares);
        let unreached = [of(&[1.0, f64::INFINITY]), of(&[1.0, 2.0])];
        assert_eq!(compared(&unreached[0], &unreached[1], false), unreached);
    }

    /// Two starts know little of their spread; settings of its kind that are quiet say more.
    #[test]
    fn the_interval_of_a_setting_is_borrowed_as_verdicts_borrow() {
        let rate = crate::metric::find("output_tokens_per_s").expect("a metric");
        let spread_of = |values: &[f64]| {
            let starts: Vec<Start> = values.iter().map(|value| Start::single(*value)).collect();
            spread(rate, &starts).expect("a spread")
        };
        let lent: Vec<Spread> =
            (0..6).map(|i| spread_of(&[50.0, 50.5 + f64::from(i) / 10.0, 49.6])).collect();
        let (own, half) = (of(&[100.0, 101.0]), |e: &Estimate| {
            let (low, high) = e.low.zip(e.high).expect("an interval");
            (high - low) / 2.0
        });
        let found = borrowed(&own, false, &lent);
        assert_eq!((found.mean, &found.starts), (own.mean, &own.starts));
        assert!(half(&found) < half(&own) / 3.0 && half(&found) > 0.5, "{own:?} {found:?}");
        // A change of one such setting against another is as wide as both intervals together.
        let question = |after: &[Start]| {
            let before = starts_of(&own);
            let margin_percent = 2.0;
            let asked = Question {
                metric: rate,
                load: "burst",
                before: &before,
                after,
                lent: &lent,
                requests: None,
                margin_percent,
                role: QuestionRole::Primary,
            };
            judge(&[asked], LEVEL)[0].change.clone().expect("a change")
        };
        let change = question(&starts_of(&of(&[100.0, 101.0])));
        let both = std::f64::consts::SQRT_2 * half(&found) / 100.5 * 100.0;
        assert!((half(&change) / both - 1.0).abs() < 0.2, "{change:?} {both}");
        // Among too few settings, of one start, and without any spread, nothing changes.
        assert_eq!(borrowed(&own, false, &lent[..2]), own);
        assert_eq!(borrowed(&of(&[100.0]), false, &lent), of(&[100.0]));
        assert_eq!(borrowed(&of(&[100.0, 100.0]), false, &lent), of(&[100.0, 100.0]));
        // A share is no less than nothing, however much it varies elsewhere.
        let share = crate::metric::find("queue_share").expect("a metric");
        let wide = spread(share, &starts_of(&of(&[0.3, 0.5]))).expect("a spread");
        let small = borrowed(&of(&[0.02, 0.021]), true, &[wide; 4]);
        assert_eq!(small.low, Some(0.0));
        assert!(small.high > Some(0.1), "{small:?}");
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
