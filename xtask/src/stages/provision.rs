//! `provision`: find or install the engine and say what it is.

use anyhow::Result;
use bench_core::{
    canonical::Digest,
    schema::{EngineLabel, ProvisionResult},
};
use serde_json::{Value, json};

use super::{Context, StageResult, written};
use dag::{Inputs, Outputs, Task};
use profile::{Stage, Trial, stage::PROVISION};

impl StageResult for ProvisionResult {
    const STAGE: &'static Stage = &PROVISION;
}

pub struct Provision<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Provision<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        PROVISION.name
    }

    fn epoch(&self) -> u32 {
        PROVISION.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&PROVISION)
    }

    fn config(&self) -> Value {
        json!({ "profile": self.context.profile.name, "witness": self.context.engine.fingerprint() })
    }

    fn run(&self, _inputs: &Inputs<'_>) -> Result<Outputs> {
        let engine = self.context.engine;
        let identity = engine.provision(&mut |_| {})?;
        let label = EngineLabel {
            title: engine.title(),
            simulated: engine.is_simulated(),
            identity: Digest::of_json(&identity)?,
        };
        let header = self.context.first_header(PROVISION.name, label);
        written(&ProvisionResult { header, identity })
    }
}
