//! How fast and exact the load generator is on the host that measures, kept in the store.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
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
    let args = ["calibrate", "--seconds", "1", "--repeats", "1", "--keep"].map(OsString::from);
    let args = args.into_iter().chain([artifacts.join(FILE).into_os_string()]);
    let asked = duct::cmd(bench, args).stdout_null().stderr_capture().unchecked();
    let output = asked.run().context("cannot start `bench calibrate`")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`bench calibrate` ended with {}: {}",
        output.status,
        error.trim()
    );
    Ok(())
}
