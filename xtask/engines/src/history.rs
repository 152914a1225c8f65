//! What stored trials say of the launches to come: which are bound to fail, and how long the
//! others take.

use std::collections::BTreeMap;

use bench_core::{
    canonical::Digest,
    schema::{LoadSpec, Measured, Outcome},
};

use profile::{Trial, feasibility::Feasibility};

/// Earlier trials of a plan, in figures.
#[derive(Debug, Default)]
pub struct History {
    /// Which settings start.
    pub feasibility: Feasibility,
    starts_s: Mean,
    ordinary_starts_s: Mean,
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
    /// Takes note of a stored trial.
    pub fn note(&mut self, trial: &Trial, outcome: &Outcome) {
        self.feasibility.note(trial, outcome);
        if let Outcome::Measured(Measured { observed, summary, .. }) = outcome {
            observed.start_s.into_iter().for_each(|start_s| self.starts_s.add(start_s));
            let ordinary_s = observed.ordinary_start_s();
            ordinary_s.into_iter().for_each(|start_s| self.ordinary_starts_s.add(start_s));
            self.loads_s.entry(digest(&trial.load)).or_default().add(summary.duration_s);
        }
    }

    /// Mean time of the starts seen.
    pub fn start_s(&self) -> Option<f64> {
        self.starts_s.get()
    }

    /// The same, of forks estimated as if they had been started the ordinary way.
    pub fn ordinary_start_s(&self) -> Option<f64> {
        self.ordinary_starts_s.get()
    }

    /// Mean time that a load took, under whichever settings.
    pub fn load_s(&self, load: &LoadSpec) -> Option<f64> {
        self.loads_s.get(&digest(load))?.get()
    }
}

fn digest(load: &LoadSpec) -> Digest {
    Digest::of_json(load).expect("a load is part of keys and holds no floats")
}
