//! `launch PLAN.json`: one launch from start to stop, events on standard output.

use std::{
    io::Write as _,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context as _, Result, bail};
use bench_core::schema::{FORMAT, LaunchPlan};

use crate::{
    engines,
    launch::{self, Tools},
};

/// Runs the plan in a file.
pub fn run(plan: &Path, out: &Path, interrupted: &Arc<AtomicBool>) -> Result<()> {
    let text = std::fs::read(plan).with_context(|| format!("reading {}", plan.display()))?;
    let read: LaunchPlan = serde_json::from_slice(&text)
        .with_context(|| format!("reading {}: not a launch plan", plan.display()))?;
    if read.format != FORMAT {
        bail!("{} has format {}, this program reads {FORMAT}", plan.display(), read.format);
    }
    std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
    let tools = Tools {
        bench: engines::bench_binary()?,
        run_dir: out.join("run"),
        log_dir: out.to_owned(),
        out_dir: out.to_owned(),
    };
    let mut print = |event| {
        let line = serde_json::to_string(&event).expect("an event is plain JSON");
        // A reader that went away does not stop the measurement.
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    launch::run(&read, &tools, interrupted, &mut print, &mut Vec::new)?;
    Ok(())
}
