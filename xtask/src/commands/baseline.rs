//! `baseline save NAME`: keep a profile's measured configurations for git and for `compare`.

use anyhow::{Context as _, Result};

use super::{Root, read_result};
use crate::{config, results, stages, usage::UsageError};

/// Saves the profile's baseline, defaults and tuned settings as one result file.
pub fn save(profile: &str, name: &str) -> Result<()> {
    let root = Root::find()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        let message =
            format!("`{name}` is no name for a baseline: use letters, digits, `-`, `_` and `.`");
        return Err(UsageError::new(message).into());
    }
    if name == "week2" {
        return Err(UsageError::new(
            "week2 holds the seed's own figures and is not written".to_owned(),
        )
        .into());
    }
    let profile = config::load(profile, root.path())?;
    let folder = root.results(&profile);
    let file = folder.join(stages::BASELINE_FILE);
    if !file.is_file() {
        let message = format!(
            "profile {} has no results yet: run cargo xtask suite --profile {} first",
            profile.name, profile.name
        );
        return Err(UsageError::new(message).into());
    }
    let mut saved = read_result(&file)?;
    let tuned = folder.join(stages::COMPREHENSIVE_FILE);
    if tuned.is_file() {
        saved.points.extend(read_result(&tuned)?.points);
    }
    saved.stage = "baseline save".to_owned();
    let path = root.baselines().join(format!("{name}.json"));
    let mut text = serde_json::to_vec_pretty(&saved)?;
    text.push(b'\n');
    results::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    println!(
        "saved baselines/{name}.json: compare with `cargo xtask compare {name} {}`",
        profile.name
    );
    Ok(())
}
