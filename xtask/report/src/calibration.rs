//! `calibration.md` and `calibration.csv`: how well the simulator predicts what was measured.

use std::fmt::Write as _;

use bench_core::{
    canonical::Digest,
    metric::{self, Metric},
    schema::{Arrival, LoadSpec, Measured, Size},
    sim::{
        fit::{Fit, Predictions},
        predict::{JUDGED, MeasuredTrial, error, median_errors, near_capacity},
    },
};

use crate::format::{self, NOTHING};
use profile::{Calibrate, NamedLoad};

/// A fit beside what it was fitted to.
pub struct CalibrationPage<'a> {
    calibrate: &'a Calibrate,
    trials: &'a [MeasuredTrial],
    loads: &'a [NamedLoad],
    fit: &'a Fit,
    near_capacity: Vec<bool>,
}

/// The metrics that are judged.
fn judged() -> impl Iterator<Item = &'static Metric> {
    JUDGED.into_iter().map(|id| metric::find(id).expect("a judged metric is one"))
}

/// `points` for shares, which are subtracted, `%` for the rest.
fn unit_of_error(metric: &Metric) -> &'static str {
    if metric.is_share() { "points" } else { "%" }
}

impl<'a> CalibrationPage<'a> {
    /// Loads are named as the profile names them.
    pub fn new(
        calibrate: &'a Calibrate,
        trials: &'a [MeasuredTrial],
        loads: &'a [NamedLoad],
        fit: &'a Fit,
    ) -> Self {
        Self { calibrate, trials, loads, fit, near_capacity: near_capacity(trials) }
    }

    /// One line a trial: arguments, load, then measured, predicted and error of each metric; the
    /// error of the prediction by the other configurations where there is one.
    pub fn csv(&self) -> String {
        let mut out = "configuration,load,near_capacity".to_owned();
        for Metric { id, .. } in judged() {
            let _ = write!(out, ",{id}_measured,{id}_predicted,{id}_error");
            if self.fit.held_out.is_some() {
                let _ = write!(out, ",{id}_held_out_error");
            }
        }
        out.push('\n');
        for (index, trial) in self.trials.iter().enumerate() {
            let predicted = self.fit.predictions[index].as_ref().ok();
            let held_out = self.fit.held_out.as_ref().map(|all| all[index].as_ref().ok());
            let configuration = arguments(trial);
            let _ = write!(
                out,
                "{},{},{}",
                quoted(&configuration),
                quoted(&self.load_name(&trial.load)),
                self.near_capacity[index]
            );
            for metric in judged() {
                let off = |other: Option<&Measured>| {
                    number(other.and_then(|other| error(metric, other, &trial.measured)))
                };
                let _ = write!(
                    out,
                    ",{},{},{}",
                    number((metric.value)(&trial.measured)),
                    number(predicted.and_then(metric.value)),
                    off(predicted)
                );
                if let Some(held_out) = held_out {
                    let _ = write!(out, ",{}", off(held_out));
                }
            }
            out.push('\n');
        }
        out
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let Calibrate { model_name, files, leave_out, .. } = self.calibrate;
        let files: Vec<String> =
            files.iter().map(|(name, digest)| format!("`{name}` ({})", digest.short())).collect();
        let digest = Digest::of_json(&self.fit.model).expect("a model holds no floats");
        let mut out = format!(
            "# How well the simulator predicts\n\n\
             Model `{model_name}` ({}), {}, against {} measured trials of {}{}. Errors are predicted \
             less measured: in percent of the measured value, of shares in percentage points.\n\n\
             ![Predicted against measured](calibration.svg)\n",
            digest.short(),
            match self.fit.held_out {
                Some(_) => "fitted",
                None => "as it is: nothing was fitted",
            },
            self.trials.len(),
            match files.as_slice() {
                [] => "the profile's own sweeps".to_owned(),
                files => format::list(files),
            },
            match leave_out.as_slice() {
                [] => String::new(),
                names => format!(", without loads {}", format::list(names)),
            },
        );
        if let [_, _, ..] = self.fit.host_paces.as_slice() {
            let paces =
                self.fit.host_paces.iter().map(|pace| format!("{:.0} %", *pace as f64 / 1e4));
            let _ = write!(
                out,
                "\nThe trials come from several hosts, whose processors differ: beside the model's, \
                 their share of a step and the front end take {} of the time.\n",
                format::list(&paces.collect::<Vec<_>>())
            );
        }
        if let Some(held_out) = &self.fit.held_out {
            out += "\n## Configurations that the fit never saw\n\nEach configuration is predicted \
                    by a model that was fitted to the others.\n\n";
            out += &self.medians(held_out);
        }
        out += "\n## All trials\n\n";
        out += &self.medians(&self.fit.predictions);
        out += "\nTrials near capacity were offered more than 90 % of the highest output rate of \
                bursts, closed loops and\nsaturated trials with their arguments and requests: there \
                a queue grows from a small excess.\n\n## Every trial\n\n";
        out += &self.every_trial();
        out
    }

    /// Median size of the errors: of all trials, below and near capacity, of each configuration.
    fn medians(&self, predictions: &Predictions) -> String {
        let mut header = vec!["Trials".to_owned(), "> Number".to_owned()];
        header.extend(judged().map(|m| format!("> {}, {}", m.title, unit_of_error(m))));
        let mut rows = Vec::new();
        let mut row = |title: String, wanted: &dyn Fn(usize) -> bool| {
            let indices = (0..self.trials.len()).filter(|index| wanted(*index));
            let pairs: Vec<_> = indices
                .clone()
                .filter_map(|index| {
                    Some((predictions[index].as_ref().ok()?, &self.trials[index].measured))
                })
                .collect();
            let medians = median_errors(&pairs);
            let medians = medians.map(|m| m.map_or(NOTHING.to_owned(), |m| format::number(m, 1)));
            let mut cells = vec![title, indices.count().to_string()];
            cells.extend(medians);
            rows.push(cells);
        };
        row("below 90 % of capacity".to_owned(), &|index| !self.near_capacity[index]);
        row("near capacity".to_owned(), &|index| self.near_capacity[index]);
        let trials = self.trials;
        for (index, trial) in trials.iter().enumerate() {
            if trials[..index].iter().all(|other| other.args != trial.args) {
                row(format::args(&trial.args), &|index| trials[index].args == trial.args);
            }
        }
        format::table(&header, &rows)
    }

    fn every_trial(&self) -> String {
        let mut header = vec!["Configuration".to_owned(), "Load".to_owned()];
        header.extend(judged().map(|m| format!("> {}: measured, error", m.title)));
        let rows: Vec<Vec<String>> = self
            .trials
            .iter()
            .zip(&self.fit.predictions)
            .zip(&self.near_capacity)
            .map(|((trial, prediction), near)| {
                let load = self.load_name(&trial.load);
                let load = if *near { format!("{load} (near capacity)") } else { load };
                let mut cells = vec![format::args(&trial.args), load];
                cells.extend(judged().map(|metric| match prediction {
                    Ok(predicted) => cell(metric, predicted, &trial.measured),
                    Err(failure) => format!("refused: {}", failure.class.title()),
                }));
                cells
            })
            .collect();
        format::table(&header, &rows)
    }

    /// The profile's name of a load, else what it is.
    fn load_name(&self, load: &LoadSpec) -> String {
        match self.loads.iter().find(|named| named.spec == *load) {
            Some(named) => named.name.clone(),
            None => described(load),
        }
    }
}

fn cell(metric: &Metric, predicted: &Measured, measured: &Measured) -> String {
    let Some(value) = (metric.value)(measured) else { return NOTHING.to_owned() };
    let shown = format::value(Some(metric), value);
    match error(metric, predicted, measured) {
        Some(off) => format!("{shown}, {} {}", format::signed(off, 1), unit_of_error(metric)),
        None => shown,
    }
}

fn described(load: &LoadSpec) -> String {
    let arrival = match &load.arrival {
        Arrival::AllAtOnce {} => "burst".to_owned(),
        Arrival::ClosedLoop { concurrency } => format!("closed loop of {concurrency}"),
        _ => "open loop".to_owned(),
    };
    match load.size {
        Size::Requests(n) => format!("{arrival}, {n} requests"),
        Size::DurationMs(ms) => format!("{arrival}, {ms} ms"),
    }
}

/// `max-num-seqs=256 enforce-eager=true`
fn arguments(trial: &MeasuredTrial) -> String {
    let pairs: Vec<String> =
        trial.args.iter().map(|(flag, value)| format!("{flag}={value}")).collect();
    pairs.join(" ")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Six digits after the point hold what a record holds.
fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}
