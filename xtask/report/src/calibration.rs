//! `calibration.md` and `calibration.csv`: how well the simulator predicts what was measured.

use std::fmt::Write as _;

use bench_core::{
    canonical::Digest,
    metric::{self, Metric},
    schema::{Arrival, LoadSpec, Measured, Size},
    sim::{
        ASSUMPTIONS,
        accuracy::{self, LoadKind},
        fit::Fit,
        predict::{JUDGED, MeasuredTrial, Predictions, error},
    },
};

use crate::format::{self, NOTHING};
use profile::{Calibrate, Layout, NamedLoad};

/// A fit beside what it was fitted to.
pub struct CalibrationPage<'a> {
    calibrate: &'a Calibrate,
    trials: &'a [MeasuredTrial],
    loads: &'a [NamedLoad],
    fit: &'a Fit,
    kinds: Vec<LoadKind>,
}

const HOW_TO_READ: &str = "\
Repeating it: how far one start is off the mean of the others of the same setting, load and host. The ratio of
two settings is that under the same load on the same host, means over starts (of shares, the change). Rank is
Spearman's, the least over loads and hosts with three settings or more, settings within twice the noise taken
for equal. Trials near capacity were offered more than 90 % of the highest output rate of bursts, closed loops
and saturated trials with their arguments and requests: there a queue grows from a small excess.
";

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
        Self { calibrate, trials, loads, fit, kinds: accuracy::kinds(trials) }
    }

    /// One line a trial: arguments, load, then measured, predicted and error of each metric; the
    /// error of the prediction by the other configurations where there is one.
    pub fn csv(&self) -> String {
        let mut out = "configuration,load,kind".to_owned();
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
                format::csv_cell(&configuration),
                format::csv_cell(&self.load_name(&trial.load)),
                format::csv_cell(self.kinds[index].title())
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
        out += &self.paces();
        if let Some(held_out) = &self.fit.held_out {
            out += "\n## Configurations that the fit never saw\n\nEach configuration is predicted \
                    by a model that was fitted to the others.\n\n";
            out += &self.accuracy(held_out);
        }
        out += "\n## All trials\n\n";
        out += &self.accuracy(&self.fit.predictions);
        out += &self.guessed();
        out += &format!("\n{HOW_TO_READ}\n## Every trial\n\n");
        out += &self.every_trial();
        out
    }

    /// What no trial tells of a model of several cards.
    fn guessed(&self) -> String {
        let is_told = |trial: &MeasuredTrial| Layout::of(&trial.args).cards > 1;
        if self.fit.model.cards.is_none() || self.trials.iter().any(is_told) {
            return String::new();
        }
        let about: Vec<String> = ASSUMPTIONS.iter().map(|one| one.about.to_owned()).collect();
        format!(
            "\nNo trial has several cards. What the model says of such layouts hangs on guesses about {} \
             ([ends of each](../../docs/how-to.md#choose-a-layout-of-several-cards)).\n",
            format::list(&about)
        )
    }

    /// How fast the hosts are, and how that is known.
    fn paces(&self) -> String {
        let paces: Vec<String> =
            self.fit.host_paces.iter().map(|pace| format!("{:.0} %", *pace as f64 / 1e4)).collect();
        let told = "Hosts with the same card differ in their processors: beside the model's, their \
                    share of a step and the API servers take";
        match (paces.as_slice(), &self.fit.held_out) {
            ([_], Some(_)) => String::new(),
            (_, Some(_)) => format!("\n{told} {} of the time.\n", format::list(&paces)),
            (_, None) => format!(
                "\n{told} {} of the time, as one burst of each host tells (the first one of the setting \
                 with the fewest arguments; it is left out of the table).\n",
                format::list(&paces)
            ),
        }
    }

    /// Errors by kind of load and metric.
    fn accuracy(&self, predictions: &Predictions) -> String {
        let header = [
            "Load",
            "Metric",
            "> Trials",
            "> Error, median",
            "> worst",
            "> Repeating it, median",
            "> Ratio of two settings, median error",
            "> worst",
            "> Rank",
        ]
        .map(str::to_owned);
        let setters = match self.fit.held_out {
            Some(_) => Vec::new(),
            None => accuracy::pace_setters(self.trials),
        };
        let is_judged = |index: &usize| !setters.contains(&Some(*index));
        let judged: Vec<usize> = (0..self.trials.len()).filter(is_judged).collect();
        let trials: Vec<_> = judged.iter().map(|index| self.trials[*index].clone()).collect();
        let predictions = judged.iter().map(|index| predictions[*index].clone()).collect();
        let rows: Vec<Vec<String>> = accuracy::rows(&trials, &predictions)
            .into_iter()
            .map(|row| {
                let sized = |value: f64| {
                    format!("{} {}", format::number(value, 1), unit_of_error(row.metric))
                };
                let or_nothing = |cell: Option<String>| cell.unwrap_or_else(|| NOTHING.to_owned());
                vec![
                    row.kind.title().to_owned(),
                    row.metric.title.to_owned(),
                    row.levels.count.to_string(),
                    sized(row.levels.median),
                    sized(row.levels.worst),
                    or_nothing(row.noise.map(|noise| sized(noise.median))),
                    or_nothing(row.differences.as_ref().map(|errors| sized(errors.median))),
                    or_nothing(row.differences.as_ref().map(|errors| sized(errors.worst))),
                    or_nothing(row.rank.map(|(rank, settings)| {
                        format!("{} of {settings}", format::number(rank, 2))
                    })),
                ]
            })
            .collect();
        format::table(&header, &rows)
    }

    fn every_trial(&self) -> String {
        let mut header = vec!["Configuration".to_owned(), "Load".to_owned()];
        header.extend(judged().map(|m| format!("> {}: measured, error", m.title)));
        let rows: Vec<Vec<String>> = self
            .trials
            .iter()
            .zip(&self.fit.predictions)
            .zip(&self.kinds)
            .map(|((trial, prediction), kind)| {
                let load = self.load_name(&trial.load);
                let is_near = *kind == LoadKind::NearCapacity;
                let load = if is_near { format!("{load} (near capacity)") } else { load };
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

/// Six digits after the point hold what a record holds.
fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}
