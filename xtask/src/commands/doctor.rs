//! `doctor`: what this machine lacks for a profile, and the command that mends it.

use anyhow::Result;

use super::Root;
use crate::{config, engines, executor};

/// One thing that a profile needs.
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What was found when it is fine, or what is missing.
    pub found: Result<String, Missing>,
}

/// Something missing.
pub struct Missing {
    /// What is wrong.
    pub what: String,
    /// The command, or the step, that mends it.
    pub mend: String,
}

/// Prints the findings; returns whether all is well.
pub fn run(profile: &str) -> Result<bool> {
    let root = Root::find()?;
    let profile = config::load(profile, root.given())?;
    let engine = engines::of(&profile, root.path())?;
    outln!(" profile   {}, as written in {}", profile.name, profile.path.display())?;
    let mut well = true;
    let executor = executor::of(&profile, &root.artifacts())?;
    for finding in engine.doctor().into_iter().chain(executor.doctor()) {
        match finding.found {
            Ok(found) => outln!(" ✓ {:<18} {found}", finding.what)?,
            Err(missing) => {
                well = false;
                outln!(
                    " ✗ {:<18} {}\n   {:<18} mend: {}",
                    finding.what,
                    missing.what,
                    "",
                    missing.mend
                )?;
            }
        }
    }
    Ok(well)
}
