//! What stages work with, and what they have in common.

use anyhow::{Result, anyhow};
use bench_core::{
    canonical::Digest,
    schema::{
        Args, Calibration, EngineLabel, FORMAT, Header, Outcome, Point, ProvisionResult, Role,
        SavedResult, SweepResult, TrialRef,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::trial::{Setting, point};
use analysis::lenders::Lenders;
use dag::{Inputs, Outputs, Task};
use engines::Engine;
use profile::{
    NamedLoad, Profile, Stage, Trial,
    stage::{STAGES, SWEEP},
};

/// A stage as a node of the DAG.
pub type Node<'a> = Box<dyn Task<Leaf = Trial> + 'a>;

/// What every stage may read.
pub struct Context<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// What stands for the engine's identity while planning, and how the engine is provisioned.
    pub engine: &'a dyn Engine,
    /// Figures of another system to show beside, where the profile names some.
    pub reference: Option<&'a SavedResult>,
    /// The load generator on the host that measures, for engines that are measured over HTTP.
    pub calibration: Option<Calibration>,
}

impl Context<'_> {
    /// Whether the profile runs that built-in stage.
    pub fn has(&self, stage: &Stage) -> bool {
        self.profile.stages.iter().any(|name| name == stage.name)
    }

    /// Names of what a stage needs, and of what else it reads that the profile runs: built-in stages in
    /// their order, then the sweeps.
    pub fn needs(&self, stage: &Stage) -> Vec<String> {
        let is_one_of = |all: &[&Stage], of: &Stage| all.iter().any(|other| other.name == of.name);
        let built_in = STAGES.into_iter().filter(|other| {
            is_one_of(stage.needs, other) || is_one_of(stage.reads, other) && self.has(other)
        });
        let sweeps = is_one_of(stage.reads, &SWEEP).then(|| self.sweep_names());
        let built_in = built_in.map(|other| other.name.to_owned());
        built_in.chain(sweeps.into_iter().flatten()).collect()
    }

    pub fn sweep_names(&self) -> impl Iterator<Item = String> {
        self.profile.sweeps.iter().map(|sweep| sweep.name.clone())
    }

    /// The points of each sweep.
    pub fn sweep_points(&self, inputs: &Inputs<'_>) -> Result<Vec<Vec<Point>>> {
        let mut sweeps = Vec::new();
        for sweep in &self.profile.sweeps {
            let file: Option<SweepResult> = inputs.json_if_upstream(&sweep.name, &sweep.file)?;
            sweeps.extend(file.map(|file| file.points));
        }
        Ok(sweeps)
    }

    /// The settings of the sweeps and of `[spread]`, which lend to all others.
    pub fn lenders(&self, inputs: &Inputs<'_>) -> Result<Lenders> {
        let mut points = self.sweep_points(inputs)?.concat();
        points.extend(spread_points(self.profile, Digest::of_json(&self.identity(inputs)?)?));
        Ok(Lenders::of(&points))
    }

    pub fn load(&self, name: &str) -> Result<&NamedLoad> {
        let found = self.profile.loads.iter().find(|load| load.name == name);
        found.ok_or_else(|| anyhow!("the profile has no load {name}"))
    }

    /// The head of a stage's result.
    pub fn header(&self, stage: &str, inputs: &Inputs<'_>) -> Result<Header> {
        let provisioned = read::<ProvisionResult>(inputs)?;
        Ok(Header { stage: stage.to_owned(), ..provisioned.header })
    }

    /// The engine's identity, from what `provision` found.
    pub fn identity(&self, inputs: &Inputs<'_>) -> Result<Value> {
        Ok(read::<ProvisionResult>(inputs)?.identity)
    }

    /// The head of what `provision` finds.
    pub fn first_header(&self, stage: &str, engine: EngineLabel) -> Header {
        let profile = self.profile.name.clone();
        Header { format: FORMAT, profile, stage: stage.to_owned(), engine }
    }
}

/// The points of `[spread]`, of those trials that were measured on this engine and card under a load of the
/// profile: one of each setting and file.
pub fn spread_points(profile: &Profile, engine: Digest) -> Vec<Point> {
    let mut points = Vec::new();
    for ((file, _), trials) in &profile.spreads.0 {
        let own = || trials.iter().filter(|trial| trial.engine == engine);
        let mut settings: Vec<&Args> = Vec::new();
        for trial in own() {
            if !settings.contains(&&trial.args) {
                settings.push(&trial.args);
            }
        }
        for (args, load) in settings.iter().flat_map(|a| profile.loads.iter().map(move |l| (*a, l)))
        {
            let served = own().filter(|trial| trial.args == *args && trial.load == load.spec);
            let outcomes: Vec<_> = (0..)
                .zip(served)
                .map(|(start, trial)| {
                    let reference = TrialRef::new(trial.key, start);
                    (reference, Outcome::Measured(trial.measured.clone()))
                })
                .collect();
            let (label, role, starts) = (file.clone(), Role::Sweep, outcomes.len() as u32);
            let (args, first_start, in_blocks) = (args.clone(), 0, false);
            let setting = Setting { label, role, args, starts, first_start, in_blocks };
            points.extend((starts > 1).then(|| point(&setting, load, outcomes)));
        }
    }
    points
}

/// The result of a stage, by its type.
pub trait StageResult: Serialize + DeserializeOwned {
    /// The stage that writes it.
    const STAGE: &'static Stage;
}

/// The result of a stage upstream.
pub fn read<R: StageResult>(inputs: &Inputs<'_>) -> Result<R> {
    inputs.json(R::STAGE.name, R::STAGE.file())
}

/// The result of a stage; `None` where it is not upstream.
pub fn read_if_upstream<R: StageResult>(inputs: &Inputs<'_>) -> Result<Option<R>> {
    inputs.json_if_upstream(R::STAGE.name, R::STAGE.file())
}

/// A result as the one output of its stage.
pub fn written<R: StageResult>(result: &R) -> Result<Outputs> {
    one_file(R::STAGE.file(), result)
}

/// Objective, limits, guards and targets: what a stage that judges reads of the profile.
pub fn goals(profile: &Profile) -> Value {
    let mut goals = serde_json::json!({
        "objective": profile.objective,
        "slo": profile.slo,
        "targets": profile.targets,
    });
    if !profile.guards.is_empty() {
        goals["guards"] = serde_json::json!(profile.guards);
    }
    if !profile.gains.is_empty() {
        goals["gains"] = serde_json::json!(profile.gains);
    }
    if !profile.checks_answers() {
        goals["answers"] = "not checked".into();
    }
    profile.note_cost(&mut goals);
    goals
}

/// A value as the one output of a stage, as JSON.
pub fn one_file<T: Serialize>(name: &str, result: &T) -> Result<Outputs> {
    let mut bytes = serde_json::to_vec_pretty(result)?;
    bytes.push(b'\n');
    Ok(Outputs::from([(name.to_owned(), bytes)]))
}

/// Digest of an embedded file.
pub fn digest_of(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}
