//! Which engine a profile asks for.

use std::path::Path;

use anyhow::Result;

use crate::{Engine, endpoint, executor, simulator, vllm};
use profile::{EngineConfig, Profile};

/// The engine of a profile.
pub fn of<'a>(profile: &'a Profile, root: &Path) -> Result<Box<dyn Engine + 'a>> {
    let artifacts = root.join("artifacts");
    match &profile.engine {
        EngineConfig::Simulator { model_name, model } => {
            Ok(Box::new(simulator::Simulator { model_name, model }))
        }
        EngineConfig::Vllm(config) => {
            // A profile's lock lies beside it.
            let lock = profile.path.with_extension("lock");
            let node = executor::node(&profile.executor, &config.gpus, &artifacts)?;
            Ok(Box::new(vllm::Vllm::new(config, lock, artifacts, node)))
        }
        EngineConfig::Endpoint(config) => {
            Ok(Box::new(endpoint::Endpoint::new(config, &profile.loads[0])))
        }
    }
}
