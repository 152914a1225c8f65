//! What of the store nothing leads to any more.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use bench_core::canonical::Digest;

use super::{Action, Store};

/// Files or folders of one kind that may go.
#[derive(Debug)]
pub struct Garbage {
    /// What they are.
    pub what: &'static str,
    /// Where they lie; in an order in which each may go before the next.
    pub paths: Vec<PathBuf>,
}

impl Garbage {
    /// Their size.
    pub fn bytes(&self) -> u64 {
        self.paths.iter().map(|path| size(path)).sum()
    }

    /// Removes them.
    pub fn remove(&self) -> Result<()> {
        for path in &self.paths {
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }
}

/// Size of a file, or of all files below a folder.
fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            entries(path).unwrap_or_default().iter().map(|p| size(p)).sum()
        }
        Ok(found) => found.len(),
        Err(_) => 0,
    }
}

/// Paths in a folder; none where it does not exist.
pub fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Whether a file was last written before then.
pub fn is_older(path: &Path, than: SystemTime) -> bool {
    fs::metadata(path).and_then(|found| found.modified()).is_ok_and(|written| written < than)
}

impl Store {
    /// Records and content older than `before` to which neither `roots` nor the latest results of
    /// any profile lead, damaged files, and old logs.
    ///
    /// # Errors
    /// While another run uses the store: what it has not recorded yet would look like garbage.
    pub fn garbage(&self, roots: &BTreeSet<Digest>, before: SystemTime) -> Result<Vec<Garbage>> {
        self.ensure_alone()?;
        let mut roots = roots.clone();
        roots.extend(self.latest_keys()?);
        let mut stored = Vec::new();
        for path in files(&self.root.join("actions"))? {
            let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            // A damaged one is set aside by whoever needs it.
            stored.extend(Action::from_json(&text).map(|action| (path, action)));
        }
        let is_named = |path: &Path, action: &Action, named: &BTreeSet<Digest>| {
            named.contains(&action.key) || !is_older(path, before)
        };
        let of_stages: Vec<Digest> = stored
            .iter()
            .filter(|(path, action)| is_named(path, action, &roots))
            .flat_map(|(_, action)| action.leaves.values().copied())
            .collect();
        roots.extend(of_stages);
        let (kept, records): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|(path, action)| is_named(path, action, &roots));
        // A profile's latest calibration is content, under no record.
        let needed: BTreeSet<PathBuf> = kept
            .iter()
            .flat_map(|(_, action)| action.outputs.values())
            .chain(&roots)
            .map(|digest| self.blob_path(digest))
            .collect();
        let mut content = files(&self.root.join("blobs"))?;
        content.retain(|path| !needed.contains(path) && is_older(path, before));
        let mut logs = files(&self.root.join("logs"))?;
        logs.retain(|path| is_older(path, before));
        Ok(vec![
            // Before their content, so that no record is ever without it.
            Garbage {
                what: "results that nothing needs",
                paths: records.into_iter().map(|(path, _)| path).collect(),
            },
            Garbage { what: "content of such results", paths: content },
            Garbage {
                what: "damaged files, set aside",
                paths: files(&self.root.join("quarantine"))?,
            },
            Garbage { what: "old logs", paths: logs },
        ])
    }

    fn latest_keys(&self) -> Result<Vec<Digest>> {
        let mut keys = Vec::new();
        for path in files(&self.root.join("latest"))? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            keys.extend(Digest::parse(text.trim()));
        }
        Ok(keys)
    }

    fn ensure_alone(&self) -> Result<()> {
        let own = self.run.as_ref().map(|run| run.path.as_path());
        for path in entries(&self.root.join("tmp"))? {
            let lives = own != Some(&*path) && super::run_lives(&path);
            if lives {
                bail!(
                    "a run uses {} now ({}); wait for its end",
                    self.root.display(),
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// Every file below a folder.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let paths = entries(folder).with_context(|| format!("reading {}", folder.display()))?;
    for path in paths {
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort_unstable();
    Ok(found)
}
