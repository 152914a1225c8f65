//! `launch PLAN.json`: one launch from start to stop, events on standard output, or in a folder that
//! a suite elsewhere reads.

use std::{
    io::Write as _,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use bench_core::schema::{Engine, Event, PlannedTrial};

use crate::cli::LaunchArgs;
use engines::{
    LaunchHost, executor,
    launch::{self, Tools},
    launchers, vllm,
};

/// Runs the plan in a file.
pub fn run(args: &LaunchArgs, interrupted: &Arc<AtomicBool>) -> Result<()> {
    let mut plan = bench_trials::read_plan(&args.plan)?;
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    if let Some(gpus) = plan.engine.gpus_mut() {
        *gpus = executor::allotted_gpus(gpus)?;
        if let Some(note) = &args.device {
            vllm::ensure_device(note, gpus)?;
        }
    }
    let run_dir = match args.attempt {
        Some(attempt) => out.join(format!("run-{attempt}")),
        None => out.join("run"),
    };
    let tools = Tools {
        bench: args.bench.clone().map_or_else(|| engines::driver(&plan.engine), Ok)?,
        run_dir,
        log_dir: args.logs.clone().unwrap_or_else(|| out.clone()),
        out_dir: out.clone(),
    };
    if let Some(attempt) = args.attempt {
        return Ok(executor::run_attempt(plan, attempt, tools, interrupted)?);
    }
    let mut launcher = launchers::of(&plan.engine);
    Ok(launch::run(&plan, &tools, &mut Printer { interrupted }, launcher.as_deref_mut())?)
}

/// Prints the events of a launch.
struct Printer<'a> {
    interrupted: &'a AtomicBool,
}

impl LaunchHost for Printer<'_> {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        let line = serde_json::to_string(&event).expect("an event is plain JSON");
        // A reader that went away does not stop the measurement.
        let _ = writeln!(std::io::stdout(), "{line}");
        ControlFlow::Continue(())
    }

    fn more(&mut self) -> Vec<PlannedTrial> {
        Vec::new()
    }

    fn note(&mut self, _text: String) {}

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Runs the load points of a plan on the simulator, as `bench run` does.
pub fn simulate(plan: &Path, out: &Path) -> Result<()> {
    let plan = bench_trials::read_plan(plan)?;
    let Engine::Simulator { model } = &plan.engine else {
        bail!("launch {}: not on the simulator: `bench run` drives servers", plan.launch);
    };
    bench_trials::simulate(&plan, model, out)?;
    bench_trials::emit(&Event::Done {})
}

/// Writes what computes on this machine.
pub fn tell_device(file: &Path, gpus: &[u32]) -> Result<()> {
    vllm::write_json(file, &vllm::device(&executor::allotted_gpus(gpus)?)?)
}
