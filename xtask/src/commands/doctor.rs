//! `doctor`: what this machine lacks for a profile, and the command that mends it.

use anyhow::Result;

use super::Root;
use engines::executor;

/// Prints the findings; returns whether all is well.
pub fn run(profile: &str) -> Result<bool> {
    let root = Root::find()?;
    let profile = profile::load(profile, root.given())?;
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
