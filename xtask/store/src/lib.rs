//! The store under `artifacts/`: content by digest, and what is known of each key.
//!
//! ```text
//! artifacts/
//!   blobs/ab/cdef…             content, named by its SHA-256
//!   actions/KIND/ab/cdef….json what came of a key: key inputs and digests of outputs
//!   latest/PROFILE/STAGE       key that a stage had last, for `explain`
//!   tmp/RUN/                   work in progress; a run's folder is locked while it lives
//!   locks/                     kernel file locks, one a launch
//!   quarantine/                what did not match its digest
//!   run/                       notes of running process groups
//!   logs/                      of servers and of `bench run`
//!   format, CACHEDIR.TAG       version of this layout; a mark for backup tools
//! ```
//!
//! A file appears under its final name only whole: it is written in `tmp/`, synced, renamed. The
//! action record comes last, so a key is either finished with all its outputs or not there.

mod action;
mod bundle;
pub mod disk;
mod garbage;
mod names;
mod object;
mod records;
mod verify;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use bench_core::canonical::Digest;
use disk::{Disk, RealDisk};

pub use action::{Action, Kind};
pub use bundle::{
    BYTES_MAX_WITH_FILES as BUNDLE_BYTES_MAX, Bundle, CarriedFile, Entry,
    TEXT_BYTES_MAX_WITH_FILES as BUNDLE_TEXT_BYTES_MAX, packed,
};
pub use garbage::{Garbage, entries};
pub use names::{blob_name, record_name};
pub use verify::Verified;

/// Version of the store's layout.
const FORMAT: &str = "1";
/// So that backup tools leave the store out (bford.info/cachedir).
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # The store of the tuning bench: everything in it can be measured again.\n";

/// An open store, with a folder of its own for work in progress.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    disk: Box<dyn Disk>,
    run: Option<RunFolder>,
    next_tmp: AtomicU64,
    /// What was written while the store is read-only: planning may run cheap stages.
    memory: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
}

/// A run's folder under `tmp/`; its lock says that the run lives.
#[derive(Debug)]
struct RunFolder {
    path: PathBuf,
    _lock: File,
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            // What cannot be removed now is removed by the next run, which finds it unlocked.
            let _ = self.disk.remove_dir_all(&run.path);
        }
    }
}

/// Whether the run that has this folder under `tmp/` goes on.
pub fn run_lives(folder: &Path) -> bool {
    // Opened for writing: over NFS no other file can be locked.
    let lock = File::options().append(true).open(folder.join("lock"));
    lock.is_ok_and(|lock| lock.try_lock().is_err())
}

impl Store {
    /// Opens the store for reading; what is written goes no further than memory.
    ///
    /// # Errors
    /// When the store was written by a version with another layout.
    pub fn open_read_only(root: &Path) -> Result<Self> {
        Self::open_on(Box::new(RealDisk), root)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_on(disk: Box<dyn Disk>, root: &Path) -> Result<Self> {
        let format = disk.read(&root.join("format"));
        match format.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
            Ok(found) if found.trim() == FORMAT => {}
            Ok(found) => bail!(
                "the store {} has format {}, this program reads {FORMAT}: move it away or use the \
                 program that wrote it",
                root.display(),
                found.trim()
            ),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("reading {}/format", root.display())),
        }
        Ok(Self {
            root: root.to_owned(),
            disk,
            run: None,
            next_tmp: AtomicU64::new(0),
            memory: Mutex::default(),
        })
    }

    /// Makes the store writable: creates what is missing and clears what dead runs left in
    /// `tmp/`.
    pub fn make_writable(&mut self) -> Result<()> {
        if self.run.is_some() {
            return Ok(());
        }
        let context = || format!("preparing the store {}", self.root.display());
        for folder in ["blobs", "actions", "latest", "tmp", "locks", "quarantine"] {
            self.disk.create_dir_all(&self.root.join(folder)).with_context(context)?;
        }
        self.clear_dead_runs().with_context(context)?;
        self.run = Some(self.new_run_folder().with_context(context)?);
        for (name, text) in [("CACHEDIR.TAG", CACHEDIR_TAG), ("format", FORMAT)] {
            let path = self.root.join(name);
            if !path.exists() {
                self.write(&path, text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn clear_dead_runs(&self) -> io::Result<()> {
        let _creation = self.lock_file("tmp")?;
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let path = entry?.path();
            if run_lives(&path) {
                continue;
            }
            match fs::remove_dir_all(&path) {
                // A job that the run left on a cluster still writes there; the next run clears it.
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    fn new_run_folder(&self) -> io::Result<RunFolder> {
        // Held while the folder has no lock yet, so that no other run takes it for dead.
        let _creation = self.lock_file("tmp")?;
        let pid = std::process::id();
        for n in 0.. {
            let path = self.root.join("tmp").join(format!("{pid}-{n}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let lock = File::create(path.join("lock"))?;
                    lock.lock()?;
                    return Ok(RunFolder { path, _lock: lock });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        unreachable!("some number is free")
    }

    /// Waits for the lock of that name and holds it until the file is dropped.
    fn lock_file(&self, name: &str) -> io::Result<File> {
        let path = self.root.join("locks").join(format!("{name}.lock"));
        let lock = File::options().create(true).append(true).open(path)?;
        lock.lock()?;
        Ok(lock)
    }

    /// Waits until no other run measures what `digest` names; holds until the guard is dropped.
    pub fn lock(&self, digest: &Digest) -> Result<File> {
        self.lock_file(&digest.to_string())
            .with_context(|| format!("locking {} in {}", digest.short(), self.root.display()))
    }

    /// Folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A new empty folder for work in progress; it goes with the run.
    pub fn tmp_folder(&self) -> Result<PathBuf> {
        let path = self.tmp_path();
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(path)
    }

    fn tmp_path(&self) -> PathBuf {
        let run = self.run.as_ref().expect("a store is made writable before it is written");
        run.path.join(self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(blob_name(digest))
    }

    fn action_path(&self, kind: &Kind, key: &Digest) -> PathBuf {
        self.root.join(record_name(kind, key))
    }

    /// Reads a file of the store; `None` when it is not there.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.memory.lock().expect("no thread panics with the lock").get(path) {
            return Ok(Some(bytes.clone()));
        }
        match self.disk.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Stores content and returns its digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        // A blob of the right length may still be damaged: writing it again heals it.
        if self.disk.read(&path).is_ok_and(|found| found == bytes) {
            return Ok(digest);
        }
        self.write(&path, bytes)?;
        Ok(digest)
    }

    /// Content by digest; `None` when it is not there. What does not match its digest is set
    /// aside and counts as not there.
    pub fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest);
        let Some(bytes) = self.read(&path)? else { return Ok(None) };
        if Digest::of(&bytes) == *digest {
            return Ok(Some(bytes));
        }
        self.quarantine(&path)?;
        Ok(None)
    }

    /// Whether there is content under that digest; does not read it.
    pub fn has(&self, digest: &Digest) -> bool {
        let path = self.blob_path(digest);
        let memory = self.memory.lock().expect("no thread panics with the lock");
        memory.contains_key(&path) || path.exists()
    }

    /// What came of a key; `None` when nothing did, or its record is damaged.
    pub fn action(&self, kind: &Kind, key: &Digest) -> Result<Option<Action>> {
        let path = self.action_path(kind, key);
        let Some(text) = self.read(&path)? else { return Ok(None) };
        match Action::from_json(&text) {
            Some(action) if action.key == *key && action.kind == *kind => {
                Ok(action.outputs.values().all(|digest| self.has(digest)).then_some(action))
            }
            _ => {
                self.quarantine(&path)?;
                Ok(None)
            }
        }
    }

    /// Records what came of a key. The outputs must be stored already.
    pub fn put_action(&self, action: &Action) -> Result<()> {
        self.write(&self.action_path(&action.kind, &action.key), &action.to_json())
    }

    /// Stores outputs and then their action record.
    pub fn publish(
        &self,
        kind: &Kind,
        key_inputs: serde_json::Value,
        outputs: &BTreeMap<String, Vec<u8>>,
        leaves: BTreeMap<String, Digest>,
    ) -> Result<Action> {
        let mut digests = BTreeMap::new();
        for (name, bytes) in outputs {
            digests.insert(name.clone(), self.put(bytes)?);
        }
        let action = Action::new(kind.clone(), key_inputs, digests, leaves)?;
        self.put_action(&action)?;
        Ok(action)
    }

    /// Key that a stage of a profile had when it last finished.
    pub fn latest(&self, profile: &str, stage: &str) -> Option<Digest> {
        let text = self.read(&self.root.join("latest").join(profile).join(stage)).ok()??;
        Digest::parse(std::str::from_utf8(&text).ok()?.trim())
    }

    /// Remembers the key that a stage had when it finished.
    pub fn set_latest(&self, profile: &str, stage: &str, key: &Digest) -> Result<()> {
        if self.latest(profile, stage) == Some(*key) {
            return Ok(());
        }
        self.write(&self.root.join("latest").join(profile).join(stage), key.to_string().as_bytes())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        if self.run.is_none() {
            let mut memory = self.memory.lock().expect("no thread panics with the lock");
            memory.insert(path.to_owned(), bytes.to_owned());
            return Ok(());
        }
        let tmp = self.tmp_path();
        let folder = path.parent().expect("a stored file lies in a folder");
        let disk = &self.disk;
        disk.write(&tmp, bytes)
            .and_then(|()| disk.sync(&tmp))
            .and_then(|()| disk.create_dir_all(folder))
            .and_then(|()| disk.rename(&tmp, path))
            .and_then(|()| disk.sync(folder))
            .with_context(|| format!("writing {}", path.display()))
    }

    fn quarantine(&self, path: &Path) -> Result<()> {
        if self.run.is_none() {
            return Ok(());
        }
        let folder = self.root.join("quarantine");
        self.disk
            .create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        let name =
            path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('/', "-");
        match self.disk.rename(path, &folder.join(name)) {
            // Another run may have set it aside already.
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("setting {} aside", path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
