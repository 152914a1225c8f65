//! Student's t with any degrees of freedom, and the power of a test by it.

/// Halvings of the interval in which a quantile is looked for: all that 53 bits can tell.
const HALVINGS: u32 = 53;

/// Beyond so many degrees of freedom t is normal to nine digits.
const NORMAL_FROM: f64 = 1e9;

/// Probability of a `t` at least this far from 0, on either side. `freedom` is above 0, and may be
/// infinite.
pub fn two_sided_p(t: f64, freedom: f64) -> f64 {
    let t = t.abs();
    if freedom >= NORMAL_FROM {
        return libm::erfc(t * core::f64::consts::FRAC_1_SQRT_2);
    }
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t))
}

/// The `t` that is exceeded on either side with this probability.
pub fn critical(two_sided: f64, freedom: f64) -> f64 {
    root_of_falling(|t| two_sided_p(t, freedom) - two_sided)
}

/// Where a function that falls from above 0 at 0 reaches 0.
pub(super) fn root_of_falling(f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while f(high) > 0.0 {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if f(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
        if high - low <= 1e-12 * high {
            break;
        }
    }
    f64::midpoint(low, high)
}

/// The smallest effect, in standard errors, that exceeds this critical value with the probability
/// whose one-sided normal quantile is `power_z`.
///
/// Abramowitz and Stegun (1964), 26.7.10: the normal approximation of the noncentral t.
pub fn detectable(critical: f64, freedom: f64, power_z: f64) -> f64 {
    critical * (1.0 - 0.25 / freedom)
        + power_z * libm::sqrt(1.0 + critical * critical / (2.0 * freedom))
}

/// Regularised incomplete beta function at `x`, with `y = 1 - x`, by its continued fraction (Lentz's
/// method; Abramowitz and Stegun, 26.5.8).
fn incomplete_beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 || y <= 0.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let log_front = a * libm::log(x) + b * libm::log(y) + libm::lgamma(a + b)
        - libm::lgamma(a)
        - libm::lgamma(b);
    let front = libm::exp(log_front);
    if x < (a + 1.0) / (a + b + 2.0) {
        front * continued_fraction(a, b, x) / a
    } else {
        1.0 - front * continued_fraction(b, a, y) / b
    }
}

fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_0 = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_0(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_0(1.0 + term * d);
            c = away_from_0(1.0 + term / c);
            step = c * d;
            fraction *= step;
        }
        if (step - 1.0).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Random;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, two_sided, expected) in [
            (1.0, 0.05, 12.706_205),
            (2.0, 0.05, 4.302_653),
            (3.0, 0.05, 3.182_446),
            (4.0, 0.05, 2.776_445),
            (5.0, 0.05, 2.570_582),
            (30.0, 0.05, 2.042_272),
            (4.0, 0.10, 2.131_847),
            (4.0, 0.001, 8.610_302),
            (7.0, 0.001, 5.407_883),
            (1000.0, 0.05, 1.962_339),
            (f64::INFINITY, 0.05, 1.959_964),
        ] {
            let found = critical(two_sided, freedom);
            assert!((found / expected - 1.0).abs() < 1e-6, "{freedom} {two_sided}: {found}");
            assert!((two_sided_p(found, freedom) - two_sided).abs() < 1e-11);
        }
        assert_eq!(two_sided_p(0.0, 7.0), 1.0);
    }

    /// Of 2 and 4 degrees the distribution function is an algebraic one; in between it lies between.
    #[test]
    fn fractions_of_a_degree_lie_between_whole_ones() {
        let t = 3.0_f64;
        let of_2 = 1.0 - t / (2.0 + t * t).sqrt();
        assert!((two_sided_p(t, 2.0) - of_2).abs() < 1e-14);
        let p = [2.0, 2.3, 2.7, 3.0].map(|freedom| two_sided_p(t, freedom));
        assert!(p.windows(2).all(|pair| pair[0] > pair[1]), "{p:?}");
    }

    #[test]
    fn power_is_how_often_a_test_finds_the_effect() {
        let mut random = Random::new(3, 0);
        for (starts, two_sided) in [(3, 0.05), (3, 0.003), (5, 0.003)] {
            let freedom = 2 * starts - 2;
            let critical = critical(two_sided, f64::from(freedom));
            let effect = detectable(critical, f64::from(freedom), 1.281_552);
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
