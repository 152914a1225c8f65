//! Where launches run: here, or each as a job of a cluster.

mod folder;
mod slurm;

use std::{
    num::NonZero,
    path::Path,
    sync::{Mutex, PoisonError, atomic::AtomicBool},
    thread,
};

use anyhow::Result;
use bench_core::schema::{Engine, Event, LaunchPlan, PlannedTrial, StartWay};

use crate::{
    RUN_DIR,
    finding::Finding,
    launch::{self, LaunchError, Tools},
    vllm::{Forks, GRACE, Node},
};
use profile::{ExecutorConfig, Profile};
use store::Store;

pub use folder::run_attempt;
pub use slurm::allotted_gpus;

/// Runs launches. What it tells of one is the same wherever it runs.
pub trait Executor: Sync {
    /// How many of these launches may run at once; `side_by_side`: whether they leave each other's
    /// figures alone on one machine.
    fn at_once(&self, launches: usize, side_by_side: bool) -> usize;

    /// Whether launches run on this machine.
    fn is_here(&self) -> bool;

    /// What this machine has and lacks for it.
    fn doctor(&self) -> Vec<Finding>;

    /// Ends what a killed run on this store left behind, and notes how many there were.
    ///
    /// # Errors
    /// When they cannot be found or ended.
    fn end_orphans(&self, store: &Store, note: &mut dyn FnMut(String)) -> Result<()>;

    /// Runs one launch, as [`launch::run`] says. `note` gets what a person should know of it.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn run(
        &self,
        plan: &LaunchPlan,
        tools: &Tools,
        interrupted: &AtomicBool,
        on_event: &mut dyn FnMut(Event),
        more: &mut dyn FnMut() -> Vec<PlannedTrial>,
        note: &dyn Fn(String),
    ) -> Result<(), LaunchError>;
}

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

/// This machine.
#[derive(Default)]
struct Local {
    /// Launches that fork take turns: servers of an engine do not run side by side.
    forks: Mutex<Forks>,
}

impl Executor for Local {
    fn at_once(&self, launches: usize, side_by_side: bool) -> usize {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        if side_by_side { cores.min(launches) } else { 1 }
    }

    fn is_here(&self) -> bool {
        true
    }

    fn doctor(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn end_orphans(&self, store: &Store, note: &mut dyn FnMut(String)) -> Result<()> {
        let count = crate::end_orphans(&store.root().join(RUN_DIR), GRACE)?.len();
        if count > 0 {
            let them = if count == 1 { "a process group" } else { "process groups" };
            note(format!("ended    {them} left behind by a run that was killed ({count})"));
        }
        Ok(())
    }

    fn run(
        &self,
        plan: &LaunchPlan,
        tools: &Tools,
        interrupted: &AtomicBool,
        on_event: &mut dyn FnMut(Event),
        more: &mut dyn FnMut() -> Vec<PlannedTrial>,
        _note: &dyn Fn(String),
    ) -> Result<(), LaunchError> {
        if !matches!(&plan.engine, Engine::Vllm(engine) if engine.start == StartWay::Forked) {
            return launch::run(plan, tools, interrupted, on_event, more, &mut Forks::default());
        }
        let mut forks = self.forks.lock().unwrap_or_else(PoisonError::into_inner);
        launch::run(plan, tools, interrupted, on_event, more, &mut forks)
    }
}
