//! From measured trials to a model.

use super::{
    Model,
    predict::{MeasuredTrial, predict},
};
use crate::schema::{Measured, SettingFailure};

/// What a model says of each trial, in their order.
pub type Predictions = Vec<Result<Measured, SettingFailure>>;

/// A model and what it says of the trials.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The model.
    pub model: Model,
    /// What it says of each trial.
    pub predictions: Predictions,
    /// What a model fitted to the other configurations says of each trial: configurations are left
    /// out whole. `None` where nothing is fitted.
    pub held_out: Option<Predictions>,
}

/// Judges `start` by the trials. Its coefficients are kept: they were chosen by hand.
pub fn fit(start: &Model, trials: &[MeasuredTrial]) -> Fit {
    let predictions = trials.iter().map(|trial| predict(start, trial)).collect();
    Fit { model: start.clone(), predictions, held_out: None }
}
