//! `launch PLAN.json`: one launch from start to stop, events on standard output, or in a folder that
//! a suite elsewhere reads.

use std::{
    io::Write as _,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context as _, Result, bail};
use bench_core::schema::{Engine, FORMAT, LaunchPlan};

use crate::{
    cli::LaunchArgs,
    engines::{self, vllm},
    executor,
    launch::{self, Tools},
};

/// Runs the plan in a file.
pub fn run(args: &LaunchArgs, interrupted: &Arc<AtomicBool>) -> Result<()> {
    let mut plan = read(&args.plan)?;
    let out = &args.out;
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    if let Engine::Vllm(engine) = &mut plan.engine {
        engine.gpus = executor::allotted_gpus(&engine.gpus)?;
        if let Some(note) = &args.device {
            vllm::ensure_device(note, &engine.gpus)?;
        }
    }
    let run_dir = match args.attempt {
        Some(attempt) => out.join(format!("run-{attempt}")),
        None => out.join("run"),
    };
    let tools = Tools {
        bench: args.bench.clone().map_or_else(engines::bench_binary, Ok)?,
        run_dir,
        log_dir: args.logs.clone().unwrap_or_else(|| out.clone()),
        out_dir: out.clone(),
    };
    if let Some(attempt) = args.attempt {
        return Ok(executor::run_attempt(plan, attempt, tools, interrupted)?);
    }
    let mut print = |event| {
        let line = serde_json::to_string(&event).expect("an event is plain JSON");
        // A reader that went away does not stop the measurement.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    launch::run(&plan, &tools, interrupted, &mut print, &mut Vec::new)?;
    Ok(())
}

fn read(path: &Path) -> Result<LaunchPlan> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let plan: LaunchPlan = serde_json::from_slice(&text)
        .with_context(|| format!("reading {}: not a launch plan", path.display()))?;
    if plan.format != FORMAT {
        bail!("{} has format {}, this program reads {FORMAT}", path.display(), plan.format);
    }
    Ok(plan)
}

/// Writes what computes on this machine.
pub fn tell_device(file: &Path, gpus: &[u32]) -> Result<()> {
    vllm::write_json(file, &vllm::device(&executor::allotted_gpus(gpus)?)?)
}
