//! Random numbers that are the same on every machine and in every version of this program.
//!
//! ChaCha8's stream is fixed by its definition; the distributions are ours, because those of
//! other crates may change between releases, and use `libm` for logarithms.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A seeded stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream `stream` of `seed`; streams of one seed are independent, so that drawing more
    /// of one (lengths, say) does not shift another (arrivals).
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Any 64-bit number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`, a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in `0..bound`, by multiply and shift; the bias is under `bound`/2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `low..=high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        debug_assert!(low <= high);
        low + self.below(u64::from(high - low) + 1) as u32
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.uniform())
    }

    /// Standard normal, by Box and Muller (1958).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(2.0 * core::f64::consts::PI * self.uniform())
    }

    /// Gamma with the given shape and mean 1, by Marsaglia and Tsang (2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        debug_assert!(shape > 0.0);
        // Below 1 the method draws with shape + 1 and scales back by a power of a uniform.
        let boost = if shape < 1.0 { libm::pow(1.0 - self.uniform(), 1.0 / shape) } else { 1.0 };
        let drawn = if shape < 1.0 { shape + 1.0 } else { shape };
        let d = drawn - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
            if v > 0.0
                && libm::log(1.0 - self.uniform()) < 0.5 * x * x + d - d * v + d * libm::log(v)
            {
                return d * v * boost / shape;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_cv(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 100_000;
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / f64::from(n);
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn the_stream_is_fixed() {
        let mut random = Random::new(7, 0);
        let first: Vec<u64> = (0..3).map(|_| random.below(1_000_000)).collect();
        insta::assert_debug_snapshot!(first);
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut random = Random::new(1, 0);
        let (mean, cv) = mean_and_cv(|| random.exponential());
        assert!((mean - 1.0).abs() < 0.02 && (cv - 1.0).abs() < 0.02, "{mean} {cv}");
        for shape in [0.25, 1.0, 4.0] {
            let (mean, cv) = mean_and_cv(|| random.gamma(shape));
            let expected = 1.0 / f64::sqrt(shape);
            assert!(
                (mean - 1.0).abs() < 0.03 && (cv / expected - 1.0).abs() < 0.03,
                "{shape}: {mean} {cv}"
            );
        }
    }

    #[test]
    fn bounds_are_kept() {
        let mut random = Random::new(1, 2);
        let drawn: Vec<u32> = (0..1000).map(|_| random.between(3, 5)).collect();
        assert!(drawn.iter().all(|n| (3..=5).contains(n)));
        assert!([3, 4, 5].iter().all(|n| drawn.contains(n)));
        assert_eq!(random.between(9, 9), 9);
    }
}
