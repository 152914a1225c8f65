//! A Gaussian process on the grid of settings (Rasmussen and Williams 2006, algorithm 2.1), whose
//! mean is the logarithm of what a simulator predicted.
//!
//! The prediction's error is modelled as a sum of four parts: a constant, one for each value of each
//! flag, one that varies smoothly along the values of a flag, and one for each setting. So a model that
//! is wrong about one value is corrected by the first setting that has the value.
//!
//! The search asks it through `view.rs` alone, once for each goal.

use libm::{exp, log, sqrt};

use crate::cholesky::Cholesky;

/// Factors on the prediction that are tried: all of it, half, nothing.
const TRUSTS: [f64; 3] = [1.0, 0.5, 0.0];
/// Correlation lengths between settings that are tried; the grid is one unit wide.
const LENGTHS: [f64; 2] = [0.3, 1.0];
/// Standard deviation of the error of one value of a flag, independent of other values.
const VALUE_SPREAD: f64 = 0.12;
/// Correlation length along the values of one flag.
const FLAG_LENGTH: f64 = 0.5;
/// Standard deviations, as logarithms, of the error along the values of a flag that are tried; below, the
/// one that is likeliest before anything was observed.
const FLAG_SPREADS: [f64; 3] = [0.03, 0.1, 0.4];
const FLAG_SPREAD: f64 = 0.1;
/// The same of the error of each setting.
const SPREADS: [f64; 4] = [0.02, 0.07, 0.25, 1.0];
const SPREAD: f64 = 0.07;
/// The same for the noise between starts.
const NOISES: [f64; 4] = [0.003, 0.012, 0.03, 0.07];
const NOISE: f64 = 0.012;
/// Standard deviation of the constant error.
const OFFSET: f64 = 0.3;

/// Where a value was, or is to be, observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Levels of the flags from 0 to 1; `None` for the defaults, which lie on no grid.
    pub(super) at: Option<&'a [f64]>,
    /// What was predicted there.
    pub(super) predicted: f64,
}

/// A value that was observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    pub(super) place: Place<'a>,
    pub(super) value: f64,
    /// Variance of the value within its start: of the mean over repeats.
    pub(super) within: f64,
}

/// What is expected of a place, without the noise of a start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

/// Hyperparameters this much less probable than the most probable ones are left out.
const IMPROBABLE: f64 = 0.03;

/// The posterior, averaged over the hyperparameters in proportion to their probability: few values
/// leave many open, and the best alone would give too narrow intervals.
pub(super) struct Process<'a> {
    places: Vec<Place<'a>>,
    fits: Vec<Fit>,
    /// Variance between starts.
    noise: f64,
}

/// What was observed, with one choice of hyperparameters of the kernel.
struct Fit {
    kernel: Kernel,
    factor: Cholesky,
    /// For each factor of [`TRUSTS`]: its probability, the factor, the mean of the residuals, and the
    /// weights of the observations.
    means: Vec<(f64, f64, f64, Vec<f64>)>,
}

#[derive(Clone, Copy)]
struct Kernel {
    length: usize,
    flag_spread: f64,
    spread: f64,
    noise: f64,
}

/// Correlations of two places: equal values, flags, and settings for each of [`LENGTHS`].
#[derive(Clone, Copy, Default)]
struct Alike {
    values: f64,
    flags: f64,
    settings: [f64; LENGTHS.len()],
}

/// Matérn 5/2.
fn matern(distance: f64, length: f64) -> f64 {
    let d = sqrt(5.0) * distance / length;
    (1.0 + d + d * d / 3.0) * exp(-d)
}

impl Alike {
    fn of(a: &Place<'_>, b: &Place<'_>) -> Self {
        match (a.at, b.at) {
            (Some(a), Some(b)) => {
                let pairs = || a.iter().zip(b);
                let distance = sqrt(pairs().map(|(a, b)| (a - b) * (a - b)).sum());
                Self {
                    values: pairs().filter(|(a, b)| a == b).count() as f64,
                    flags: pairs().map(|(a, b)| matern((a - b).abs(), FLAG_LENGTH)).sum(),
                    settings: LENGTHS.map(|length| matern(distance, length)),
                }
            }
            (None, None) => Self { values: 1.0, flags: 1.0, settings: [1.0; LENGTHS.len()] },
            _ => Self::default(),
        }
    }
}

impl Kernel {
    fn covariance(&self, alike: &Alike) -> f64 {
        OFFSET * OFFSET
            + VALUE_SPREAD * VALUE_SPREAD * alike.values
            + self.flag_spread * self.flag_spread * alike.flags
            + self.spread * self.spread * alike.settings[self.length]
    }

    /// Logarithm of the prior probability, up to a constant.
    fn belief(&self) -> f64 {
        let off = |value: f64, usual: f64| {
            let off = log(value / usual);
            -0.5 * off * off
        };
        off(self.flag_spread, FLAG_SPREAD) + off(self.spread, SPREAD) + off(self.noise, NOISE)
    }

    /// The whole grid of hyperparameters.
    fn every() -> Vec<Self> {
        let mut every = Vec::new();
        for length in 0..LENGTHS.len() {
            for flag_spread in FLAG_SPREADS {
                for spread in SPREADS {
                    for noise in NOISES {
                        every.push(Self { length, flag_spread, spread, noise });
                    }
                }
            }
        }
        every
    }
}

impl<'a> Process<'a> {
    /// Learns from values, of which there is at least one.
    pub(super) fn learn(observed: &[Observed<'a>]) -> Self {
        let places: Vec<Place<'a>> = observed.iter().map(|one| one.place).collect();
        let n = places.len();
        let mut alike = vec![Alike::default(); n * n];
        for i in 0..n {
            for j in 0..=i {
                alike[i * n + j] = Alike::of(&places[i], &places[j]);
            }
        }
        // Where nothing is predicted there is nothing to trust.
        let says_nothing = places.iter().all(|place| place.predicted == places[0].predicted);
        let trusts = if says_nothing && n > 1 { &TRUSTS[..1] } else { &TRUSTS[..] };
        let fit = |kernel: Kernel| {
            let entry = |i: usize, j: usize| {
                let own = kernel.noise * kernel.noise + observed[i].within;
                kernel.covariance(&alike[i * n + j]) + if i == j { own } else { 0.0 }
            };
            // The noise on the diagonal keeps it positive.
            let factor = Cholesky::of(n, entry, |pivot| Some(pivot.max(1e-12)));
            let factor = factor.expect("every pivot is positive");
            let belief = kernel.belief() - factor.half_log_determinant();
            let mean = |trust: &f64| {
                let rest = observed.iter().map(|one| one.value - trust * one.place.predicted);
                let rest: Vec<f64> = rest.collect();
                let mean = rest.iter().sum::<f64>() / n as f64;
                let rest: Vec<f64> = rest.iter().map(|r| r - mean).collect();
                let weights = factor.solve(&rest);
                let fit: f64 = rest.iter().zip(&weights).map(|(r, w)| r * w).sum();
                (belief - 2.0 * (1.0 - trust) - 0.5 * fit, *trust, mean, weights)
            };
            let means = trusts.iter().map(mean).collect();
            Fit { kernel, factor, means }
        };
        let mut fits: Vec<Fit> = Kernel::every().into_iter().map(fit).collect();
        let all = || fits.iter().flat_map(|fit| fit.means.iter().map(|mean| mean.0));
        let best = all().fold(f64::NEG_INFINITY, f64::max);
        for fit in &mut fits {
            fit.means.iter_mut().for_each(|mean| mean.0 = exp(mean.0 - best));
            fit.means.retain(|mean| mean.0 >= IMPROBABLE);
        }
        fits.retain(|fit| !fit.means.is_empty());
        let all: f64 = fits.iter().flat_map(|fit| fit.means.iter().map(|mean| mean.0)).sum();
        fits.iter_mut().flat_map(|fit| &mut fit.means).for_each(|mean| mean.0 /= all);
        let noise = |fit: &Fit| -> f64 {
            let weight: f64 = fit.means.iter().map(|mean| mean.0).sum();
            weight * fit.kernel.noise * fit.kernel.noise
        };
        let noise = fits.iter().map(noise).sum();
        Self { places, fits, noise }
    }

    /// Variance between starts.
    pub(super) fn noise(&self) -> f64 {
        self.noise
    }

    /// What is expected of a place.
    pub(super) fn at(&self, place: &Place<'_>) -> Expected {
        let alike: Vec<Alike> = self.places.iter().map(|known| Alike::of(known, place)).collect();
        let own = Alike::of(place, place);
        let (mut mean, mut square) = (0.0, 0.0);
        for Fit { kernel, factor, means } in &self.fits {
            let covariances: Vec<f64> = alike.iter().map(|one| kernel.covariance(one)).collect();
            let known: f64 = factor.forward(&covariances).iter().map(|v| v * v).sum();
            let variance = (kernel.covariance(&own) - known).max(1e-12);
            for (weight, trust, offset, weights) in means {
                let shift: f64 = covariances.iter().zip(weights).map(|(k, w)| k * w).sum();
                let one = trust * place.predicted + offset + shift;
                mean += weight * one;
                square += weight * (variance + one * one);
            }
        }
        Expected { mean, deviation: sqrt((square - mean * mean).max(1e-12)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wrong_prediction_is_distrusted_and_a_right_one_carries_over() {
        let levels: Vec<[f64; 1]> = (0..6).map(|i| [f64::from(i) / 5.0]).collect();
        let rising = |i: usize| i as f64 * 0.2;
        let place = |i: usize| Place { at: Some(&levels[i]), predicted: rising(i) };
        // Half as fast as predicted, everywhere alike.
        let seen = |i, value| Observed { place: place(i), value, within: 0.0 };
        let right: Vec<_> = [0, 2, 3].map(|i| seen(i, rising(i) - 0.7)).into();
        let Expected { mean, deviation } = Process::learn(&right).at(&place(5));
        assert!((mean - 0.3).abs() < 0.05 && deviation < 0.25, "{mean} ± {deviation}");
        let wrong: Vec<_> = [0, 2, 3, 4].map(|i| seen(i, -rising(i))).into();
        let mean = Process::learn(&wrong).at(&place(5)).mean;
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
                .map(|(at, value)| {
                    Observed { place: Place { at: Some(at), predicted: 0.0 }, value: *value, within: 0.0 }
                })
                .collect();
            let process = Process::learn(&observed);
            let far = Place { at: Some(&[9.0, 9.0]), predicted: 0.0 };
            for one in &observed {
                let [near, far] = [&one.place, &far].map(|place| process.at(place).deviation);
                prop_assert!(near <= far + 1e-9);
            }
        }
    }
}
