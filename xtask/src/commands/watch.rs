//! `watch`: this night's figures against those of the nights before, on the same card.
//!
//! A night is a version of the engine that the store has trials of: the profile's defaults under its
//! objective's load and its limits'. Which of them belong together is told by the engine's identity, and when they
//! were measured by their records.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bench_core::{
    canonical::Digest,
    metric::{self, Direction},
    schema::{Args, Point, ProvisionResult, Role},
};
use serde::Serialize;
use serde_json::Value;

use super::{Root, read_result};
use crate::{
    cli::MessageFormat,
    error::Code,
    output,
    stages::{Grid, Setting},
};
use analysis::{
    gate::Gate,
    watch::{ChangePoint, NIGHTS_BEFORE_MIN, Watched, watch},
};
use dag::LEAF;
use profile::{Profile, role, stage};
use report::format;
use store::Store;

/// A version of the engine, as measured.
struct Night {
    name: String,
    measured_at: String,
    points: Vec<Point>,
}

/// A figure over the nights.
#[derive(Debug, Serialize)]
struct Series {
    metric: String,
    load: String,
    /// Its nights and their means over starts, in their order.
    nights: Vec<(String, f64)>,
    #[serde(flatten)]
    state: State,
}

/// What the last night says of a figure.
#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// Too few nights to tell a change from noise.
    Learning {
        nights_needed: usize,
    },
    Steady {
        level: f64,
        noise_percent: f64,
        last_change: Option<Change>,
    },
    Improved(Change),
    Slipped(Change),
    /// The last night has no figure.
    NotMeasured {
        why: String,
    },
}

#[derive(Debug, Serialize)]
struct Change {
    percent: f64,
    /// The first night of the new level.
    since: String,
}

/// What all figures come to.
#[derive(Debug, Serialize)]
struct Verdict {
    verdict: Gate,
    profile: String,
    nights: Vec<String>,
    figures: Vec<Series>,
}

/// Prints what the last night says, and says what a gate would.
pub fn run(profile: &str, message_format: MessageFormat) -> Result<Gate> {
    let root = Root::find()?;
    let profile = profile::load(profile, root.given())?;
    let store = Store::open_read_only(&root.artifacts())?;
    let nights = nights(&root, &profile, &store)?;
    let figures = figures(&profile, &nights);
    let verdict = Verdict {
        verdict: figures.iter().map(|series| series.state.gate()).max().unwrap_or(Gate::NotJudged),
        profile: profile.name,
        nights: nights.into_iter().map(|night| night.name).collect(),
        figures,
    };
    match message_format {
        MessageFormat::Human => output::print(verdict.markdown())?,
        MessageFormat::Json => output::answer("watch", &verdict)?,
    }
    Ok(verdict.verdict)
}

/// Every version of the engine on this card, by when it was first measured; the one that the results are of
/// is the last.
fn nights(root: &Root, profile: &Profile, store: &Store) -> Result<Vec<Night>> {
    let file = root.results(profile).join(stage::PROVISION.file());
    let measures =
        format!("`cargo xtask stage baseline --profile {}` measures a night", profile.name);
    if !file.is_file() {
        let message = format!("profile {} has no results yet: {measures}", profile.name);
        return Err(Code::NoResults.error(message));
    }
    let here: ProvisionResult = read_result(&file, |result: &ProvisionResult| &result.header)?;
    let mut engines: BTreeMap<Digest, Value> = BTreeMap::new();
    for action in store.records(&LEAF)? {
        let engine = &action.key_inputs["engine"];
        if bench_of(engine) == bench_of(&here.identity) {
            engines.insert(Digest::of_json(engine)?, engine.clone());
        }
    }
    let label = if profile.endpoint().is_some() { &profile.name } else { role::DEFAULT };
    let starts = profile.starts_max.max(profile.starts);
    let setting = Setting::judged(profile, label, Role::Default, Args::new());
    let loads: BTreeSet<String> = goals(profile).into_iter().map(|(_, load)| load).collect();
    let grid = Grid {
        profile,
        settings: vec![Setting { starts, ..setting }],
        loads: profile.loads.iter().filter(|load| loads.contains(&load.name)).collect(),
    };
    let (mut nights, mut tonight) = (Vec::new(), None);
    for engine in engines.values() {
        let points = grid.stored(store, engine)?;
        let times = points.iter().flat_map(|point| &point.trials);
        let first = times.filter_map(|trial| trial.measured_at.clone()).min();
        if *engine == here.identity && !points.is_empty() {
            let date = first.as_deref().map(date).unwrap_or_default();
            tonight =
                Some(Night { name: version(engine) + &date, measured_at: String::new(), points });
        } else if let Some(measured_at) = first {
            // A simulated trial has no time, nor has one that did not start.
            let name = version(engine) + &date(&measured_at);
            nights.push(Night { name, measured_at, points });
        }
    }
    nights.sort_by(|a, b| a.measured_at.cmp(&b.measured_at));
    nights.extend(tonight);
    if nights.is_empty() {
        let message =
            format!("the store has no measured trial of profile {}: {measures}", profile.name);
        return Err(Code::NoResults.error(message));
    }
    Ok(nights)
}

/// The day of a time, behind a version.
fn date(measured_at: &str) -> String {
    format!(" ({})", measured_at.split('T').next().unwrap_or_default())
}

/// What stays of an engine's identity from night to night: card, model, way of starting.
fn bench_of(identity: &Value) -> Value {
    let mut bench = identity.clone();
    if let Some(fields) = bench.as_object_mut() {
        for changes in ["version", "commit", "torch", "python", "declared", "run"] {
            fields.remove(changes);
        }
    }
    if let Some(device) = bench["device"].as_object_mut() {
        device.remove("driver");
    }
    bench
}

/// A name of the engine's version.
fn version(identity: &Value) -> String {
    let text = |name: &str| identity[name].as_str();
    match (text("version").or_else(|| text("declared")), text("commit")) {
        (Some(version), Some(commit)) => format!("{version} {commit}"),
        (Some(version), None) => version.to_owned(),
        (None, _) => "unnamed".to_owned(),
    }
}

/// The objective and the limits: metric and load, each once.
fn goals(profile: &Profile) -> Vec<(String, String)> {
    let objective = (profile.objective.metric.clone(), profile.objective.load.clone());
    let mut goals = vec![objective];
    for limit in &profile.slo {
        let goal = (limit.metric.clone(), limit.load.clone());
        if !goals.contains(&goal) {
            goals.push(goal);
        }
    }
    goals
}

fn figures(profile: &Profile, nights: &[Night]) -> Vec<Series> {
    let goals = goals(profile);
    let count = goals.len();
    goals.into_iter().map(|(metric, load)| series(nights, metric, load, count)).collect()
}

fn series(nights: &[Night], metric: String, load: String, figures: usize) -> Series {
    let starts = |night: &Night| -> Result<Vec<f64>, String> {
        let point = night.points.iter().find(|point| point.load == load);
        let point = point.ok_or("it was not measured")?;
        if let Some(failure) = &point.failure {
            return Err(format!("it does not run: {}", failure.title()));
        }
        let values = point.metrics.get(&metric).map(|found| found.values().to_vec());
        values
            .filter(|values| values.iter().all(|value| value.is_finite() && *value > 0.0))
            .ok_or_else(|| "it has no such figure, or requests failed".to_owned())
    };
    let known: Vec<(&Night, Vec<f64>)> =
        nights.iter().filter_map(|night| Some((night, starts(night).ok()?))).collect();
    let values: Vec<Vec<f64>> = known.iter().map(|(_, values)| values.clone()).collect();
    let direction = metric::find(&metric).map_or(Direction::Neither, |metric| metric.direction);
    let name = |night: usize| known[night].0.name.clone();
    let state = match (nights.last().map(&starts), watch(&values, direction, figures)) {
        (Some(Ok(_)), Some(watched)) => state(&watched, values.len(), name),
        (Some(Err(why)), _) => State::NotMeasured { why },
        _ => State::NotMeasured { why: "it was not measured".to_owned() },
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let nights = known.iter().map(|(night, values)| (night.name.clone(), mean(values))).collect();
    Series { metric, load, nights, state }
}

fn state(watched: &Watched, nights: usize, name: impl Fn(usize) -> String) -> State {
    let change =
        |point: &ChangePoint| Change { percent: 100.0 * point.change, since: name(point.from) };
    match (watched.tonight(nights), watched.noise) {
        (Some(point), _) if point.is_slip => State::Slipped(change(point)),
        (Some(point), _) => State::Improved(change(point)),
        (None, Some(noise)) if !watched.is_learning() => State::Steady {
            level: watched.level,
            noise_percent: 100.0 * noise,
            last_change: watched.changes.last().map(change),
        },
        _ => State::Learning { nights_needed: NIGHTS_BEFORE_MIN + 1 - watched.nights },
    }
}

impl State {
    fn gate(&self) -> Gate {
        match self {
            Self::Steady { .. } | Self::Improved(_) => Gate::Passed,
            Self::Learning { .. } => Gate::Inconclusive,
            Self::NotMeasured { .. } => Gate::NotJudged,
            Self::Slipped(_) => Gate::Regression,
        }
    }

    fn in_words(&self, metric: &str) -> String {
        let signed = |change: &Change| format!("{} %", format::signed(change.percent, 1));
        match self {
            Self::Learning { nights_needed } => {
                format!("learning: {nights_needed} more nights until a change can be told")
            }
            Self::Steady { level, noise_percent, last_change } => {
                let before = last_change
                    .as_ref()
                    .map(|change| format!(", since {} ({})", change.since, signed(change)));
                format!(
                    "steady at {}{}; nights differ by {noise_percent:.1} %",
                    format::value(metric::find(metric), *level),
                    before.unwrap_or_default()
                )
            }
            Self::Improved(change) => {
                format!("improved: {} since {}", signed(change), change.since)
            }
            Self::Slipped(change) => {
                format!("**slipped**: {} since {}", signed(change), change.since)
            }
            Self::NotMeasured { why } => format!("**not judged**: {why}"),
        }
    }
}

impl Verdict {
    /// For a terminal and for a comment.
    fn markdown(&self) -> String {
        let verdict = match self.verdict {
            Gate::Passed => "No slip",
            Gate::Inconclusive => "Too few nights",
            Gate::NotJudged => "Not judged",
            Gate::Regression => "A slip",
        };
        let last = self.nights.last().map_or("", String::as_str);
        let header =
            ["Figure", "> Night before", "> Last night", "What it says"].map(str::to_owned);
        let rows: Vec<Vec<String>> = self
            .figures
            .iter()
            .map(|series| {
                let night = |back: usize| {
                    let at = series.nights.len().checked_sub(back);
                    at.map_or("—".to_owned(), |at| {
                        format::value(metric::find(&series.metric), series.nights[at].1)
                    })
                };
                let figure = format!("{} on `{}`", format::name(&series.metric), series.load);
                vec![figure, night(2), night(1), series.state.in_words(&series.metric)]
            })
            .collect();
        format!(
            "{verdict}: `{}`, {} {}, the last {last}.\n\n{}",
            self.profile,
            self.nights.len(),
            if self.nights.len() == 1 { "night" } else { "nights" },
            format::table(&header, &rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::Estimate;

    use super::*;

    fn night(number: usize, tokens_per_s: Option<f64>) -> Night {
        let starts: Vec<f64> =
            tokens_per_s.iter().flat_map(|figure| [0.99 * figure, 1.01 * figure]).collect();
        let mean = tokens_per_s.unwrap_or(f64::NAN);
        let estimate = Estimate { mean, starts, ..Estimate::default() };
        let metrics = tokens_per_s.map(|_| ("output_tokens_per_s".to_owned(), estimate));
        let point = Point {
            label: role::DEFAULT.to_owned(),
            role: Role::Default,
            args: Args::new(),
            load: "burst".to_owned(),
            load_digest: None,
            part: None,
            trials: Vec::new(),
            failure: None,
            saturated: false,
            metrics: metrics.into_iter().collect(),
            anatomy: None,
            classes: Vec::new(),
        };
        Night { name: format!("g{number}"), measured_at: String::new(), points: vec![point] }
    }

    fn said(figures: &[f64]) -> (Gate, String) {
        let nights = figures.iter().map(|figure| Some(*figure).filter(|figure| *figure > 0.0));
        let nights: Vec<Night> = nights.enumerate().map(|(n, figure)| night(n, figure)).collect();
        let metric = "output_tokens_per_s".to_owned();
        let series = series(&nights, metric, "burst".to_owned(), 1);
        (series.state.gate(), series.state.in_words(&series.metric))
    }

    #[test]
    fn the_last_night_decides_and_names_the_first_one_of_a_slip() {
        let level = [1_000.0, 1_010.0, 995.0, 1_005.0, 990.0, 1_003.0];
        let (gate, words) = said(&level[..3]);
        assert_eq!(gate, Gate::Inconclusive);
        assert_eq!(words, "learning: 2 more nights until a change can be told");
        let (gate, words) = said(&level);
        assert_eq!((gate, &*words), (Gate::Passed, "steady at 1,000; nights differ by 0.7 %"));
        let fallen = [&level[..], &[900.0]].concat();
        let (gate, words) = said(&fallen);
        assert_eq!((gate, &*words), (Gate::Regression, "**slipped**: −10.0 % since g6"));
        let after = [&fallen[..], &[905.0, 897.0, 901.0, 900.0]].concat();
        let (gate, words) = said(&after);
        assert_eq!(gate, Gate::Passed, "{words}");
        assert!(words.starts_with("steady at 901, since g6 (−10.0 %)"), "{words}");
        let (gate, words) = said(&[&level[..], &[1_200.0]].concat());
        assert_eq!((gate, &*words), (Gate::Passed, "improved: +19.9 % since g6"));
        let (gate, words) = said(&[&level[..], &[0.0]].concat());
        assert_eq!(gate, Gate::NotJudged, "{words}");
    }

    /// What changes from night to night is left out, and a second card is another bench.
    #[test]
    fn nights_are_those_of_one_card() {
        let engine = |version: &str, driver: &str, card: &str| {
            let device = serde_json::json!({ "name": card, "driver": driver });
            serde_json::json!({ "version": version, "commit": "g1", "device": device })
        };
        let here = engine("0.32.0", "580", "H100");
        assert_eq!(bench_of(&engine("0.33.0", "590", "H100")), bench_of(&here));
        assert_ne!(bench_of(&engine("0.32.0", "580", "H200")), bench_of(&here));
        assert_eq!(version(&here), "0.32.0 g1");
        assert_eq!(version(&serde_json::json!({ "declared": "rack-a" })), "rack-a");
    }
}
