//! Where launches run: here, or each as a job of a cluster.

mod folder;
mod local;
mod registry;
mod slurm;

use anyhow::Result;
use bench_core::schema::LaunchPlan;

use crate::{
    LaunchHost,
    finding::Finding,
    launch::{LaunchError, Tools},
};
use store::Store;

pub use folder::run_attempt;
pub use local::Local;
pub use registry::{node, of};
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

    /// Runs one launch, as [`launch::run`] says.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn run(
        &self,
        plan: &LaunchPlan,
        tools: &Tools,
        host: &mut dyn LaunchHost,
    ) -> Result<(), LaunchError>;
}
