//! A Gaussian process on the grid of settings (Rasmussen and Williams 2006, algorithm 2.1), whose
//! mean is the logarithm of what a simulator predicted.

use libm::{exp, log, sqrt};

/// How much of the prediction is believed: all, half, nothing.
const TRUSTS: [f64; 3] = [1.0, 0.5, 0.0];
/// How far apart settings still resemble each other; the grid is one unit wide.
const LENGTHS: [f64; 4] = [0.25, 0.5, 1.0, 2.0];
/// How far the prediction is off from setting to setting, as a logarithm.
const SPREADS: [f64; 4] = [0.03, 0.1, 0.3, 1.0];
/// Noise between starts, as a logarithm.
const NOISES: [f64; 3] = [0.01, 0.03, 0.1];
/// How far the prediction may be off everywhere alike.
const OFFSET: f64 = 0.3;

/// Where a value was, or is to be, observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Levels of the flags from 0 to 1; `None` for the defaults, which lie on no grid.
    pub(super) at: Option<&'a [f64]>,
    /// What was predicted there.
    pub(super) predicted: f64,
}

/// Hyperparameters this much less probable than the most probable ones are left out.
const IMPROBABLE: f64 = 0.02;

/// What was observed, over the hyperparameters that explain it, by how well they do: few values
/// leave many open, and the best alone would be too sure of itself.
pub(super) struct Process<'a> {
    fits: Vec<(f64, Fit<'a>)>,
}

/// What was observed, with one choice of hyperparameters.
struct Fit<'a> {
    kernel: Kernel,
    trust: f64,
    mean: f64,
    places: Vec<Place<'a>>,
    factor: Cholesky,
    weights: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Kernel {
    length: f64,
    spread: f64,
    noise: f64,
}

impl Kernel {
    /// Matérn 5/2.
    fn covariance(&self, a: &Place<'_>, b: &Place<'_>) -> f64 {
        let alike = match (a.at, b.at) {
            (Some(a), Some(b)) => {
                let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
                let d = sqrt(5.0 * squares) / self.length;
                (1.0 + d + d * d / 3.0) * exp(-d)
            }
            (None, None) => 1.0,
            _ => 0.0,
        };
        OFFSET * OFFSET + self.spread * self.spread * alike
    }
}

impl<'a> Process<'a> {
    /// Learns from values, of which there is at least one.
    pub(super) fn learn(observed: &[(Place<'a>, f64)]) -> Self {
        let every = TRUSTS.iter().flat_map(|trust| {
            LENGTHS.iter().flat_map(move |length| {
                SPREADS.iter().flat_map(move |spread| {
                    NOISES.iter().map(move |noise| {
                        let kernel = Kernel { length: *length, spread: *spread, noise: *noise };
                        (*trust, kernel)
                    })
                })
            })
        });
        let mut fits: Vec<_> =
            every.map(|(trust, kernel)| Fit::of(observed, trust, kernel)).collect();
        let best = fits.iter().map(|(posterior, _)| *posterior).fold(f64::NEG_INFINITY, f64::max);
        fits.iter_mut().for_each(|(posterior, _)| *posterior = exp(*posterior - best));
        fits.retain(|(weight, _)| *weight >= IMPROBABLE);
        let all: f64 = fits.iter().map(|(weight, _)| weight).sum();
        fits.iter_mut().for_each(|(weight, _)| *weight /= all);
        Self { fits }
    }

    /// Mean and standard deviation at a place, without the noise of a start.
    pub(super) fn at(&self, place: &Place<'_>) -> (f64, f64) {
        let each = || self.fits.iter().map(|(weight, fit)| (weight, fit.at(place)));
        let mean: f64 = each().map(|(weight, (mean, _))| weight * mean).sum();
        let variance: f64 = each()
            .map(|(weight, (own, variance))| weight * (variance + (own - mean) * (own - mean)))
            .sum();
        (mean, sqrt(variance))
    }
}

impl<'a> Fit<'a> {
    /// The logarithm of the hyperparameters' posterior but for a constant, and the fit.
    fn of(observed: &[(Place<'a>, f64)], trust: f64, kernel: Kernel) -> (f64, Self) {
        let places: Vec<Place<'a>> = observed.iter().map(|(place, _)| *place).collect();
        let rest: Vec<f64> = observed.iter().map(|(p, y)| y - trust * p.predicted).collect();
        let mean = rest.iter().sum::<f64>() / rest.len() as f64;
        let rest: Vec<f64> = rest.iter().map(|r| r - mean).collect();
        let factor = Cholesky::of(places.len(), |i, j| {
            let noise = if i == j { kernel.noise * kernel.noise } else { 0.0 };
            kernel.covariance(&places[i], &places[j]) + noise
        });
        let weights = factor.solve(&rest);
        let fit: f64 = rest.iter().zip(&weights).map(|(r, w)| r * w).sum();
        // Few values say little: predictions are then taken to be good within some 10 %.
        let spread = log(kernel.spread / 0.1);
        let noise = log(kernel.noise / 0.01);
        let believed = -2.0 * (1.0 - trust) - 0.5 * spread * spread - 0.5 * noise * noise;
        let posterior = believed - 0.5 * fit - factor.half_log_determinant();
        (posterior, Self { kernel, trust, mean, places, factor, weights })
    }

    /// Mean and variance at a place, without the noise of a start.
    fn at(&self, place: &Place<'_>) -> (f64, f64) {
        let covariances: Vec<f64> =
            self.places.iter().map(|known| self.kernel.covariance(known, place)).collect();
        let shift: f64 = covariances.iter().zip(&self.weights).map(|(k, w)| k * w).sum();
        let known = self.factor.forward(&covariances);
        let variance =
            self.kernel.covariance(place, place) - known.iter().map(|v| v * v).sum::<f64>();
        (self.trust * place.predicted + self.mean + shift, variance.max(1e-12))
    }
}

/// The lower triangle of a factored covariance matrix, row by row.
struct Cholesky {
    rows: Vec<Vec<f64>>,
}

impl Cholesky {
    fn of(n: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
        for i in 0..n {
            let mut row = Vec::with_capacity(i + 1);
            for (j, above) in rows.iter().enumerate() {
                let dot: f64 = row.iter().zip(above).map(|(a, b): (&f64, &f64)| a * b).sum();
                row.push((entry(i, j) - dot) / above[j]);
            }
            let squares: f64 = row.iter().map(|a: &f64| a * a).sum();
            // The noise on the diagonal keeps it positive.
            row.push(sqrt((entry(i, i) - squares).max(1e-12)));
            rows.push(row);
        }
        Self { rows }
    }

    /// Solves `L x = b`.
    fn forward(&self, b: &[f64]) -> Vec<f64> {
        let mut x: Vec<f64> = Vec::with_capacity(b.len());
        for (row, b) in self.rows.iter().zip(b) {
            let dot: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            x.push((b - dot) / row[x.len()]);
        }
        x
    }

    /// Solves `L Lᵀ x = b`.
    fn solve(&self, b: &[f64]) -> Vec<f64> {
        let mut x = self.forward(b);
        for i in (0..x.len()).rev() {
            let dot: f64 = (i + 1..x.len()).map(|j| self.rows[j][i] * x[j]).sum();
            x[i] = (x[i] - dot) / self.rows[i][i];
        }
        x
    }

    fn half_log_determinant(&self) -> f64 {
        self.rows.iter().enumerate().map(|(i, row)| log(row[i])).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_factor_solves_its_system() {
        let matrix = [[4.0, 2.0, 0.6], [2.0, 5.0, 1.0], [0.6, 1.0, 3.0]];
        let x = Cholesky::of(3, |i, j| matrix[i][j]).solve(&[1.0, 2.0, 3.0]);
        for (row, expected) in matrix.iter().zip([1.0, 2.0, 3.0]) {
            let found: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn a_wrong_prediction_is_distrusted_and_a_right_one_carries_over() {
        let levels: Vec<[f64; 1]> = (0..6).map(|i| [f64::from(i) / 5.0]).collect();
        let rising = |i: usize| i as f64 * 0.2;
        let place = |i: usize| Place { at: Some(&levels[i]), predicted: rising(i) };
        // Half as fast as predicted, everywhere alike.
        let right: Vec<_> = [0, 2, 3].map(|i| (place(i), rising(i) - 0.7)).into();
        let (mean, deviation) = Process::learn(&right).at(&place(5));
        assert!((mean - 0.3).abs() < 0.05 && deviation < 0.2, "{mean} ± {deviation}");
        let wrong: Vec<_> = [0, 2, 3, 4].map(|i| (place(i), -rising(i))).into();
        let (mean, _) = Process::learn(&wrong).at(&place(5));
        assert!(mean < -0.5, "it falls, whatever was predicted: {mean}");
    }

    proptest! {
        #[test]
        fn what_was_seen_is_known(values in prop::collection::vec(-1.0..1.0_f64, 1..8)) {
            let levels: Vec<[f64; 2]> =
                (0..values.len()).map(|i| [(i % 3) as f64 / 2.0, (i / 3) as f64 / 2.0]).collect();
            let observed: Vec<_> = levels
                .iter()
                .zip(&values)
                .map(|(at, value)| (Place { at: Some(at), predicted: 0.0 }, *value))
                .collect();
            let process = Process::learn(&observed);
            let far = Place { at: Some(&[9.0, 9.0]), predicted: 0.0 };
            for (place, _) in &observed {
                prop_assert!(process.at(place).1 <= process.at(&far).1 + 1e-9);
            }
        }
    }
}
