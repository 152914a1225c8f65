//! An engine that is elsewhere: what the machine that measured recorded of it.

use anyhow::{Context as _, Result, bail};
use bench_core::schema::{self, ProvisionResult};
use serde_json::Value;

use super::Engine;
use crate::{History, finding::Finding};
use profile::Trial;

/// Known by its record alone; nothing can be started.
pub struct Recorded {
    fingerprint: Value,
    identity: Value,
    title: String,
    simulated: bool,
}

impl Recorded {
    /// From what `provision` wrote, and the key inputs of the key under which it did.
    ///
    /// # Errors
    /// When `provision` did not write such a result.
    pub fn new(key_inputs: &Value, result: &[u8]) -> Result<Self> {
        let ProvisionResult { header, identity } =
            serde_json::from_slice(result).context("the engine's identity is no result file")?;
        Ok(Self {
            fingerprint: key_inputs["config"]["witness"].clone(),
            identity,
            title: header.engine.title,
            simulated: header.engine.simulated,
        })
    }
}

impl Engine for Recorded {
    fn fingerprint(&self) -> Option<Value> {
        Some(self.fingerprint.clone())
    }

    fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
        Ok(self.identity.clone())
    }

    fn title(&self) -> String {
        self.title.clone()
    }

    fn is_simulated(&self) -> bool {
        self.simulated
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        bail!("{} is elsewhere and cannot be started here", self.title)
    }

    fn runs_side_by_side(&self) -> bool {
        false
    }

    fn estimate_s(&self, _trials: &[&Trial], _history: &History) -> f64 {
        0.0
    }

    fn doctor(&self) -> Vec<Finding> {
        vec![Finding { what: "recorded engine".to_owned(), found: Ok(self.title.clone()) }]
    }
}
