//! Looks at a comparison before all of its starts are made, and the error that each may spend.

use super::{LEVEL, student};

/// Points on which the distribution of a comparison that goes on is held.
const POINTS: usize = 400;

/// When a comparison is looked at, in starts a side.
#[derive(Clone, Debug, PartialEq)]
pub struct Looks {
    starts: Vec<u32>,
    levels: Vec<f64>,
}

impl Looks {
    /// Looks from `min` to `max` starts: 3, 5, 7 and 10 of 3 to 10. One look where both are the same.
    pub fn between(min: u32, max: u32) -> Self {
        let (min, max) = (min.max(1), max.max(min).max(1));
        let steps = if max == min { 0 } else { (max - min).div_ceil(2).min(3) };
        let at = |step: u32| min + ((max - min) * step) / steps.max(1);
        let mut starts: Vec<u32> = (0..=steps).map(at).collect();
        starts.dedup();
        let levels = levels(&starts);
        Self { starts, levels }
    }

    /// In starts a side, ascending.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// The level at which each question is tested with so many starts a side: that of the last look
    /// that they reach, of the first one before it.
    pub fn level(&self, starts: u32) -> f64 {
        let passed = self.starts.partition_point(|look| *look <= starts);
        self.levels[passed.max(1) - 1]
    }

    /// Starts a side of the next look; `None` after the last one.
    pub fn next(&self, starts: u32) -> Option<u32> {
        self.starts.iter().copied().find(|look| *look > starts)
    }
}

/// Two-sided levels of a normal test at each look, after so many starts, that together reject equals
/// with a probability of [`LEVEL`].
///
/// Of that, looks spend the square of the share of starts that they have (Lan and DeMets 1983,
/// "Discrete sequential boundaries for clinical trials"; Kim and DeMets 1987), so that a large change
/// is found early and the last look keeps nearly all. By the recursion of Armitage, McPherson and Rowe
/// (1969) over the sum of what starts said.
pub fn levels(starts: &[u32]) -> Vec<f64> {
    let last = f64::from(*starts.last().expect("a look"));
    let mut levels = Vec::new();
    // The density of the sum, while no look has rejected; at first all of it lies at 0.
    let mut going: Vec<(f64, f64)> = vec![(0.0, 1.0)];
    let (mut made, mut spent) = (0.0, 0.0);
    for starts in starts {
        let starts = f64::from(*starts);
        let to_spend = LEVEL * (starts / last) * (starts / last) - spent;
        let deviation = libm::sqrt(starts - made);
        let beyond = |bound: f64| -> f64 {
            let tails = |s: f64| upper((bound - s) / deviation) + upper((bound + s) / deviation);
            going.iter().map(|(s, mass)| mass * tails(*s)).sum()
        };
        let bound = student::root_of_falling(|bound| beyond(bound) - to_spend);
        levels.push(student::two_sided_p(bound / libm::sqrt(starts), f64::INFINITY));
        let step = 2.0 * bound / POINTS as f64;
        let density = |s: f64| -> f64 {
            let normal = |z: f64| libm::exp(-z * z / 2.0) / libm::sqrt(2.0 * core::f64::consts::PI);
            going.iter().map(|(from, mass)| mass * normal((s - from) / deviation) / deviation).sum()
        };
        let points = (0..POINTS).map(|i| -bound + (i as f64 + 0.5) * step);
        going = points.map(|s| (s, density(s) * step)).collect();
        (made, spent) = (starts, spent + to_spend);
    }
    levels
}

/// Upper tail of the normal distribution.
fn upper(z: f64) -> f64 {
    libm::erfc(z * core::f64::consts::FRAC_1_SQRT_2) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Random;

    #[test]
    fn looks_lie_between_the_fewest_and_the_most_starts() {
        assert_eq!(Looks::between(3, 10).starts(), [3, 5, 7, 10]);
        assert_eq!(Looks::between(3, 3).starts(), [3]);
        assert_eq!(Looks::between(2, 4).starts(), [2, 4]);
        let looks = Looks::between(3, 10);
        assert_eq!((looks.next(2), looks.next(3), looks.next(10)), (Some(3), Some(5), None));
        assert_eq!(looks.level(4), looks.level(3));
        assert!(looks.level(3) < looks.level(5) && looks.level(10) < LEVEL);
    }

    #[test]
    fn one_look_spends_everything() {
        assert!((levels(&[3])[0] - LEVEL).abs() < 1e-9);
    }

    #[test]
    fn equals_are_rejected_at_any_look_as_often_as_allowed() {
        let looks = Looks::between(3, 10);
        let mut random = Random::new(5, 0);
        let trials = 100_000;
        let rejected = (0..trials).filter(|_| {
            let sums: Vec<f64> = (0..10)
                .scan(0.0, |sum, _| {
                    *sum += random.normal();
                    Some(*sum)
                })
                .collect();
            looks.starts().iter().any(|n| {
                let z = sums[*n as usize - 1] / f64::from(*n).sqrt();
                student::two_sided_p(z, f64::INFINITY) <= looks.level(*n)
            })
        });
        let share = rejected.count() as f64 / f64::from(trials);
        assert!((share - LEVEL).abs() < 0.002, "{share}");
    }
}
