//! What stored trials say of the launches to come: which are bound to fail, and how long the
//! others take.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    metric,
    schema::{LoadSpec, Measured, Outcome},
    stats::{self, Costs, Start},
};

use crate::{
    analysis::repeats::{self, Proposal},
    config::Profile,
    dag::Dag,
    frontier::Frontier,
    stages::Trial,
    store::Store,
};

/// Trials of one load, by arguments, then by start, then by repeat.
type Repeated = BTreeMap<String, BTreeMap<u32, BTreeMap<u32, Measured>>>;

/// Earlier trials of a plan, in figures.
#[derive(Debug, Default)]
pub struct History {
    /// Which settings start.
    pub frontier: Frontier,
    starts_s: Mean,
    loads_s: BTreeMap<Digest, Mean>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl History {
    /// Reads every stored record that the DAG's tasks ask for.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn read(store: &Store, dag: &Dag<'_, Trial>) -> Result<Self> {
        let mut history = Self::default();
        for (leaf, digest) in dag.stored_leaves()? {
            // Damaged ones are set aside, and measured again later.
            let Some(bytes) = store.get(&digest)? else { continue };
            let outcome: Outcome = serde_json::from_slice(&bytes)
                .with_context(|| format!("reading trial {}", leaf.role))?;
            history.note(&leaf.what, &outcome);
        }
        Ok(history)
    }

    fn note(&mut self, trial: &Trial, outcome: &Outcome) {
        self.frontier.note(trial, outcome);
        if let Outcome::Measured(Measured { observed, summary, .. }) = outcome {
            observed.start_s.into_iter().for_each(|start_s| self.starts_s.add(start_s));
            self.loads_s.entry(digest(&trial.load)).or_default().add(summary.duration_s);
        }
    }

    /// How often the objective's load is worth repeating within a start, by the stored trials of it;
    /// `None` where none of them was repeated.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn repeats(
        &self,
        store: &Store,
        dag: &Dag<'_, Trial>,
        profile: &Profile,
    ) -> Result<Option<Proposal>> {
        let objective = &profile.objective;
        let load = profile.loads.iter().find(|load| load.name == objective.load);
        let (Some(load), Some(metric)) = (load, metric::find(&objective.metric)) else {
            return Ok(None);
        };
        let repeats: Vec<LoadSpec> = (0..load.repeats).map(|repeat| load.repeat(repeat)).collect();
        let mut trials = Repeated::new();
        for (leaf, digest) in dag.stored_leaves()? {
            let repeat = repeats.iter().position(|spec| *spec == leaf.what.load);
            let (Some(repeat), Some(bytes)) = (repeat, store.get(&digest)?) else { continue };
            let outcome: Outcome = serde_json::from_slice(&bytes)
                .with_context(|| format!("reading trial {}", leaf.role))?;
            let Outcome::Measured(measured) = outcome else { continue };
            if measured.is_valid() {
                let args = serde_json::to_string(&leaf.what.args)?;
                let of_start = trials.entry(args).or_default().entry(leaf.what.replicate).or_default();
                of_start.insert(repeat as u32, measured);
            }
        }
        let start = |repeats: &BTreeMap<u32, Measured>| Start {
            block: None,
            repeats: repeats.values().filter_map(metric.value).collect(),
        };
        let spreads: Vec<_> = trials
            .values()
            .filter_map(|starts| stats::spread(metric, &starts.values().map(start).collect::<Vec<_>>()))
            .collect();
        let others_s = profile.loads.iter().filter(|other| other.name != load.name);
        let others_s: f64 = others_s.filter_map(|other| self.load_s(&other.spec)).sum();
        let (Some(start_s), Some(repeat_s)) = (self.start_s(), self.load_s(&load.spec)) else {
            return Ok(None);
        };
        Ok(repeats::propose(&spreads, Costs { start_s: start_s + others_s, repeat_s }))
    }

    /// Mean time of the starts seen.
    pub fn start_s(&self) -> Option<f64> {
        self.starts_s.get()
    }

    /// Mean time that a load took, under whichever settings.
    pub fn load_s(&self, load: &LoadSpec) -> Option<f64> {
        self.loads_s.get(&digest(load))?.get()
    }
}

fn digest(load: &LoadSpec) -> Digest {
    Digest::of_json(load).expect("a load is part of keys and holds no floats")
}
