//! The trials that stages ask for, and the points that they make of them.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    metric,
    schema::{
        Anatomy, Args, ClassPoint, Estimate, Measured, Outcome, Point, Role, SettingFailure,
        TrialRef,
    },
    stats,
};
use serde::Serialize;
use serde_json::{Value, json};

use analysis::choice;
use dag::{Inputs, LEAF, Leaf, RECORD};
use profile::{
    NamedLoad, Profile, Trial,
    role::{TrialRole, repeated},
};
use store::Store;

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
        let mut config = json!({ "settings": self.settings, "loads": self.loads });
        self.profile.note_cost(&mut config);
        config
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
            let (args, env) = self.profile.started_with(&setting.args);
            for replicate in setting.numbers() {
                for (load, repeat) in self.repeats() {
                    let trial = Trial {
                        identity: identity.clone(),
                        instrument_epoch: self.profile.instrument_epoch,
                        args: args.clone(),
                        env: env.clone(),
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

    /// The same of what the store has, without a DAG: each setting's starts up to the first that lacks a
    /// trial.
    ///
    /// # Errors
    /// When the identity holds a float, or a record cannot be read.
    pub fn stored(&self, store: &Store, identity: &Value) -> Result<Vec<Point>> {
        let mut found: BTreeMap<String, (Digest, Outcome)> = BTreeMap::new();
        for leaf in self.leaves(identity)? {
            let record = store.action(&LEAF, &leaf.key)?;
            let digest = record.and_then(|action| action.outputs.get(RECORD).copied());
            let bytes = digest.map(|digest| store.get(&digest)).transpose()?.flatten();
            if let Some(bytes) = bytes {
                let outcome = serde_json::from_slice(&bytes)
                    .with_context(|| format!("reading trial {}", leaf.key.short()))?;
                found.insert(leaf.role, (leaf.key, outcome));
            }
        }
        let mut points = Vec::new();
        for setting in &self.settings {
            for load in &self.loads {
                let repeats = |replicate| (0..load.repeats).map(move |repeat| (replicate, repeat));
                let outcomes =
                    setting.numbers().flat_map(repeats).map_while(|(replicate, repeat)| {
                        let (key, outcome) =
                            found.remove(&role(setting, load, repeat, replicate))?;
                        let outcome = self.profile.priced(&setting.args, outcome);
                        Some((TrialRef { repeat, ..TrialRef::new(key, replicate) }, outcome))
                    });
                let outcomes: Vec<_> = outcomes.collect();
                if !outcomes.is_empty() {
                    points.push(point(setting, load, outcomes));
                }
            }
        }
        Ok(points)
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
                        let outcome = self.profile.priced(&setting.args, outcome);
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

fn role(setting: &Setting, load: &NamedLoad, repeat: u32, replicate: u32) -> String {
    TrialRole::new(&setting.label, &repeated(&load.name, repeat), replicate).to_string()
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
    let estimate =
        |starts: BTreeMap<_, _>| stats::estimate_of_repeats(starts.into_values().collect());
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
        let class =
            move |(start, m): &OfStart| Some((*start, metric::of_class(m.summary.classes.get(i)?)));
        measured.iter().filter_map(class)
    };
    let names = first.summary.classes.iter().map(|class| class.name.clone());
    names
        .enumerate()
        .map(|(i, name)| ClassPoint { name, metrics: estimates(of_start(i)) })
        .collect()
}
