//! The spread between server starts, and what other settings say of it.
//!
//! Three starts tell little of their own spread. Smyth (2004, "Linear models and empirical Bayes
//! methods for assessing differential expression") shrinks a variance towards that of its kind: the
//! variance of a setting is taken to be `variance · freedom / χ²(freedom)`. How alike settings are,
//! the prior's `freedom`, is not known either: [`Prior`] holds a few candidates, each as likely as the
//! settings measured so far make it, so that settings that spread unequally are not pooled.

/// Candidates for the degrees of freedom of the prior, from settings with little in common to those with
/// one spread, and how far each is believed before anything was measured.
const ALIKE: [(f64, f64); 3] = [(2.0, 0.25), (8.0, 0.25), (f64::INFINITY, 0.5)];

/// Settings of one load, those that are looked at included, without which nothing is borrowed: two beside any two
/// that are compared, since a single one says nothing of how alike settings are, which decides how much it says.
/// Of single figures it is the same number, so that a figure borrows where its changes do.
const SETTINGS_MIN: usize = 4;

/// Steps to the likeliest variance of a kind; each multiplies the distance by less than 1.
const STEPS: u32 = 30;

/// One server start under one load: the values of one metric, one a repeat.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Which block of starts it belongs to; `None` where starts were not made in blocks.
    pub block: Option<u32>,
    /// In the order of the load's repeats.
    pub repeats: Vec<f64>,
}

impl Start {
    /// A start of no block that measured once.
    pub fn single(value: f64) -> Self {
        Self { block: None, repeats: vec![value] }
    }
}

/// How much the starts of one setting differ in one metric on one load, on the scale on which changes
/// are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Variance of a start's mean over its repeats.
    pub variance: f64,
    /// Degrees of freedom of that.
    pub freedom: f64,
    /// Repeats of a start, on average.
    pub repeats: f64,
    /// Variance of one repeat within a start.
    pub within: f64,
    /// Degrees of freedom of that; 0 without repeats.
    pub within_freedom: f64,
}

impl Spread {
    /// Of starts given by their repeats; `None` of fewer than two.
    pub fn of(starts: &[Vec<f64>]) -> Option<Self> {
        let means: Vec<f64> = starts.iter().map(|start| mean(start)).collect();
        let n = starts.len() as f64;
        let repeats = starts.iter().map(Vec::len).sum::<usize>() as f64;
        if starts.len() < 2 || starts.iter().any(Vec::is_empty) {
            return None;
        }
        let (within, within_freedom) = within(starts);
        Some(Self {
            variance: squares(&means) / (n - 1.0),
            freedom: n - 1.0,
            repeats: repeats / n,
            within,
            within_freedom,
        })
    }

    /// The variance with another number of repeats, where that of a repeat is known.
    fn with_repeats(&self, repeats: f64, within: f64) -> f64 {
        let between = (self.variance - within / self.repeats).max(0.0);
        if within == 0.0 || repeats == self.repeats {
            self.variance
        } else {
            between + within / repeats
        }
    }
}

/// Variance between repeats of one start, and its degrees of freedom. Repeats have requests of their
/// own, the same in every start: what differs between repeats in all starts alike is no noise.
fn within(starts: &[Vec<f64>]) -> (f64, f64) {
    let repeats = starts[0].len();
    let is_whole = starts.iter().all(|start| start.len() == repeats);
    let freedom = (starts.len() as f64 - 1.0) * (repeats as f64 - 1.0);
    if !is_whole || freedom <= 0.0 {
        return (0.0, 0.0);
    }
    let columns: Vec<f64> = (0..repeats)
        .map(|i| starts.iter().map(|start| start[i]).sum::<f64>() / starts.len() as f64)
        .collect();
    let grand = mean(&columns);
    let residual = |start: &Vec<f64>| -> f64 {
        let of_start = mean(start);
        start
            .iter()
            .zip(&columns)
            .map(|(v, column)| v - of_start - column + grand)
            .map(|r| r * r)
            .sum()
    };
    (starts.iter().map(residual).sum::<f64>() / freedom, freedom)
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The mean; of equal values exactly that, whatever a sum would round to.
pub(super) fn exact_mean(values: &[f64]) -> f64 {
    if values.iter().all(|value| *value == values[0]) { values[0] } else { mean(values) }
}

/// Sum of squares around the mean; exactly 0 of equal values.
pub(super) fn squares(values: &[f64]) -> f64 {
    if values.iter().all(|value| *value == values[0]) {
        return 0.0;
    }
    let mean = mean(values);
    values.iter().map(|value| (value - mean) * (value - mean)).sum()
}

/// Variance of a repeat over several settings; 0 where nobody repeated.
pub(super) fn pooled_within<'a>(spreads: impl Iterator<Item = &'a Spread> + Clone) -> f64 {
    let freedom: f64 = spreads.clone().map(|spread| spread.within_freedom).sum();
    if freedom == 0.0 {
        return 0.0;
    }
    spreads.map(|spread| spread.within * spread.within_freedom).sum::<f64>() / freedom
}

/// Variances of settings as starts with so many repeats have them, each with its degrees of freedom.
fn entries(spreads: &[Spread], repeats: f64, own_within: f64) -> Vec<(f64, f64)> {
    let pooled = pooled_within(spreads.iter());
    let within = if pooled > 0.0 { pooled } else { own_within };
    let entry = |spread: &Spread| (spread.with_repeats(repeats, within), spread.freedom);
    spreads.iter().map(entry).filter(|(variance, _)| *variance > 0.0).collect()
}

/// Whether so many settings lend to others (`own`): these spreads of them but those of no variance, which measure
/// none, such as a counter that stayed at 0.
pub fn are_enough(lent: &[Spread], own: usize) -> bool {
    lent.iter().filter(|spread| spread.variance > 0.0).count() + own >= SETTINGS_MIN
}

/// What other settings say of the variance between starts before a setting is looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prior([Candidate; ALIKE.len()]);

/// One answer, and how likely it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    log_likelihood: f64,
    variance: f64,
    /// Of the variance of a setting that was not looked at: less where few settings were.
    freedom: f64,
}

/// A variance, how well it is known, and how likely it is to be meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moderated {
    pub(super) weight: f64,
    pub(super) variances: [f64; 2],
    /// Of each side's variance, the prior's included.
    pub(super) freedoms: [f64; 2],
    /// At most so many in all: both sides borrow from the same settings.
    pub(super) freedom_max: f64,
}

impl Prior {
    /// Of what is lent to so many settings; `None` where they borrow nothing.
    pub(super) fn new(lent: &[Spread], own: usize, repeats: f64, own_within: f64) -> Option<Self> {
        if !are_enough(lent, own) {
            return None;
        }
        let lenders = entries(lent, repeats, own_within);
        let settings = lenders.len() as f64;
        let mean_freedom = lenders.iter().map(|(_, freedom)| freedom).sum::<f64>() / settings;
        let candidates = ALIKE.map(|(alike, belief)| {
            let (variance, log_likelihood) = likeliest(&lenders, alike);
            // Its own uncertainty on top of that of a setting that is unlike others.
            let uncertainty = 1.0 / alike + (1.0 / alike + 1.0 / mean_freedom) / settings;
            Candidate {
                log_likelihood: libm::log(belief) + log_likelihood,
                // Where settings differ, their mean variance is above the typical one.
                variance: variance * (1.0 + 1.0 / alike),
                freedom: 1.0 / uncertainty,
            }
        });
        Some(Self(candidates))
    }

    /// The variances of two sides as they are now known, candidate by candidate; `own` are the sides'
    /// variances with their degrees of freedom, and those of a single entry hold for both.
    pub(super) fn moderate(&self, own: &[(f64, f64)]) -> Vec<Moderated> {
        let of = |candidate: &Candidate| {
            let Candidate { variance, freedom, .. } = *candidate;
            let fit: f64 = own.iter().map(|(v, d)| log_f_density(v / variance, *d, freedom)).sum();
            let shrunk = |(v, d): (f64, f64)| (freedom * variance + d * v) / (freedom + d);
            let (a, b) = (own[0], own[own.len() - 1]);
            Moderated {
                weight: candidate.log_likelihood + fit,
                variances: [shrunk(a), shrunk(b)],
                freedoms: [freedom + a.1, freedom + b.1],
                freedom_max: freedom + own.iter().map(|(_, d)| d).sum::<f64>(),
            }
        };
        let mut moderated: Vec<Moderated> = self.0.iter().map(of).collect();
        let most = moderated.iter().map(|m| m.weight).fold(f64::NEG_INFINITY, f64::max);
        moderated.iter_mut().for_each(|m| m.weight = libm::exp(m.weight - most));
        let all: f64 = moderated.iter().map(|m| m.weight).sum();
        moderated.iter_mut().for_each(|m| m.weight /= all);
        moderated
    }
}

/// The likeliest variance of a kind of which these were seen, each with its degrees of freedom, and the
/// logarithm of the likelihood, with the variance integrated out (Laplace's approximation).
fn likeliest(entries: &[(f64, f64)], alike: f64) -> (f64, f64) {
    let freedom: f64 = entries.iter().map(|(_, d)| d).sum();
    let mut variance = entries.iter().map(|(v, d)| v * d).sum::<f64>() / freedom;
    if alike.is_finite() {
        for _ in 0..STEPS {
            let weighed = |(v, d): &(f64, f64)| (d + alike) * d * v / (alike + d * v / variance);
            variance = entries.iter().map(weighed).sum::<f64>() / freedom;
        }
    }
    let curvature: f64 = entries
        .iter()
        .map(|(v, d)| {
            let u = d * v / (alike * variance);
            if alike.is_finite() {
                (d + alike) / 2.0 * u / ((1.0 + u) * (1.0 + u))
            } else {
                d * v / variance / 2.0
            }
        })
        .sum();
    let density: f64 = entries
        .iter()
        .map(|(v, d)| log_f_density(v / variance, *d, alike) - libm::log(variance))
        .sum();
    (variance, density - libm::log(curvature) / 2.0)
}

/// Logarithm of the density of an F-distributed ratio; `below` may be infinite.
fn log_f_density(ratio: f64, above: f64, below: f64) -> f64 {
    // A spread of exactly nothing is taken for very little, which has a density.
    let ratio = ratio.max(1e-6);
    let half = above / 2.0;
    let shape = (half - 1.0) * libm::log(ratio);
    if !below.is_finite() {
        return half * libm::log(half) - libm::lgamma(half) + shape - half * ratio;
    }
    let beta = libm::lgamma(half) + libm::lgamma(below / 2.0) - libm::lgamma(half + below / 2.0);
    half * libm::log(above / below) - beta + shape
        - (half + below / 2.0) * libm::log1p(above * ratio / below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spread(variance: f64, freedom: f64) -> Spread {
        Spread { variance, freedom, repeats: 1.0, within: 0.0, within_freedom: 0.0 }
    }

    fn prior(spreads: &[Spread], own: usize) -> Option<Prior> {
        Prior::new(spreads, own, 1.0, 0.0)
    }

    /// The likeliest answer of a prior to a setting with that variance: weight and variance.
    fn likeliest_answer(history: &[Spread], own: (f64, f64)) -> (f64, f64) {
        let answers = prior(history, 2).expect("spreads").moderate(&[own]);
        let weight: f64 = answers.iter().map(|answer| answer.weight).sum();
        let mean = answers.iter().map(|answer| answer.weight * answer.variances[0]).sum();
        (weight, mean)
    }

    #[test]
    fn a_variance_is_shrunk_towards_those_of_its_kind() {
        let alike = [spread(1.0, 4.0), spread(1.1, 4.0), spread(0.9, 4.0), spread(1.0, 4.0)];
        let (weight, shrunk) = likeliest_answer(&alike, (2.0, 2.0));
        assert!((weight - 1.0).abs() < 1e-12 && shrunk > 1.0 && shrunk < 1.5, "{shrunk}");
        let unlike = [spread(1.0, 4.0), spread(30.0, 4.0), spread(0.05, 4.0), spread(4.0, 4.0)];
        let far = likeliest_answer(&alike, (50.0, 2.0)).1;
        let free = likeliest_answer(&unlike, (50.0, 2.0)).1;
        assert!(free > far && far > 5.0, "what is unlike is not pooled over: {free} {far}");
    }

    /// Of one setting nobody knows whether the sides are like it: with spreads of 1 to 3 it made equals
    /// better or worse twice as often as it should. A figure borrows where its changes do.
    #[test]
    fn two_settings_must_be_left_beside_any_two() {
        let [one, still] = [spread(1.0, 2.0), spread(0.0, 2.0)];
        assert_eq!(prior(&[], 2), None);
        assert_eq!(prior(&[one], 2), None);
        assert_eq!(prior(&[one, still], 2), None, "without a variance it says nothing");
        assert!(prior(&[one, one], 2).is_some());
        assert_eq!(prior(&[one, one], 1), None);
        assert!(prior(&[one, one, one], 1).is_some());
    }

    #[test]
    fn repeats_divide_the_variance_within_a_start() {
        // Three starts at 0, 2 and 4; the second repeat's requests take 10 longer everywhere.
        let starts = [vec![1.0, 9.0], vec![1.0, 13.0], vec![5.0, 13.0]];
        let spread = Spread::of(&starts).expect("starts");
        assert_eq!((spread.variance, spread.freedom, spread.within_freedom), (4.0, 2.0, 2.0));
        // Deviations from start and repeat: ±1/3 and ±4/3 of what the means leave over.
        assert!((spread.within - 8.0 / 3.0).abs() < 1e-12, "{spread:?}");
        let with_8 = spread.with_repeats(8.0, spread.within);
        assert!((with_8 - (4.0 - 8.0 / 6.0 + 1.0 / 3.0)).abs() < 1e-12, "{with_8}");
    }

    proptest! {
        #[test]
        fn units_do_not_matter(
            history in prop::collection::vec((0.01..10.0_f64, 1.0..9.0_f64), 2..6),
            own in (0.01..10.0_f64, 1.0..9.0_f64),
        ) {
            let of = |unit: f64| {
                let history: Vec<_> = history.iter().map(|(v, d)| spread(v * unit, *d)).collect();
                likeliest_answer(&history, (own.0 * unit, own.1)).1 / unit
            };
            prop_assert!((of(1.0) / of(1e4) - 1.0).abs() < 1e-6);
        }

        #[test]
        fn a_likeliest_variance_lies_among_those_seen(
            entries in prop::collection::vec((0.01..10.0_f64, 1.0..9.0_f64), 1..6),
        ) {
            let (low, high) = entries.iter().fold((f64::MAX, 0.0_f64), |(low, high), (v, _)| {
                (low.min(*v), high.max(*v))
            });
            for (alike, _) in ALIKE {
                let (variance, _) = likeliest(&entries, alike);
                prop_assert!(variance >= low * 0.999 && variance <= high * 1.001);
            }
        }
    }
}
