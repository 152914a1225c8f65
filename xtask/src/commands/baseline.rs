//! `baseline`: keep measured configurations, ours or of `vllm bench serve`, for git and `compare`.

use std::path::Path;

use anyhow::{Context as _, Result};
use bench_core::schema::SavedResult;
use serde_json::json;

use super::{Root, agreed, read_figures};
use crate::{cli::MessageFormat, error::Code, import, output, stages::with_all_starts};
use profile::stage;
use store::disk::write_whole;

/// Saves the profile's baseline, defaults and tuned settings as one result file; asks before it
/// replaces one, unless `yes`.
pub fn save(profile: &str, name: &str, yes: bool, format: MessageFormat) -> Result<()> {
    let root = Root::find()?;
    check_name(name)?;
    let profile = profile::load(profile, root.given())?;
    let folder = root.results(&profile);
    let file = folder.join(stage::BASELINE.file());
    if !file.is_file() {
        let message = format!(
            "profile {} has no results yet: run `cargo xtask suite --profile {}` first",
            profile.name, profile.name
        );
        return Err(Code::NoResults.error(message));
    }
    let measured = read_figures(&file)?;
    let mut saved = SavedResult {
        header: measured.header,
        points: measured.points,
        findings: Vec::new(),
        stopping: None,
    };
    let tuned = folder.join(stage::COMPREHENSIVE.file());
    if tuned.is_file() {
        let mut tuned = read_figures(&tuned)?;
        with_all_starts(&mut saved.points, &mut tuned.points);
        saved.points.extend(tuned.points);
        saved.stopping = tuned.stopping;
    }
    saved.header.stage = "baseline save".to_owned();
    let path = root.baselines().join(format!("{name}.json"));
    if path.exists() && !yes && !agreed(&format!("replace {}?", path.display()), format)? {
        let message = format!("{} stays as it is: --yes replaces it", path.display());
        return Err(Code::Exists.error(message));
    }
    write(&root, name, &saved)?;
    say("saved", name, &profile.name, format)
}

/// Imports a result of `vllm bench serve --save-result`, which ran that load.
pub fn import(file: &Path, name: &str, load: &str, format: MessageFormat) -> Result<()> {
    let root = Root::find()?;
    check_name(name)?;
    let text = std::fs::read(file)
        .map_err(|e| Code::FileRefused.error(format!("cannot read {}: {e}", file.display())))?;
    let imported = import::vllm_result(&text, name, load)
        .map_err(|e| Code::FileRefused.error(format!("cannot import {}: {e}", file.display())))?;
    write(&root, name, &imported)?;
    say("imported", name, "PROFILE", format)
}

/// Says what became of a baseline, and what it can be compared with.
fn say(done: &str, name: &str, profile: &str, format: MessageFormat) -> Result<()> {
    let (file, compare) =
        (format!("baselines/{name}.json"), format!("cargo xtask compare {name} {profile}"));
    match format {
        MessageFormat::Human => outln!("{done} {file}: compare with `{compare}`"),
        MessageFormat::Json => {
            output::answer("baseline", &json!({ "name": name, "file": file, "compare": compare }))
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let message =
            format!("`{name}` is no name for a baseline: use letters, digits, `-`, `_` and `.`");
        return Err(Code::CommandLine.error(message));
    }
    if name == "week2" {
        return Err(
            Code::CommandLine.error("week2 holds the seed's own figures and is not written")
        );
    }
    Ok(())
}

fn write(root: &Root, name: &str, baseline: &SavedResult) -> Result<()> {
    let path = root.baselines().join(format!("{name}.json"));
    let mut text = serde_json::to_vec_pretty(baseline)?;
    text.push(b'\n');
    write_whole(&path, &text).with_context(|| format!("writing {}", path.display()))
}
