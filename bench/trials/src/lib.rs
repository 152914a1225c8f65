//! Shared by `bench`, which measures over HTTP, and `xtask`, which runs the simulator without a second
//! program: the plan of a launch, the requests of a load, raw samples on their way to disk, events for the
//! parent process, and trials on the simulator.

mod answers;
mod data;
mod recorder;
mod simulated;

use std::{fs, io::Write as _, path::Path};

use anyhow::Context as _;
use bench_core::{
    schema::{Arrival, Event, FORMAT, LaunchPlan, Size},
    workload::{Plan, Workload},
};

pub use self::{answers::prompts, data::workload, recorder::Recorder, simulated::simulate};

/// Reads a launch plan and checks what running it relies on.
///
/// # Errors
/// When it cannot be read, or is the plan of another version.
pub fn read_plan(path: &Path) -> anyhow::Result<LaunchPlan> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let plan: LaunchPlan = serde_json::from_str(&text)
        .with_context(|| format!("{} is no launch plan", path.display()))?;
    anyhow::ensure!(
        plan.format == FORMAT,
        "{} has format {}, this program reads {FORMAT}; build both from one commit",
        path.display(),
        plan.format
    );
    for trial in &plan.trials {
        anyhow::ensure!(!trial.load.classes.is_empty(), "trial {} has no classes", trial.key);
    }
    Ok(plan)
}

/// Prints an event as a line of JSON.
///
/// # Errors
/// When nobody reads any more, which ends a run.
pub fn emit(event: &Event) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(event).context("cannot write an event as JSON")?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Number of requests of a load; 0 of a closed loop with a duration, where it is not known beforehand.
pub fn planned(load: &Workload) -> u64 {
    match (&load.arrival, load.size) {
        (_, Size::Requests(count)) => u64::from(count),
        (Arrival::ClosedLoop { .. }, Size::DurationMs(_)) => 0,
        _ => Plan::new(load).count() as u64,
    }
}
