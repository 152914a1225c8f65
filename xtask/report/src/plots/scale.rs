//! From values to a position along an axis, with ticks that people like.

use super::number::{grouped, plain};

/// Beyond this ratio of largest to smallest, a logarithmic axis shows more.
const LOG_RATIO: f64 = 8.0;
/// Most ticks on a linear axis, more or less.
const TICKS: u32 = 7;

/// An axis: a range of values, and ticks within it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// From `low` to `high`, with about `count` ticks at multiples of 1, 2 or 5.
    pub fn linear(low: f64, high: f64, count: u32) -> Self {
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        let (step, decimals) = step((high - low) / f64::from(count.max(1)));
        let first = (low / step - 1e-9).ceil();
        let ticks = (0..=2 * count)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|tick| *tick <= high + step * 1e-9)
            .map(|tick| (tick, tick_label(tick, step, decimals)))
            .collect();
        Self { low, high, log: false, ticks }
    }

    /// Over the values, from 0 or, when they lie close together, around them; `headroom` is the
    /// share of the axis kept free above them.
    pub fn around(values: &[f64], from_zero: bool, headroom: f64) -> Self {
        if values.is_empty() {
            return Self { low: 0.0, high: 1.0, log: false, ticks: Vec::new() };
        }
        let (low, high) = range(values);
        if from_zero || low < 0.6 * high || high <= 0.0 {
            let low = low.min(0.0);
            return Self::linear(low, low + (high.max(0.0) - low) / (1.0 - headroom), TICKS);
        }
        let margin = (high - low).max(high * 0.02) * 0.4;
        Self::linear(low - margin, high + margin.max((high - low + margin) * headroom), TICKS)
    }

    /// Logarithmic over the values where they span a lot and are positive, else from 0.
    pub fn fitting(values: &[f64], headroom: f64) -> Self {
        let (low, high) = range(&reached(values));
        if Self::spans_much(values) {
            Self::log(low, high, headroom)
        } else {
            Self::around(values, true, headroom)
        }
    }

    /// Whether the values span so much that only a logarithmic axis shows them.
    pub fn spans_much(values: &[f64]) -> bool {
        let (low, high) = range(&reached(values));
        low > 0.0 && high / low >= LOG_RATIO
    }

    /// Logarithmic over positive values, however little they span.
    pub fn logarithmic(values: &[f64], headroom: f64) -> Self {
        let (low, high) = range(&reached(values));
        if low > 0.0 {
            Self::log(low, high.max(3.0 * low), headroom)
        } else {
            Self::around(values, true, headroom)
        }
    }

    /// Logarithmic, from the tick below `low`, with room above `high`.
    fn log(low: f64, high: f64, headroom: f64) -> Self {
        let decades = libm::log10(high / low);
        let digits: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let stride = (decades / 8.0).ceil().max(1.0) as i32;
        let first = libm::floor(libm::log10(low)) as i32;
        let last = libm::ceil(libm::log10(high)) as i32 + 1;
        let all: Vec<f64> = (first..=last)
            .filter(|power| (power - first) % stride == 0)
            .flat_map(|power| digits.iter().map(move |d| d * libm::exp10(f64::from(power))))
            .collect();
        let low = all.iter().copied().rfind(|tick| *tick <= low).unwrap_or(low);
        let high = low * libm::exp10(libm::log10(high / low) / (1.0 - headroom));
        let ticks = all
            .into_iter()
            .filter(|tick| (low..=high).contains(tick))
            .map(|tick| (tick, plain(tick)))
            .collect();
        Self { low, high, log: true, ticks }
    }

    /// Where the value lies: 0 at the low end, 1 at the high end, never beyond.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            libm::log(value.max(self.low) / self.low) / libm::log(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    /// The ticks with their labels.
    pub fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// Whether the value lies on the axis.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Whether the axis is logarithmic.
    pub fn is_log(&self) -> bool {
        self.log
    }
}

/// A tick of a linear axis; far below 1 only powers are readable.
fn tick_label(tick: f64, step: f64, decimals: usize) -> String {
    if step < 1e-4 { format!("{tick:.1e}") } else { grouped(tick, decimals) }
}

/// The values without 0, at which intervals end that no logarithmic axis reaches.
fn reached(values: &[f64]) -> Vec<f64> {
    values.iter().copied().filter(|value| *value != 0.0).collect()
}

/// The smallest and largest value; 0 and 1 without any.
fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().reduce(f64::min).unwrap_or(0.0);
    (low, values.iter().copied().reduce(f64::max).unwrap_or(1.0))
}

/// The next step of 1, 2 or 5 times a power of ten, and the decimals that show it.
fn step(raw: f64) -> (f64, usize) {
    let power = libm::floor(libm::log10(raw));
    let unit = libm::exp10(power);
    let digit = [1.0, 2.0, 5.0, 10.0].into_iter().find(|d| d * unit >= raw * 0.999).unwrap_or(10.0);
    let decimals = if digit == 10.0 { -power - 1.0 } else { -power };
    (digit * unit, decimals.clamp(0.0, 9.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks().iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        let scale = Scale::linear(0.0, 11_000.0, 7);
        assert_eq!(labels(&scale), ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
        let scale = Scale::linear(0.0, 1.0, 5);
        assert_eq!(labels(&scale), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(scale.at(0.25), 0.25);
    }

    #[test]
    fn a_wide_span_is_logarithmic() {
        let scale = Scale::fitting(&[30.0, 900.0], 0.0);
        assert!(scale.is_log());
        assert_eq!(labels(&scale), ["20", "50", "100", "200", "500"]);
        assert_eq!(scale.at(20.0), 0.0);
        assert!((scale.at(900.0) - 1.0).abs() < 1e-12);
        assert!(!Scale::fitting(&[30.0, 200.0], 0.0).is_log());
    }

    #[test]
    fn close_values_are_shown_close() {
        let scale = Scale::around(&[9_000.0, 9_500.0], false, 0.1);
        assert!(!scale.contains(0.0) && scale.contains(9_000.0) && scale.contains(9_500.0));
        assert!(Scale::around(&[5_000.0, 9_500.0], false, 0.1).contains(0.0));
    }
}
