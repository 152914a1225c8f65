//! Which engine a profile asks for.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{Engine, endpoint, executor, simulator, vllm};
use profile::{EngineConfig, Profile};
use store::entries;

/// The engine of a profile.
pub fn of<'a>(profile: &'a Profile, root: &Path) -> Result<Box<dyn Engine + 'a>> {
    let artifacts = root.join("artifacts");
    match &profile.engine {
        EngineConfig::Simulator { model_name, model } => {
            Ok(Box::new(simulator::Simulator { model_name, model }))
        }
        EngineConfig::Vllm(config) => {
            let lock = lock_of(&profile.path, &config.package, &config.version);
            let node = executor::node(&profile.executor, &config.gpus, &artifacts)?;
            Ok(Box::new(vllm::Vllm::new(config, lock, artifacts, node)))
        }
        EngineConfig::Endpoint(config) => {
            Ok(Box::new(endpoint::Endpoint::new(config, &profile.loads[0])))
        }
    }
}

/// The lock of a profile: beside it under its name, or, of a copied profile, another one there that has
/// the same release.
fn lock_of(profile: &Path, package: &str, version: &str) -> PathBuf {
    let own = profile.with_extension("lock");
    let folder = profile.parent().filter(|_| !own.exists());
    let has_release = |lock: &PathBuf| {
        let text = fs::read_to_string(lock).unwrap_or_default();
        text.lines().any(|line| line.trim_end_matches(" \\") == format!("{package}=={version}"))
    };
    let beside = folder.and_then(|folder| entries(folder).ok()).unwrap_or_default();
    let mut locks = beside.into_iter().filter(|path| path.extension().is_some_and(|e| e == "lock"));
    locks.find(has_release).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_profile_has_the_lock_of_its_release() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("cpu.lock"), "torch==2.9 \\\nvllm-cpu==0.22.1 \\\n").expect("writes");
        fs::write(path("cuda.lock"), "vllm==0.22.1 \\\n    --hash=sha256:0\n").expect("writes");
        let lock = |version| lock_of(&path("mine.toml"), "vllm", version);
        assert_eq!(lock("0.22.1"), path("cuda.lock"));
        assert_eq!(lock("0.22"), path("mine.lock"), "none has it");
        fs::write(path("mine.lock"), "").expect("writes");
        assert_eq!(lock("0.22.1"), path("mine.lock"), "its own goes first");
    }
}
