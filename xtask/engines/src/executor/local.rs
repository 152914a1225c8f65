//! Launches on this machine.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use bench_core::schema::{Engine, LaunchPlan};

use super::Executor;
use crate::{
    LaunchHost, RUN_DIR, end_orphans,
    finding::Finding,
    launch::{self, LaunchError, Tools},
    launchers,
    server::{GRACE, Launcher},
};
use store::Store;

/// This machine.
#[derive(Default)]
pub struct Local {
    /// The launcher of the last launch that started a server, with its engine. Such launches take turns:
    /// their servers do not run side by side.
    launcher: Mutex<Option<(Engine, Box<dyn Launcher>)>>,
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
        let count = end_orphans(&store.root().join(RUN_DIR), GRACE)?.len();
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
        host: &mut dyn LaunchHost,
    ) -> Result<(), LaunchError> {
        let Some(new) = launchers::of(&plan.engine) else {
            return launch::run(plan, tools, host, None);
        };
        let mut kept = self.launcher.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_none_or(|(engine, _)| *engine != plan.engine) {
            *kept = Some((plan.engine.clone(), new));
        }
        let (_, launcher) = kept.as_mut().expect("set above");
        launch::run(plan, tools, host, Some(&mut **launcher))
    }
}
