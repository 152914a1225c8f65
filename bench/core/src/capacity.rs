//! Capacity: the highest rate of requests that a server sustains within its limits, and the knee
//! of its throughput-latency curve.
//!
//! Pure: [`next`] is a function of the rates that were tried.

use core::cmp::Ordering;

use crate::decimal::Decimal;

/// How many times the first rate is doubled, or halved, before the search gives up.
const DOUBLINGS_MAX: i32 = 10;

/// A rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Requests a second.
    pub rate: Decimal,
    /// Whether every limit was kept.
    pub kept: bool,
}

/// Between what the capacity lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bracket {
    /// The highest rate that kept the limits, with none below it that broke one.
    pub kept: Option<Decimal>,
    /// The lowest rate that broke one.
    pub broken: Option<Decimal>,
}

impl Bracket {
    /// What these rates say. Luck may keep the limits at a rate above one that broke them: the
    /// lower one counts.
    pub fn of(tried: &[Tried]) -> Self {
        let of = |kept| tried.iter().filter(move |t| t.kept == kept).map(|t| t.rate);
        let broken = of(false).min();
        let kept = of(true).filter(|rate| broken.is_none_or(|broken| *rate < broken)).max();
        Self { kept, broken }
    }
}

/// The rate to try next, from the first one on; `None` once the bracket is as narrow as
/// `precision_percent`, or no end of it is in sight.
///
/// A ladder of doublings up (or halvings down) until one rate keeps the limits and another breaks
/// them, then bisection, of logarithms: precision is relative.
pub fn next(first: Decimal, precision_percent: u32, tried: &[Tried]) -> Option<Decimal> {
    let far = libm::exp2(f64::from(DOUBLINGS_MAX));
    let rate = match Bracket::of(tried) {
        Bracket { kept: None, broken: None } => return Some(first),
        Bracket { kept: Some(kept), broken: None } => {
            (kept.to_f64() < first.to_f64() * far / 1.5).then(|| 2.0 * kept.to_f64())?
        }
        Bracket { kept: None, broken: Some(broken) } => {
            (broken.to_f64() > first.to_f64() / far * 1.5).then(|| broken.to_f64() / 2.0)?
        }
        Bracket { kept: Some(kept), broken: Some(broken) } => {
            let (kept, broken) = (kept.to_f64(), broken.to_f64());
            let is_wide = broken / kept > 1.0 + f64::from(precision_percent) / 100.0;
            is_wide.then(|| libm::sqrt(kept * broken))?
        }
    };
    let rate = three_digits(rate);
    // A bracket that rounding closes is as narrow as it gets.
    tried.iter().all(|t| t.rate != rate).then_some(rate).filter(|rate| *rate > Decimal::default())
}

/// Rounded to three significant digits, since a rate is part of keys and is read.
fn three_digits(rate: f64) -> Decimal {
    let digits = libm::floor(libm::log10(rate)) as i32;
    let unit = libm::pow(10.0, f64::from((digits - 2).max(-6)));
    let millionths = libm::round(libm::round(rate / unit) * unit * 1e6);
    Decimal::from_millionths(millionths as i64)
}

/// Index of the knee of a curve of latency over rate, in ascending order of rate: the point
/// farthest below the chord between its ends, both axes scaled to one. That is Kneedle (Satopää et
/// al. 2011, "Finding a 'Kneedle' in a Haystack") of one curve without smoothing. `None` with fewer
/// than three points, or where none lies below the chord.
pub fn knee(curve: &[(f64, f64)]) -> Option<usize> {
    let ((x0, y0), (x1, y1)) = (*curve.first()?, *curve.last()?);
    if curve.len() < 3 || x1 <= x0 || y1 <= y0 {
        return None;
    }
    let below = |(x, y): (f64, f64)| (x - x0) / (x1 - x0) - (y - y0) / (y1 - y0);
    let farthest = (1..curve.len() - 1).max_by(|a, b| {
        below(curve[*a]).partial_cmp(&below(curve[*b])).unwrap_or(Ordering::Equal)
    })?;
    (below(curve[farthest]) > 0.0).then_some(farthest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Decimal {
        text.parse().expect("a decimal")
    }

    /// Every rate that is tried of a server with that capacity.
    fn search(first: Decimal, precision_percent: u32, capacity: f64) -> Vec<Tried> {
        let mut tried = Vec::new();
        while let Some(rate) = next(first, precision_percent, &tried) {
            tried.push(Tried { rate, kept: rate.to_f64() <= capacity });
        }
        tried
    }

    #[test]
    fn a_ladder_then_bisection() {
        let rates: Vec<String> =
            search(rate("4"), 5, 22.0).iter().map(|tried| tried.rate.to_string()).collect();
        assert_eq!(rates, ["4", "8", "16", "32", "22.6", "19", "20.7", "21.6"]);
        let down: Vec<String> =
            search(rate("4"), 20, 1.2).iter().map(|tried| tried.rate.to_string()).collect();
        assert_eq!(down, ["4", "2", "1", "1.41", "1.19"]);
    }

    #[test]
    fn a_search_without_an_end_ends() {
        let tried = search(rate("1"), 5, f64::INFINITY);
        assert_eq!(Bracket::of(&tried), Bracket { kept: Some(rate("1020")), broken: None });
        assert_eq!(Bracket::of(&search(rate("1"), 5, 0.0)).kept, None);
    }

    #[test]
    fn luck_above_a_rate_that_broke_does_not_count() {
        let tried = [("4", true), ("8", false), ("16", true)]
            .map(|(text, kept)| Tried { rate: rate(text), kept });
        let bracket = Bracket { kept: Some(rate("4")), broken: Some(rate("8")) };
        assert_eq!(Bracket::of(&tried), bracket);
    }

    #[test]
    fn the_knee_is_where_latency_takes_off() {
        // A queue with one server: latency 1 / (1 - rate).
        let curve: Vec<_> =
            (0..25).map(|i| f64::from(i) / 25.0).map(|x| (x, 1.0 / (1.0 - x))).collect();
        assert_eq!(knee(&curve).map(|index| curve[index].0), Some(0.8));
        assert_eq!(knee(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), None, "a line has none");
        assert_eq!(knee(&curve[..2]), None);
    }

    proptest! {
        #[test]
        fn the_capacity_lies_in_a_narrow_bracket(
            first in 1_i64..100_000_000,
            capacity in 0.01..1000.0_f64,
            precision in 1_u32..30,
        ) {
            let first = Decimal::from_millionths(first);
            let tried = search(first, precision, capacity);
            prop_assert!(tried.len() < 40, "{} rates", tried.len());
            if let Bracket { kept: Some(kept), broken: Some(broken) } = Bracket::of(&tried) {
                let (kept, broken) = (kept.to_f64(), broken.to_f64());
                prop_assert!(kept <= capacity && capacity < broken);
                // Three digits are one percent at worst, and one millionth is the smallest step.
                let wide = 1.0 + f64::from(precision.max(2)) / 100.0;
                prop_assert!(broken / kept <= wide || broken - kept <= 2.1e-6);
            }
        }
    }
}
