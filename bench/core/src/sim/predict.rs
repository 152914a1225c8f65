//! What the simulator says of trials that were measured, and how far off it is.

use serde::{Deserialize, de::Error as _};
use serde_json::Value;

use super::{Model, launch};
use crate::{
    canonical::Digest,
    metric::Metric,
    schema::{Args, Arrival, LoadSpec, Measured, Outcome, SettingFailure},
    summarize::Summarizer,
    workload::Workload,
};

/// Metrics by which a prediction is judged.
pub const JUDGED: [&str; 6] = [
    "output_tokens_per_s",
    "e2e_mean_ms",
    "ttft_p50_ms",
    "itl_mean_ms",
    "queue_share",
    "kv_cache_tokens",
];

/// Share of the measured capacity beyond which latency hangs on small differences in speed.
const NEAR_CAPACITY: f64 = 0.9;

/// What a model says of each trial, in their order.
pub type Predictions = Vec<Result<Measured, SettingFailure>>;

/// A trial that ran on a real engine.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredTrial {
    /// Arguments of the server.
    pub args: Args,
    /// The load point.
    pub load: LoadSpec,
    /// Its record.
    pub measured: Measured,
    /// Which of the hosts it ran on: trials of one number share a processor's pace.
    pub host: usize,
    /// Digest of the engine's identity.
    pub engine: Digest,
    /// Its key.
    pub key: Digest,
}

/// A line of `bench/models/measured/*.jsonl`: the preimage of a trial's key, and what came of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    preimage: Value,
    outcome: Outcome,
}

impl MeasuredTrial {
    /// The trials of a file, one a line, all from host number `host`. Left out are settings that were refused, which have no
    /// figures, and loads from a data set, whose rows a record does not hold.
    ///
    /// # Errors
    /// The number of a line that is none, and why.
    pub fn read_all(text: &str, host: usize) -> Result<Vec<Self>, (usize, serde_json::Error)> {
        let read = |line| -> Result<Option<Self>, serde_json::Error> {
            let Line { mut preimage, outcome } = serde_json::from_str(line)?;
            let Outcome::Measured(measured) = outcome else { return Ok(None) };
            let key = Digest::of_json(&preimage).map_err(serde_json::Error::custom)?;
            let args = serde_json::from_value(preimage["args"].take())?;
            let load: LoadSpec = serde_json::from_value(preimage["load"].take())?;
            if load.data.is_some() {
                return Ok(None);
            }
            let engine = Digest::of_json(&preimage["engine"]).map_err(serde_json::Error::custom)?;
            Ok(Some(Self { args, load, measured, host, engine, key }))
        };
        let lines = (1..).zip(text.lines());
        lines.filter_map(|(n, line)| read(line).map_err(|error| (n, error)).transpose()).collect()
    }
}

/// What a model says of a trial, without noise: its record, or why the settings cannot start.
///
/// # Errors
/// The start-up failure of the settings.
pub fn predict(model: &Model, trial: &MeasuredTrial) -> Result<Measured, SettingFailure> {
    let workload = Workload::from(trial.load.clone());
    let (_, mut measured) = simulate(&model.without_noise(), &trial.args, 0, &[workload])?;
    Ok(measured.remove(0))
}

/// A simulated start and the loads it serves: the time of the start, and a record a load.
///
/// # Errors
/// Why the setting does not start.
pub fn simulate(
    model: &Model,
    args: &Args,
    replicate: u32,
    loads: &[Workload],
) -> Result<(f64, Vec<Measured>), SettingFailure> {
    let server = launch(model, args, replicate)?;
    let observed = server.observed();
    let serve = |load: &Workload| {
        let mut summarizer = Summarizer::new(load);
        let observation = server.run(load, &mut |sample| summarizer.push(&sample), &mut |_| {});
        summarizer.finish(&observation, &observed, "simulated", None)
    };
    Ok((observed.start_s.unwrap_or_default(), loads.iter().map(serve).collect()))
}

/// Predicted less measured: in percent of the measured value, in percentage points for shares.
/// `None` where either does not tell, or where there is nothing to divide by.
pub fn error(metric: &Metric, predicted: &Measured, measured: &Measured) -> Option<f64> {
    let (predicted, measured) = ((metric.value)(predicted)?, (metric.value)(measured)?);
    if metric.is_share() {
        return Some(100.0 * (predicted - measured));
    }
    (measured != 0.0).then(|| 100.0 * (predicted / measured - 1.0))
}

/// Which trials were offered more than 90 % of the capacity that was measured with their arguments
/// and their mix of requests. There, latency is judged apart: a queue grows without end from a
/// small excess. Capacity is the highest output rate of bursts, closed loops and trials that were
/// saturated; where there is none of them it is not known.
pub fn near_capacity(trials: &[MeasuredTrial]) -> Vec<bool> {
    let capacity = |trial: &MeasuredTrial| {
        trials
            .iter()
            .filter(|other| other.args == trial.args && other.load.classes == trial.load.classes)
            .filter(|other| !other.load.arrival.is_open_loop() || other.measured.saturated)
            .map(|other| other.measured.summary.output_tokens_per_s)
            .max_by(f64::total_cmp)
    };
    let is_near = |trial: &MeasuredTrial| {
        capacity(trial).is_some_and(|most| offered_tokens_per_s(trial) > NEAR_CAPACITY * most)
    };
    trials.iter().map(is_near).collect()
}

/// Output tokens that open-loop arrivals ask for; bursts and closed loops offer what is served.
fn offered_tokens_per_s(trial: &MeasuredTrial) -> f64 {
    let summary = &trial.measured.summary;
    let requests_per_s = match &trial.load.arrival {
        Arrival::Poisson { requests_per_second }
        | Arrival::Gamma { requests_per_second, .. }
        | Arrival::Constant { requests_per_second } => requests_per_second.to_f64(),
        Arrival::Ramp { requests_per_second_end, .. } => requests_per_second_end.to_f64(),
        Arrival::AllAtOnce {} | Arrival::ClosedLoop { .. } | Arrival::Replay { .. } => {
            return summary.output_tokens_per_s;
        }
    };
    requests_per_s * summary.output_tokens as f64 / summary.counts.completed.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metric, schema::Size};

    fn trials() -> Vec<MeasuredTrial> {
        let read = |text, host| MeasuredTrial::read_all(text, host).expect("a trial a line");
        let mut trials = read(include_str!("../../../models/measured/h100-qwen2.5-7b-a.jsonl"), 0);
        trials.extend(read(include_str!("../../../models/measured/h100-qwen2.5-7b-b.jsonl"), 1));
        trials
    }

    #[test]
    fn a_file_is_read_whole_or_names_the_line() {
        assert_eq!(trials().len(), 75);
        let text = include_str!("../../../models/measured/h100-qwen2.5-7b-a.jsonl");
        let cut = &text[..text.find('\n').expect("two lines") + 20];
        assert_eq!(MeasuredTrial::read_all(cut, 0).expect_err("is cut").0, 2);
    }

    #[test]
    fn errors_are_relative_and_of_shares_in_points() {
        let measured = trials().swap_remove(3).measured;
        let mut predicted = measured.clone();
        predicted.summary.e2e.mean_ms *= 1.07;
        let anatomy = predicted.summary.anatomy.as_mut().expect("vLLM tells");
        anatomy.queue_ms += 0.1 * anatomy.e2e_ms();
        let found = |id| error(metric::find(id).expect("a metric"), &predicted, &measured);
        assert!((found("e2e_mean_ms").expect("is told") - 7.0).abs() < 1e-9);
        assert_eq!(found("output_tokens_per_s"), Some(0.0));
        let share = found("queue_share").expect("is told");
        assert!(share > 0.0 && share < 10.0, "points of a sum that grew: {share}");
        predicted.summary.anatomy = None;
        assert_eq!(
            error(metric::find("queue_share").expect("a metric"), &predicted, &measured),
            None
        );
    }

    #[test]
    fn capacity_is_that_of_the_same_arguments_and_requests() {
        let trials = trials();
        let rate = |trial: &MeasuredTrial| match &trial.load.arrival {
            Arrival::Poisson { requests_per_second } => requests_per_second.to_f64(),
            _ => 0.0,
        };
        let near = near_capacity(&trials);
        let far = trials.iter().zip(&near).filter(|(_, near)| !**near);
        // No card served 100 requests a second, and every launch served one.
        assert!(far.clone().all(|(trial, _)| rate(trial) < 100.0));
        assert!(far.clone().any(|(trial, _)| rate(trial) == 1.0));
        let burst = trials.iter().position(|t| t.load.size == Size::Requests(1000));
        let alone = [trials[burst.expect("one is")].clone()];
        assert_eq!(near_capacity(&alone), [true]);
        let idle = trials.iter().find(|trial| rate(trial) == 1.0).expect("one is").clone();
        assert_eq!(near_capacity(&[idle]), [false], "nothing tells the capacity");
    }
}
