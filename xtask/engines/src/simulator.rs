//! The built-in simulator.

use anyhow::Result;
use bench_core::{canonical::Digest, schema, sim};
use serde_json::{Value, json};

use super::Engine;
use crate::{History, finding::Finding};
use profile::Trial;

/// Measured on two cores with the default profile, samples written and compressed.
const SECONDS_A_TRIAL: f64 = 0.1;

pub struct Simulator<'a> {
    pub model_name: &'a str,
    pub model: &'a sim::Model,
}

impl Engine for Simulator<'_> {
    fn fingerprint(&self) -> Option<Value> {
        Some(self.identity())
    }

    fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
        Ok(self.identity())
    }

    fn title(&self) -> String {
        format!("simulated {}", self.model.title)
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn to_launch(&self) -> Result<schema::Engine> {
        Ok(schema::Engine::Simulator { model: Box::new(self.model.clone()) })
    }

    fn runs_side_by_side(&self) -> bool {
        true
    }

    fn estimate_s(&self, trials: &[&Trial], _history: &History) -> f64 {
        SECONDS_A_TRIAL * trials.len() as f64
    }

    fn doctor(&self) -> Vec<Finding> {
        let found = format!("built in, model {}", self.model_name);
        vec![Finding { what: "simulator".to_owned(), found: Ok(found) }]
    }
}

impl Simulator<'_> {
    fn identity(&self) -> Value {
        let model = Digest::of_json(self.model).expect("a model holds no floats");
        json!({
            "kind": "simulator",
            "epoch": sim::EPOCH,
            "model": self.model_name,
            "model_digest": model,
        })
    }
}
