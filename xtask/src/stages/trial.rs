//! Trials: the leaves of the DAG, and the points that stages make of them.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use anyhow::Result;
use bench_core::{
    INSTRUMENT_EPOCH,
    canonical::{Digest, canonical_value},
    metric,
    schema::{
        Anatomy, Args, ClassPoint, Estimate, FORMAT, LoadSpec, Measured, Outcome, Point, Role,
        SettingFailure, TrialRef,
    },
    stats,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    analysis::choice,
    config::{NamedLoad, Profile},
    dag::{Inputs, Leaf},
};

/// One load point on one launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What identifies the engine.
    pub identity: Value,
    /// Every argument of the server.
    pub args: Args,
    /// Environment of the server.
    pub env: BTreeMap<String, String>,
    /// The arguments as a file for `--config`; `None` where they are flags.
    pub config_file: Option<String>,
    /// The load point.
    pub load: LoadSpec,
    /// Where the load's file lies, if it has one; no part of the key.
    pub data_file: Option<PathBuf>,
    /// Which start of the configuration, from 0.
    pub replicate: u32,
    /// Which block of starts it is measured in, all compared settings in random order; no part of
    /// the key. `None` where nothing is compared by it.
    pub block: Option<u32>,
}

impl Trial {
    /// What the trial's key is made of. No stage is in it, so stages share trials.
    pub fn preimage(&self) -> Value {
        let mut preimage = self.start();
        preimage["format"] = FORMAT.into();
        preimage["instrument_epoch"] = INSTRUMENT_EPOCH.into();
        preimage["load"] = json!(self.load);
        preimage
    }

    /// What tells one server start from another.
    pub fn start(&self) -> Value {
        let mut start = json!({
            "engine": self.identity,
            "args": self.args,
            "env": self.env,
            "replicate": self.replicate,
        });
        if let Some(file) = &self.config_file {
            start["config_file"] = file.as_str().into();
        }
        start
    }

    /// The trial's key.
    ///
    /// # Errors
    /// When the identity holds a float.
    pub fn key(&self) -> Result<Digest> {
        Ok(Digest::of(canonical_value(&self.preimage())?.as_bytes()))
    }
}

/// A configuration that a stage measures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Short name.
    pub label: String,
    /// The part it plays.
    pub role: Role,
    /// Arguments on top of the engine's.
    pub args: Args,
    /// Server starts.
    pub starts: u32,
    /// Number of the first one.
    pub first_start: u32,
    /// Whether its starts come in blocks with those of the settings that it is compared with.
    #[serde(skip)]
    pub in_blocks: bool,
}

impl Setting {
    /// A configuration to be judged: on starts that took no part in the choice.
    pub fn judged(profile: &Profile, label: &str, role: Role, args: Args) -> Self {
        let first_start = choice::first_judged_start(profile, &args);
        let (label, starts) = (label.to_owned(), profile.starts);
        Self { label, role, args, starts, first_start, in_blocks: true }
    }

    fn block(&self, replicate: u32) -> Option<u32> {
        self.in_blocks.then(|| replicate - self.first_start)
    }

    fn numbers(&self) -> Range<u32> {
        self.first_start..self.first_start + self.starts
    }
}

/// Settings under loads: what a stage measures.
pub struct Grid<'a> {
    /// Whose engine arguments and environment every launch gets.
    pub profile: &'a Profile,
    /// The configurations.
    pub settings: Vec<Setting>,
    /// The loads.
    pub loads: Vec<&'a NamedLoad>,
}

impl Grid<'_> {
    /// The grid as part of a stage's configuration.
    pub fn config(&self) -> Value {
        json!({ "settings": self.settings, "loads": self.loads })
    }

    /// Every load with each of its repeats. The first of all loads come first: repeats of one load
    /// then do not follow each other.
    fn repeats(&self) -> impl Iterator<Item = (&NamedLoad, u32)> {
        let most = self.loads.iter().map(|load| load.repeats).max().unwrap_or(1);
        (0..most).flat_map(|repeat| {
            let loads = self.loads.iter().filter(move |load| repeat < load.repeats);
            loads.map(move |load| (*load, repeat))
        })
    }

    /// The trials, on the engine that `identity` describes.
    ///
    /// # Errors
    /// When the identity holds a float.
    pub fn leaves(&self, identity: &Value) -> Result<Vec<Leaf<Trial>>> {
        let mut leaves = Vec::new();
        for setting in &self.settings {
            let mut args = self.profile.engine_args.clone();
            args.extend(setting.args.clone());
            for replicate in setting.numbers() {
                for (load, repeat) in self.repeats() {
                    let trial = Trial {
                        identity: identity.clone(),
                        args: args.clone(),
                        env: self.profile.engine_env.clone(),
                        config_file: None,
                        load: load.repeat(repeat),
                        data_file: load.data_file.clone(),
                        replicate,
                        block: setting.block(replicate),
                    };
                    leaves.push(Leaf {
                        role: role(setting, load, repeat, replicate),
                        key: trial.key()?,
                        what: trial,
                    });
                }
            }
        }
        Ok(leaves)
    }

    /// One point for each setting and load, in that order.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn points(&self, inputs: &Inputs<'_>, identity: &Value) -> Result<Vec<Point>> {
        let keys: BTreeMap<String, Digest> =
            self.leaves(identity)?.into_iter().map(|leaf| (leaf.role, leaf.key)).collect();
        let mut points = Vec::new();
        for setting in &self.settings {
            for load in &self.loads {
                let repeats = |replicate| (0..load.repeats).map(move |repeat| (replicate, repeat));
                let outcomes = setting
                    .numbers()
                    .flat_map(repeats)
                    .map(|(replicate, repeat)| {
                        let role = role(setting, load, repeat, replicate);
                        let outcome = inputs.leaf::<Outcome>(&role)?;
                        let block = setting.block(replicate);
                        let trial = TrialRef::new(keys[&role], replicate);
                        Ok((TrialRef { repeat, block, ..trial }, outcome))
                    })
                    .collect::<Result<Vec<_>>>()?;
                points.push(point(setting, load, outcomes));
            }
        }
        Ok(points)
    }
}

/// `tuned/burst/0`, and of the second repeat `tuned/burst~2/0`.
fn role(setting: &Setting, load: &NamedLoad, repeat: u32, replicate: u32) -> String {
    let repeat = if repeat == 0 { String::new() } else { format!("~{}", repeat + 1) };
    format!("{}/{}{repeat}/{replicate}", setting.label, load.name)
}

/// The figures of one setting under one load, over the valid trials.
pub fn point(setting: &Setting, load: &NamedLoad, outcomes: Vec<(TrialRef, Outcome)>) -> Point {
    let mut trials = Vec::new();
    let mut failure = None;
    let mut measured = Vec::new();
    for (mut trial, outcome) in outcomes {
        match outcome {
            // A start that was made proves more than one that was not.
            Outcome::Refused(why) => {
                let is_proven = |known: &SettingFailure| known.foreseen.is_none();
                if !failure.as_ref().is_some_and(is_proven) {
                    failure = Some(why);
                }
            }
            Outcome::Measured(record) => {
                let failed = record.checks.iter().find(|check| !check.passed);
                trial.invalid = failed.map(|check| format!("{}: {}", check.name, check.detail));
                trial.measured_at.clone_from(&record.measured_at);
                if trial.invalid.is_none() {
                    measured.push((trial.replicate, record));
                }
            }
        }
        trials.push(trial);
    }
    Point {
        label: setting.label.clone(),
        role: setting.role,
        args: setting.args.clone(),
        load: load.name.clone(),
        load_digest: Some(load.digest()),
        part: load.part.map(|part| part.name().to_owned()),
        trials,
        failure,
        saturated: measured.iter().any(|(_, record)| record.saturated),
        metrics: estimates(measured.iter().map(|(start, record)| (*start, metric::all(record)))),
        anatomy: mean_anatomy(&measured),
        classes: classes(&measured),
    }
}

/// A start's number and what it measured, in the order of the starts.
type OfStart = (u32, Measured);

/// Estimates by metric, over a map of values for each trial, given with its start.
fn estimates(
    trials: impl Iterator<Item = (u32, BTreeMap<String, f64>)>,
) -> BTreeMap<String, Estimate> {
    let mut values: BTreeMap<String, BTreeMap<u32, Vec<f64>>> = BTreeMap::new();
    for (start, of_trial) in trials {
        for (metric, value) in of_trial {
            values.entry(metric).or_default().entry(start).or_default().push(value);
        }
    }
    let estimate = |starts: BTreeMap<_, _>| stats::estimate_of_repeats(starts.into_values().collect());
    values.into_iter().filter_map(|(metric, v)| Some((metric, estimate(v)?))).collect()
}

fn mean_anatomy(measured: &[OfStart]) -> Option<Anatomy> {
    let all: Vec<Anatomy> = measured.iter().filter_map(|(_, m)| m.summary.anatomy).collect();
    let mean = |part: fn(&Anatomy) -> f64| all.iter().map(part).sum::<f64>() / all.len() as f64;
    (!all.is_empty()).then(|| Anatomy {
        send_lag_ms: mean(|a| a.send_lag_ms),
        front_end_ms: mean(|a| a.front_end_ms),
        queue_ms: mean(|a| a.queue_ms),
        prefill_ms: mean(|a| a.prefill_ms),
        decode_ms: mean(|a| a.decode_ms),
    })
}

/// Classes of a mix; a load of one class has nothing to tell apart.
fn classes(measured: &[OfStart]) -> Vec<ClassPoint> {
    let Some((_, first)) = measured.first().filter(|(_, m)| m.summary.classes.len() > 1) else {
        return Vec::new();
    };
    let of_start = |i: usize| {
        let class = move |(start, m): &OfStart| {
            Some((*start, metric::of_class(m.summary.classes.get(i)?)))
        };
        measured.iter().filter_map(class)
    };
    let names = first.summary.classes.iter().map(|class| class.name.clone());
    names
        .enumerate()
        .map(|(i, name)| ClassPoint { name, metrics: estimates(of_start(i)) })
        .collect()
}

/// A trial of a server with these arguments, for tests.
#[cfg(test)]
pub fn example_trial(args: &[(&str, &str)]) -> Trial {
    use bench_core::schema::{ArgValue, Arrival, Class, RequestShape, Size, TokenRange};

    let one = TokenRange { min: 1, max: 1 };
    let value =
        |text: &str| text.parse().map_or_else(|_| ArgValue::Text(text.to_owned()), ArgValue::Int);
    Trial {
        identity: "engine".into(),
        args: args.iter().map(|(flag, v)| ((*flag).to_owned(), value(v))).collect(),
        env: BTreeMap::new(),
        config_file: None,
        load: LoadSpec {
            conversation: None,
            data: None,
            max_concurrency: None,
            goodput: None,
            arrival: Arrival::AllAtOnce {},
            size: Size::Requests(1),
            classes: vec![Class {
                name: "all".to_owned(),
                share: "1".parse().expect("a decimal"),
                input_tokens: one,
                output_tokens: one,
                prefix: None,
            }],
            seed: 1,
            request: RequestShape::default(),
        },
        data_file: None,
        replicate: 0,
        block: None,
    }
}
