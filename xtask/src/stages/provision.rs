//! `provision`: find or install the engine and say what it is.

use anyhow::Result;
use bench_core::{
    canonical::Digest,
    schema::{EngineLabel, ProvisionResult},
};
use serde_json::{Value, json};

use super::{Context, StageResult, written};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::Trial;

pub use super::names::{IDENTITY_FILE as FILE, PROVISION as NAME};

impl StageResult for ProvisionResult {
    const STAGE: &'static str = NAME;
    const FILE: &'static str = FILE;
}

pub struct Provision<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Provision<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        NAME
    }

    fn epoch(&self) -> u32 {
        1
    }

    fn needs(&self) -> Vec<String> {
        Vec::new()
    }

    fn config(&self) -> Value {
        json!({ "profile": self.context.profile.name, "witness": self.context.engine.witness() })
    }

    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(Vec::new())
    }

    fn run(&self, _inputs: &Inputs<'_>) -> Result<Outputs> {
        let engine = self.context.engine;
        let identity = engine.provision(&mut |_| {})?;
        let label = EngineLabel {
            title: engine.title(),
            simulated: engine.is_simulated(),
            identity: Digest::of_json(&identity)?,
        };
        let header = self.context.first_header(NAME, label);
        written(&ProvisionResult { header, identity })
    }
}
