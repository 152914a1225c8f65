//! `gc`: remove what no result, baseline or profile needs any more.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use bench_core::{canonical::Digest, schema::Figures};

use serde_json::json;

use super::{Root, agreed};
use crate::{cli::MessageFormat, output};
use engines::vllm;
use store::{Garbage, Store, entries};

const DAY_S: u64 = 24 * 60 * 60;

/// Says what would go, asks unless told `yes`, and removes it.
pub fn run(yes: bool, keep_days: u32, format: MessageFormat) -> Result<()> {
    let root = Root::find()?;
    let mut store = Store::open_read_only(&root.artifacts())?;
    let is_json = format == MessageFormat::Json;
    let say = |garbage: &[Garbage], is_removed: bool| {
        let kinds = garbage.iter().map(
            |kind| json!({ "what": kind.what, "files": kind.paths.len(), "bytes": kind.bytes() }),
        );
        let garbage: Vec<_> = kinds.collect();
        output::answer("gc", &json!({ "garbage": garbage, "removed": is_removed }))
    };
    if !store.root().join("format").exists() {
        if is_json {
            return say(&[], false);
        }
        outln!("nothing to remove: there is no store yet")?;
        return Ok(());
    }
    // Clears what dead runs left as well.
    store.make_writable()?;
    let before = SystemTime::now() - Duration::from_secs(u64::from(keep_days) * DAY_S);
    let mut garbage = store.garbage(&named_by_results(&root)?, before)?;
    let locks = entries(&root.given().join("bench/profiles")).context("reading bench/profiles")?;
    let locks = locks.into_iter().filter(|path| path.extension().is_some_and(|e| e == "lock"));
    garbage.push(Garbage {
        what: "environments of no profile's lock",
        paths: vllm::superseded_environments(&root.artifacts(), locks)?,
    });
    garbage.retain(|garbage| !garbage.paths.is_empty());
    if is_json {
        // Told before they go, since their size is gone then.
        say(&garbage, yes && !garbage.is_empty())?;
        return if yes { garbage.iter().try_for_each(Garbage::remove) } else { Ok(()) };
    }
    if garbage.is_empty() {
        outln!("nothing to remove")?;
        return Ok(());
    }
    for garbage in &garbage {
        outln!("{:>6}  {:>9}  {}", garbage.paths.len(), size(garbage.bytes()), garbage.what)?;
    }
    if !yes && !agreed("remove them?", format)? {
        outln!("nothing was removed; --yes removes it")?;
        return Ok(());
    }
    garbage.iter().try_for_each(Garbage::remove)?;
    outln!("removed")?;
    Ok(())
}

/// Trials behind the points of every result and baseline that people see.
fn named_by_results(root: &Root) -> Result<BTreeSet<Digest>> {
    let profiles = entries(&root.path().join("results")).context("reading results")?;
    let mut files: Vec<_> = Vec::new();
    for folder in profiles.iter().map(|path| path.as_path()).chain([&*root.baselines()]) {
        if folder.is_dir() {
            files.extend(entries(folder).with_context(|| format!("reading {}", folder.display()))?);
        }
    }
    let trials = files.iter().filter_map(|path| result(path)).flat_map(|file| file.points);
    Ok(trials.flat_map(|point| point.trials).map(|trial| trial.key).collect())
}

/// A result file; `None` for anything else that lies there.
fn result(path: &Path) -> Option<Figures> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.0} {}", UNITS[unit])
}
