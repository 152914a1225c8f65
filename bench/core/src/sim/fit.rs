//! From measured trials to a model: least squares on what a trial is judged by.
//!
//! A trial is simulated whole for every look at it, so nothing is assumed of how coefficients act.
//! Coefficients are positive, so their logarithms are fitted (Levenberg–Marquardt: Nocedal & Wright,
//! Numerical Optimization, 2006, ch. 10); large residuals count less than by their square (Cauchy's
//! loss), since no coefficient explains a machine's hiccup. Hosts of one kind differ in their
//! processors: trials say which host they come from, and each host has its pace.

use super::{
    Model,
    accuracy::{self, LoadKind},
    predict::{MeasuredTrial, Predictions, error, predict},
};
use crate::{
    cholesky::Cholesky,
    metric::{self, Metric},
    parallel,
    schema::{Args, Measured},
};

/// A model and what it says of the trials.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The model, on a host of middling pace.
    pub model: Model,
    /// The pace of each host, in millionths of the model's.
    pub host_paces: Vec<u64>,
    /// What it says of each trial on its host.
    pub predictions: Predictions,
    /// What a model fitted to the other configurations says of each trial: configurations are left
    /// out whole. `None` where nothing is fitted.
    pub held_out: Option<Predictions>,
}

/// Rounds of the fit; each looks at every coefficient once.
const ROUNDS: usize = 14;
/// What trials are fitted by, and the error of each that weighs as much as that of another: percent,
/// of shares points. Means alone do not tell a step within the captured graphs from one beyond them: both are
/// rare among steps of decoding. Tails do, since the longest gaps are the latter.
const FITTED: [(&str, f64); 7] = [
    ("output_tokens_per_s", 3.0),
    ("e2e_mean_ms", 7.0),
    ("ttft_p50_ms", 10.0),
    ("itl_mean_ms", 5.0),
    ("queue_share", 5.0),
    ("ttft_p95_ms", 20.0),
    ("itl_p99_ms", 20.0),
];
/// In an open loop near capacity, latency hangs on small differences in speed.
const NEAR_CAPACITY_WEIGHT: f64 = 0.3;
/// Residuals beyond it weigh less and less.
const LOSS_SCALE: f64 = 2.0;
/// Holds coefficients that no trial tells of near the start.
const PRIOR_WEIGHT: f64 = 0.15;
/// Change of a coefficient's logarithm to see what it does. Small ones would see the order of events
/// change and little else.
const PROBE: f64 = 0.06;
const STEP_MAX: f64 = 0.7;

/// What a model says as it is, at the pace that one burst of each host tells
/// ([`accuracy::pace_setters`]); without a burst at middling pace.
pub fn judge(model: &Model, trials: &[MeasuredTrial]) -> Fit {
    let setters = accuracy::pace_setters(trials);
    let host_paces = parallel::map(&setters, |setter| {
        setter.map_or(1_000_000, |index| accuracy::pace(model, &trials[index]))
    });
    let models: Vec<Model> = host_paces.iter().map(|pace| model.on_host(*pace)).collect();
    let predictions = parallel::map(trials, |trial| predict(&models[trial.host], trial));
    Fit { model: model.clone(), host_paces, predictions, held_out: None }
}

/// Fits `start` to the trials, and for each configuration to the trials of all others. With trials
/// of fewer than three configurations there is nothing to learn from: `start` is judged as it is.
pub fn fit(start: &Model, trials: &[MeasuredTrial]) -> Fit {
    let mut configurations: Vec<&Args> = trials.iter().map(|trial| &trial.args).collect();
    configurations.sort();
    configurations.dedup();
    if configurations.len() < 3 {
        return judge(start, trials);
    }
    let weight = |kind| if kind == LoadKind::NearCapacity { NEAR_CAPACITY_WEIGHT } else { 1.0 };
    let weights: Vec<f64> = accuracy::kinds(trials).into_iter().map(weight).collect();
    let whole = Problem { start, trials, weights: &weights };
    let best = whole.solve();
    let (model, host_paces) = whole.model(&best);
    let predictions = whole.predictions(&best);
    let mut held_out = predictions.clone();
    for left_out in configurations {
        let is_other = |trial: &MeasuredTrial| trial.args != *left_out;
        let weights: Vec<f64> = weights
            .iter()
            .zip(trials)
            .map(|(weight, trial)| if is_other(trial) { *weight } else { 0.0 })
            .collect();
        let others = Problem { start, trials, weights: &weights };
        let found = others.predictions(&others.solve());
        for (index, prediction) in found.into_iter().enumerate() {
            if !is_other(&trials[index]) {
                held_out[index] = prediction;
            }
        }
    }
    Fit { model, host_paces, predictions, held_out: Some(held_out) }
}

/// Trials to fit to, with what each weighs; none with a weight of 0 is looked at.
struct Problem<'a> {
    start: &'a Model,
    trials: &'a [MeasuredTrial],
    weights: &'a [f64],
}

/// Logarithms of factors: of each coefficient, then of the pace of each host beyond the first.
type Point = Vec<f64>;

impl Problem<'_> {
    fn hosts(&self) -> usize {
        self.trials.iter().map(|trial| trial.host + 1).max().unwrap_or(1)
    }

    /// The model on a host of middling pace, and the pace of each.
    fn model(&self, point: &Point) -> (Model, Vec<u64>) {
        let mut model = self.start.clone();
        let coefficients = coefficients_mut(&mut model);
        let (factors, paces) = point.split_at(coefficients.len());
        for (coefficient, log) in coefficients.into_iter().zip(factors) {
            *coefficient = libm::round(*coefficient as f64 * libm::exp(*log)) as u64;
        }
        let mean = paces.iter().sum::<f64>() / self.hosts() as f64;
        let millionths = |log: f64| libm::round(1e6 * libm::exp(log)) as u64;
        let of_hosts = [0.0].iter().chain(paces).map(|log| millionths(log - mean)).collect();
        (model.on_host(millionths(mean)), of_hosts)
    }

    fn predictions(&self, point: &Point) -> Predictions {
        let all: Vec<usize> = (0..self.trials.len()).collect();
        self.predict(point, &all)
    }

    /// What the model of a point says of some trials.
    fn predict(&self, point: &Point, indices: &[usize]) -> Predictions {
        let (model, paces) = self.model(point);
        let models: Vec<Model> = paces.iter().map(|pace| model.on_host(*pace)).collect();
        parallel::map(indices, |index| {
            let trial = &self.trials[*index];
            predict(&models[trial.host], trial)
        })
    }

    /// Residuals in units of [`FITTED`], then how far each coordinate is from the start.
    fn residuals(&self, point: &Point) -> Vec<f64> {
        let indices: Vec<usize> =
            (0..self.trials.len()).filter(|index| self.weights[*index] > 0.0).collect();
        let mut residuals = Vec::with_capacity(indices.len() * FITTED.len() + point.len());
        for (index, predicted) in indices.iter().zip(self.predict(point, &indices)) {
            for (id, unit) in FITTED {
                let metric = metric::find(id).expect("a fitted metric is one");
                let off = predicted.as_ref().ok().and_then(|predicted| {
                    residual(metric, predicted, &self.trials[*index].measured)
                });
                residuals.push(off.unwrap_or(0.0) / unit * self.weights[*index]);
            }
        }
        residuals.extend(point.iter().map(|log| log * PRIOR_WEIGHT));
        residuals
    }

    fn solve(&self) -> Point {
        let mut start = self.start.clone();
        let mut point = vec![0.0; coefficients_mut(&mut start).len() + self.hosts() - 1];
        let mut residuals = self.residuals(&point);
        let mut damping = 1.0;
        for _ in 0..ROUNDS {
            let columns: Vec<Vec<f64>> = (0..point.len())
                .map(|coordinate| {
                    let mut probe = point.clone();
                    probe[coordinate] += PROBE;
                    let moved = self.residuals(&probe);
                    moved.iter().zip(&residuals).map(|(to, from)| (to - from) / PROBE).collect()
                })
                .collect();
            let mut improved = false;
            for _ in 0..4 {
                let Some(step) = damped_step(&columns, &residuals, damping) else { break };
                let longest = step.iter().fold(0.0_f64, |most, part| most.max(part.abs()));
                let shrink = (STEP_MAX / longest).min(1.0);
                let next: Point =
                    point.iter().zip(&step).map(|(at, by)| at + by * shrink).collect();
                let found = self.residuals(&next);
                if loss(&found) < loss(&residuals) {
                    (point, residuals) = (next, found);
                    damping = (damping / 3.0).max(1e-3);
                    improved = true;
                    break;
                }
                damping *= 4.0;
            }
            if !improved {
                break;
            }
        }
        point
    }
}

/// The logarithm's error in percent, of shares the points.
fn residual(metric: &Metric, predicted: &Measured, measured: &Measured) -> Option<f64> {
    let percent = error(metric, predicted, measured)?;
    Some(if metric.is_share() {
        percent
    } else {
        100.0 * libm::log1p((percent / 100.0).max(-0.99))
    })
}

fn loss(residuals: &[f64]) -> f64 {
    residuals.iter().map(|r| libm::log1p((r / LOSS_SCALE) * (r / LOSS_SCALE))).sum()
}

/// The step that Levenberg and Marquardt take with this Jacobian (by columns) and damping; `None`
/// where it is not defined.
fn damped_step(columns: &[Vec<f64>], residuals: &[f64], damping: f64) -> Option<Vec<f64>> {
    let weights: Vec<f64> =
        residuals.iter().map(|r| 1.0 / (1.0 + (r / LOSS_SCALE) * (r / LOSS_SCALE))).collect();
    let product = |a: &[f64], b: &[f64]| -> f64 {
        weights.iter().zip(a).zip(b).map(|((weight, a), b)| weight * a * b).sum()
    };
    let mut normal: Vec<Vec<f64>> =
        columns.iter().map(|a| columns.iter().map(|b| product(a, b)).collect()).collect();
    for (index, row) in normal.iter_mut().enumerate() {
        row[index] *= 1.0 + damping;
    }
    let gradient: Vec<f64> = columns.iter().map(|column| -product(column, residuals)).collect();
    let pivot = |square: f64| if square <= 0.0 { None } else { Some(square) };
    Some(Cholesky::of(normal.len(), |i, j| normal[i][j], pivot)?.solve(&gradient))
}

/// The coefficients that are fitted. Memory's are not: what vLLM says of it is exact.
fn coefficients_mut(model: &mut Model) -> Vec<&mut u64> {
    let (others, steps, api_servers) = model.times_mut();
    others.into_iter().chain(steps).chain(api_servers).collect()
}
