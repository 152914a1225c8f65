//! The trials that stages ask for, and the points that they make of them.

use std::{collections::BTreeMap, ops::Range};

use anyhow::Result;
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
use dag::{Inputs, Leaf};
use profile::{NamedLoad, Profile, Trial};

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
}

impl Setting {
    /// A configuration to be judged: on starts that took no part in the choice.
    pub fn judged(profile: &Profile, label: &str, role: Role, args: Args) -> Self {
        let first_start = choice::first_judged_start(profile, &args);
        Self { label: label.to_owned(), role, args, starts: profile.starts, first_start }
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
                for load in &self.loads {
                    let trial = Trial {
                        identity: identity.clone(),
                        args: args.clone(),
                        env: self.profile.engine_env.clone(),
                        config_file: None,
                        load: load.spec.clone(),
                        data_file: load.data_file.clone(),
                        replicate,
                    };
                    leaves.push(Leaf {
                        role: role(setting, load, replicate),
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
                let outcomes = setting
                    .numbers()
                    .map(|replicate| {
                        let role = role(setting, load, replicate);
                        let outcome = inputs.leaf::<Outcome>(&role)?;
                        Ok((TrialRef { key: keys[&role], replicate, invalid: None }, outcome))
                    })
                    .collect::<Result<Vec<_>>>()?;
                points.push(point(setting, load, outcomes));
            }
        }
        Ok(points)
    }
}

fn role(setting: &Setting, load: &NamedLoad, replicate: u32) -> String {
    format!("{}/{}/{replicate}", setting.label, load.name)
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
                if trial.invalid.is_none() {
                    measured.push(record);
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
        saturated: measured.iter().any(|record| record.saturated),
        metrics: estimates(measured.iter().map(metric::all)),
        anatomy: mean_anatomy(&measured),
        classes: classes(&measured),
    }
}

/// Estimates by metric, over one map of values a start.
fn estimates(starts: impl Iterator<Item = BTreeMap<String, f64>>) -> BTreeMap<String, Estimate> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for start in starts {
        for (metric, value) in start {
            values.entry(metric).or_default().push(value);
        }
    }
    values.into_iter().filter_map(|(metric, v)| Some((metric, stats::estimate(v)?))).collect()
}

fn mean_anatomy(measured: &[Measured]) -> Option<Anatomy> {
    let all: Vec<Anatomy> = measured.iter().filter_map(|m| m.summary.anatomy).collect();
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
fn classes(measured: &[Measured]) -> Vec<ClassPoint> {
    let Some(first) = measured.first().filter(|m| m.summary.classes.len() > 1) else {
        return Vec::new();
    };
    let of_start = |i: usize| {
        measured.iter().filter_map(move |m| m.summary.classes.get(i)).map(metric::of_class)
    };
    let names = first.summary.classes.iter().map(|class| class.name.clone());
    names
        .enumerate()
        .map(|(i, name)| ClassPoint { name, metrics: estimates(of_start(i)) })
        .collect()
}
