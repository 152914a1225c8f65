//! Student's t with whole degrees of freedom, and the power of a test by it.

use core::f64::consts::PI;

/// Halvings of the interval in which a quantile is looked for: all that 53 bits can tell.
const HALVINGS: u32 = 53;

/// Probability of a `t` at least this far from 0, on either side. `freedom` is at least 1.
///
/// Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
pub fn two_sided_p(t: f64, freedom: u32) -> f64 {
    let angle = libm::atan2(t.abs(), libm::sqrt(f64::from(freedom)));
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let is_odd = freedom % 2 == 1;
    let mut term = if is_odd { cos } else { 1.0 };
    let mut sum = if freedom == 1 { 0.0 } else { term };
    for j in (if is_odd { 3 } else { 2 }..=freedom.saturating_sub(2)).step_by(2) {
        term *= f64::from(j - 1) / f64::from(j) * cos * cos;
        sum += term;
    }
    let within = if is_odd { 2.0 / PI * (angle + sin * sum) } else { sin * sum };
    (1.0 - within).clamp(0.0, 1.0)
}

/// The `t` that is exceeded on either side with this probability.
pub fn critical(two_sided: f64, freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_sided_p(high, freedom) > two_sided {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if two_sided_p(middle, freedom) > two_sided { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The smallest effect, in standard errors, that exceeds this critical value with the probability
/// whose one-sided normal quantile is `power_z`.
///
/// Abramowitz and Stegun (1964), 26.7.10: the normal approximation of the noncentral t.
pub fn detectable(critical: f64, freedom: u32, power_z: f64) -> f64 {
    let freedom = f64::from(freedom);
    critical * (1.0 - 0.25 / freedom)
        + power_z * libm::sqrt(1.0 + critical * critical / (2.0 * freedom))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Random;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, two_sided, expected) in [
            (1, 0.05, 12.706_205),
            (2, 0.05, 4.302_653),
            (3, 0.05, 3.182_446),
            (4, 0.05, 2.776_445),
            (5, 0.05, 2.570_582),
            (30, 0.05, 2.042_272),
            (4, 0.10, 2.131_847),
            (4, 0.001, 8.610_302),
            (7, 0.001, 5.407_883),
            (1000, 0.05, 1.962_339),
        ] {
            let found = critical(two_sided, freedom);
            assert!((found / expected - 1.0).abs() < 1e-6, "{freedom} {two_sided}: {found}");
            assert!((two_sided_p(found, freedom) - two_sided).abs() < 1e-12);
        }
        assert_eq!(two_sided_p(0.0, 7), 1.0);
    }

    #[test]
    fn power_is_how_often_a_test_finds_the_effect() {
        let mut random = Random::new(3, 0);
        for (starts, two_sided) in [(3, 0.05), (3, 0.003), (5, 0.003)] {
            let freedom = 2 * starts - 2;
            let critical = critical(two_sided, freedom);
            let effect = detectable(critical, freedom, 1.281_552);
            let trials = 20_000;
            let found = (0..trials).filter(|_| {
                let chi: f64 = (0..freedom).map(|_| random.normal()).map(|z| z * z).sum();
                let spread = libm::sqrt(chi / f64::from(freedom));
                (effect + random.normal()) / spread > critical
            });
            let share = found.count() as f64 / f64::from(trials);
            assert!((share - 0.9).abs() < 0.015, "{starts} {two_sided}: {share}");
        }
    }
}
