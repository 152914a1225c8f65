//! Which executor a profile asks for.

use std::path::Path;

use anyhow::Result;

use super::{Executor, Local, slurm};
use crate::vllm::Node;
use profile::{ExecutorConfig, Profile};

/// The executor of a profile.
///
/// # Errors
/// When the current folder or this program's file is not known.
pub fn of<'a>(profile: &'a Profile, artifacts: &Path) -> Result<Box<dyn Executor + 'a>> {
    Ok(match &profile.executor {
        ExecutorConfig::Local => Box::new(Local::default()),
        ExecutorConfig::Slurm(config) => Box::new(slurm::Slurm::new(config, artifacts)?),
    })
}

/// The node that stands for those of a profile's cluster; `None` where launches run here.
///
/// # Errors
/// See [`of`].
pub fn node<'a>(
    config: &'a ExecutorConfig,
    gpus: &[u32],
    artifacts: &Path,
) -> Result<Option<Node<'a>>> {
    match config {
        ExecutorConfig::Local => Ok(None),
        ExecutorConfig::Slurm(config) => slurm::node(config, gpus, artifacts).map(Some),
    }
}
