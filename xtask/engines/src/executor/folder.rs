//! A launch that runs elsewhere and its owner talk through a folder that both see.
//!
//! ```text
//! FOLDER/
//!   plan.json         what is to be measured
//!   more-N.json       what else is wanted of this start, N from 1; an empty list ends the launch
//!   attempt-N/        N: how often the launch was started again elsewhere, from 0
//!     events.jsonl    one event a line
//!     KEY.jsonl.gz    raw samples
//!   run-N/            that attempt's notes of process groups
//! ```
//!
//! Every file has one writer: each attempt its own events, since one whose machine was given up
//! may go on for a while. A file of the owner appears only whole. What an attempt measured, the
//! next one leaves out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{Event, LaunchPlan, PlannedTrial},
};

use store::disk::write_whole;

use crate::{
    LaunchHost,
    launch::{self, LaunchError, Tools},
    launchers,
};

/// How often a file that is to appear is looked for.
const POLL: Duration = Duration::from_millis(200);

/// How long a launch waits for the word what else is wanted. A network file system may show a new
/// file after a minute; an owner that is dead never answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// A launch's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    fn more(&self, round: u32) -> PathBuf {
        self.0.join(format!("more-{round}.json"))
    }

    fn attempt(&self, attempt: u32) -> PathBuf {
        self.0.join(attempt_name(attempt))
    }

    /// Says what is to be measured.
    pub(super) fn write_plan(&self, plan: &LaunchPlan) -> Result<()> {
        write(&self.plan(), &serde_json::to_vec(plan).context("the plan is not JSON")?)
    }

    /// Answers what else is wanted.
    pub(super) fn write_more(&self, round: u32, more: &[PlannedTrial]) -> Result<()> {
        write(&self.more(round), &serde_json::to_vec(more).context("trials are not JSON")?)
    }

    /// The answer of that round, once it is there.
    fn read_more(&self, round: u32) -> Result<Option<Vec<PlannedTrial>>> {
        let path = self.more(round);
        let Some(bytes) = if_there(fs::read(&path), &path)? else { return Ok(None) };
        let more = serde_json::from_slice(&bytes);
        more.map(Some).with_context(|| format!("{} is no list of trials", path.display()))
    }

    /// Numbers of the attempts that have begun, in order.
    fn attempts(&self) -> Result<BTreeSet<u32>> {
        let entries =
            fs::read_dir(&self.0).with_context(|| format!("cannot read {}", self.0.display()))?;
        let number = |entry: io::Result<fs::DirEntry>| {
            let name = entry.map(|entry| entry.file_name())?;
            Ok(name.to_str().and_then(|name| name.strip_prefix("attempt-")?.parse().ok()))
        };
        let numbers: io::Result<Vec<Option<u32>>> = entries.map(number).collect();
        Ok(numbers?.into_iter().flatten().collect())
    }
}

/// Name of an attempt's folder.
pub(super) fn attempt_name(attempt: u32) -> String {
    format!("attempt-{attempt}")
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// `None` where there is no such file yet.
fn if_there<T>(found: io::Result<T>, path: &Path) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The events of all attempts, as they come.
#[derive(Debug)]
pub(super) struct Tail {
    folder: Folder,
    /// Bytes read of each attempt's events.
    read: BTreeMap<u32, u64>,
}

impl Tail {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder, read: BTreeMap::new() }
    }

    /// What came since the last call, with the attempt that told it. A line that is not whole yet
    /// waits for its end, which it may never get.
    pub(super) fn read(&mut self) -> Result<Vec<(u32, Event)>> {
        let mut events = Vec::new();
        for attempt in self.folder.attempts()? {
            let path = self.folder.attempt(attempt).join("events.jsonl");
            let read = self.read.entry(attempt).or_default();
            // Opened anew each time: a network file system then looks for what others wrote.
            let bytes = if_there(read_from(&path, *read), &path)?.unwrap_or_default();
            let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            *read += whole as u64;
            for line in bytes[..whole].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let event = serde_json::from_slice(line)
                    .with_context(|| format!("{} has a line that is no event", path.display()))?;
                events.push((attempt, event));
            }
        }
        Ok(events)
    }
}

fn read_from(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a launch for an owner elsewhere: what earlier attempts measured is left out, and when all
/// is measured the owner is asked what else it wants. Samples go where the events are; `tools` says
/// where the rest is.
///
/// # Errors
/// See [`LaunchError`].
pub fn run_attempt(
    plan: LaunchPlan,
    attempt: u32,
    tools: Tools,
    interrupted: &AtomicBool,
) -> Result<(), LaunchError> {
    let folder = Folder(tools.out_dir);
    let known = Known::read(&folder)?;
    let out_dir = folder.attempt(attempt);
    fs::create_dir_all(&out_dir).with_context(|| format!("cannot make {}", out_dir.display()))?;
    let mut rest = plan;
    let (mut round, mut is_closed) = (1, false);
    while let Some(more) = folder.read_more(round)? {
        is_closed |= more.is_empty();
        rest.trials.extend(more);
        round += 1;
    }
    rest.trials.retain(|trial| !known.is_over && !known.recorded.contains(&trial.key));
    is_closed |= known.is_over;
    let log = Log::create(&out_dir)?;
    let mut host = Attempt { folder: &folder, log, round, is_closed, interrupted, failure: None };
    // An engine is not started to measure nothing.
    if rest.trials.is_empty() {
        rest.trials = host.more();
    }
    if rest.trials.is_empty() {
        return host.log.write(&Event::Done {}).map_err(LaunchError::from);
    }
    let tools = Tools { out_dir, ..tools };
    let outcome = launch::run(&rest, &tools, &mut host, launchers::of(&rest.engine).as_deref_mut());
    host.failure.map_or(outcome, |error| Err(error.into()))
}

/// The owner, as an attempt sees it: events go into the log, answers come through the folder.
struct Attempt<'a> {
    folder: &'a Folder,
    log: Log,
    /// Number of the next answer.
    round: u32,
    /// Whether the owner has said that nothing more is wanted.
    is_closed: bool,
    interrupted: &'a AtomicBool,
    /// Why the log could not be written.
    failure: Option<anyhow::Error>,
}

impl LaunchHost for Attempt<'_> {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match self.log.write(&event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn more(&mut self) -> Vec<PlannedTrial> {
        if self.is_closed {
            return Vec::new();
        }
        let more = await_more(self.folder, self.round, self.interrupted);
        self.round += 1;
        more
    }

    fn note(&mut self, _text: String) {}

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// What earlier attempts told.
#[derive(Default)]
struct Known {
    recorded: BTreeSet<Digest>,
    /// Whether no trial follows.
    is_over: bool,
}

impl Known {
    fn read(folder: &Folder) -> Result<Self> {
        let mut known = Self::default();
        for (_, event) in Tail::new(folder.clone()).read()? {
            match event {
                Event::Trial { key, .. } => drop(known.recorded.insert(key)),
                Event::Refused { .. } | Event::Done {} => known.is_over = true,
                Event::Ready { .. }
                | Event::Progress(_)
                | Event::Silent { .. }
                | Event::Stalled { .. } => {}
            }
        }
        Ok(known)
    }
}

/// Waits for the owner's answer; nothing is wanted any more where none comes.
fn await_more(folder: &Folder, round: u32, interrupted: &AtomicBool) -> Vec<PlannedTrial> {
    let start = Instant::now();
    while start.elapsed() < ANSWER_LIMIT && !interrupted.load(Ordering::Relaxed) {
        if let Ok(Some(more)) = folder.read_more(round) {
            return more;
        }
        thread::sleep(POLL);
    }
    Vec::new()
}

/// An attempt's events, each on the disk before the next: a machine may be lost at any time.
struct Log {
    folder: PathBuf,
    file: File,
}

impl Log {
    fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("events.jsonl");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), file })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event).context("an event is not JSON")?;
        line.push(b'\n');
        let mut write = || {
            if let Event::Trial { samples: Some(name), .. } = event {
                File::open(self.folder.join(name))?.sync_all()?;
            }
            self.file.write_all(&line)?;
            self.file.sync_data()
        };
        write().with_context(|| format!("cannot write events into {}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests;
