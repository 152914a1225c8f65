//! Every byte of the store read again.

use std::path::PathBuf;

use anyhow::Result;
use bench_core::canonical::Digest;
use serde::Serialize;

use super::{Action, Store, garbage::files};

/// What a look at every file found.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Records that are whole.
    pub records: u64,
    /// Contents that match their digest.
    pub contents: u64,
    /// Size of the contents, in bytes.
    pub bytes: u64,
    /// Files that were set aside.
    pub damaged: Vec<PathBuf>,
    /// Records without all of their content: their keys count as not there.
    pub incomplete: u64,
}

impl Verified {
    /// Whether nothing is lost.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.incomplete == 0
    }
}

impl Store {
    /// Reads all content and all records, and sets aside what does not match its digest. Safe while
    /// suites run: a file is either whole or not there.
    ///
    /// # Errors
    /// What cannot be read or set aside.
    pub fn verify(&self) -> Result<Verified> {
        let mut found = Verified::default();
        for path in files(&self.root.join("blobs"))? {
            let Some(bytes) = self.read(&path)? else { continue };
            if self.blob_path(&Digest::of(&bytes)) == path {
                found.contents += 1;
                found.bytes += bytes.len() as u64;
            } else {
                self.set_aside(path, &mut found)?;
            }
        }
        for path in files(&self.root.join("actions"))? {
            let Some(text) = self.read(&path)? else { continue };
            match Action::from_json(&text) {
                Some(action) if self.action_path(&action.kind, &action.key) == path => {
                    let is_whole = action.outputs.values().all(|digest| self.has(digest));
                    *(if is_whole { &mut found.records } else { &mut found.incomplete }) += 1;
                }
                _ => self.set_aside(path, &mut found)?,
            }
        }
        Ok(found)
    }

    fn set_aside(&self, path: PathBuf, found: &mut Verified) -> Result<()> {
        self.quarantine(&path)?;
        found.damaged.push(path);
        Ok(())
    }
}
