//! How fast and exact the load generator is on the host that measures, kept in the store.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use bench_core::{canonical::Digest, schema::Calibration};

/// Name of the file in the store: one host measures into one store.
const FILE: &str = "calibration.json";

/// What was found when the store's host last measured over HTTP; `None` before, or when the file
/// cannot be read, since it is made again.
pub fn stored(artifacts: &Path) -> Option<Calibration> {
    serde_json::from_slice(&fs::read(artifacts.join(FILE)).ok()?).ok()
}

/// What stands for a calibration in a key, which holds no floats.
pub fn digest(calibration: &Calibration) -> Digest {
    Digest::of(&serde_json::to_vec(calibration).expect("a calibration is JSON"))
}

/// Calibrates the load generator, in less than 20 seconds, unless that was done on this host with
/// this instrument. `say` gets a line before it takes long.
pub fn ensure(artifacts: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
    let bench = engines::bench_binary()?;
    say("calibrating the load generator on this host, unless that has been done");
    duct::cmd!(
        bench,
        "calibrate",
        "--seconds",
        "1",
        "--repeats",
        "1",
        "--keep",
        artifacts.join(FILE)
    )
    .stdout_null()
    .run()
    .context("calibrating the load generator")?;
    Ok(())
}
