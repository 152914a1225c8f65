//! An engine that is not provisioned yet, for a dry run: what it will be asked is known all the same.

use anyhow::{Result, bail};
use bench_core::schema;
use serde_json::{Value, json};

use super::{Engine, StartEstimate};
use crate::{History, finding::Finding};
use profile::Trial;

/// Stands for the engine in keys that are no real one's, so that nothing counts as measured.
pub struct Foreseen<'a>(pub Box<dyn Engine + 'a>);

impl Engine for Foreseen<'_> {
    fn fingerprint(&self) -> Option<Value> {
        Some(json!("not provisioned"))
    }

    fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
        Ok(json!({ "not_provisioned": self.0.title() }))
    }

    fn title(&self) -> String {
        self.0.title()
    }

    fn is_simulated(&self) -> bool {
        self.0.is_simulated()
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        bail!("{} is not provisioned: `cargo xtask stage provision`", self.title())
    }

    fn runs_side_by_side(&self) -> bool {
        self.0.runs_side_by_side()
    }

    fn estimate_s(&self, trials: &[&Trial], history: &History) -> f64 {
        self.0.estimate_s(trials, history)
    }

    fn remark(&self) -> Option<String> {
        self.0.remark()
    }

    fn start_estimate(&self, history: &History) -> Option<StartEstimate> {
        self.0.start_estimate(history)
    }

    fn installation(&self) -> Option<String> {
        self.0.installation()
    }

    fn doctor(&self) -> Vec<Finding> {
        self.0.doctor()
    }
}
