//! The remote store: a bucket or a folder with the records and contents of trials, under the names
//! that they have in `artifacts/`, which a team shares.
//!
//! `bench remote` moves the objects; here is decided which, and every digest is checked before
//! anything is stored. Whatever fails counts as not there: one warning, and the rest of the run
//! does not ask again.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bench_core::{
    canonical::Digest,
    schema::{Outcome, RemoteAsk, RemoteOutcome, RemoteReply, RemoteRequest},
};

use crate::{
    cli::{RemoteArgs, RunArgs},
    error::Code,
};
use dag::{LEAF, RECORD};
use profile::Profile;
use store::{Action, Store, blob_name, record_name};

/// What stands in the place of a URL for no remote store.
const NONE: &str = "none";

/// How often a signal is looked for while waiting.
const TICK: Duration = Duration::from_millis(100);

/// The remote store of a run.
pub struct Remote<'a> {
    url: String,
    read: bool,
    write: bool,
    interrupted: &'a AtomicBool,
    /// Takes each warning.
    warn: Box<dyn Fn(&str) + 'a>,
    link: Link,
    /// Trials that were asked for; none is asked for twice.
    asked: BTreeSet<Digest>,
    /// Trials that are there, or on their way.
    there: BTreeSet<Digest>,
    /// Requests for trials to be made that have no reply.
    pushing: BTreeSet<u64>,
    moved: Moved,
    /// Whether the warning of damage was given.
    damage_told: bool,
}

/// Trials that a run has taken from a remote store and brought there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moved {
    /// Taken.
    pub fetched: usize,
    /// Brought.
    pub made: usize,
}

/// `bench remote`.
enum Link {
    /// Nothing was asked yet.
    Idle,
    Open(Process),
    /// It failed: nothing is asked any more.
    Broken,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    replies: Receiver<RemoteReply>,
    next_id: u64,
}

impl Drop for Process {
    fn drop(&mut self) {
        // All that was asked of it is answered, or nobody waits for it any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a file that comes is.
enum Part {
    Record(Digest),
    Content { trial: Digest, content: Digest },
}

/// Trials on their way here.
struct Arrivals<'a> {
    store: &'a Store,
    folder: PathBuf,
    /// What was asked for, by the request.
    parts: BTreeMap<u64, Part>,
    /// Records whose contents are not all here, with those that are missing.
    waiting: BTreeMap<Digest, (Action, BTreeSet<Digest>)>,
    stored: Vec<Digest>,
    /// Records of which an object is not what it should be, and that object: names.
    damaged: Vec<(String, String)>,
}

/// Where a profile's remote store is, unless the machine names another or none.
///
/// # Errors
/// When the machine's is no URL of one.
pub fn url(profile: &Profile, args: &RemoteArgs) -> Result<Option<String>> {
    let own = args.remote.as_deref().filter(|url| !url.is_empty());
    if let Some(Err(expected)) = own.filter(|url| *url != NONE).map(profile::check_remote_url) {
        let what = "--remote or BENCH_REMOTE is no URL of a remote store";
        return Err(Code::CommandLine.error(format!("{what}: {expected}")));
    }
    // Of a server that nobody has named nothing is kept, here or there.
    if !profile.is_identified() {
        return Ok(None);
    }
    let given = profile.remote.as_ref().map(|remote| &*remote.url);
    Ok(own.or(given).filter(|url| *url != NONE).map(str::to_owned))
}

impl<'a> Remote<'a> {
    /// The one at that URL, to be read.
    pub fn new(url: String, interrupted: &'a AtomicBool, warn: impl Fn(&str) + 'a) -> Self {
        Self {
            url,
            read: true,
            write: false,
            interrupted,
            warn: Box::new(warn),
            link: Link::Idle,
            asked: BTreeSet::new(),
            there: BTreeSet::new(),
            pushing: BTreeSet::new(),
            moved: Moved::default(),
            damage_told: false,
        }
    }

    /// As a run uses it: it may write, and where it measures afresh it does not read.
    pub fn of_run(self, profile: &Profile, run: &RunArgs) -> Self {
        let is_ci = || env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&&*value));
        let said = run.remote_write.or(profile.remote.as_ref().and_then(|remote| remote.write));
        Self { read: !run.fresh, write: said.unwrap_or_else(is_ci), ..self }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Brings what is there of these trials into the store; those that came. Each is asked for once
    /// in a run.
    pub fn fetch(&mut self, store: &Store, keys: &[Digest]) -> Vec<Digest> {
        let keys: Vec<Digest> =
            keys.iter().copied().filter(|key| self.asked.insert(*key)).collect();
        if keys.is_empty() || !self.read || matches!(self.link, Link::Broken) {
            return Vec::new();
        }
        let folder = match store.tmp_folder() {
            Ok(folder) => folder,
            Err(error) => {
                self.give_up(&error);
                return Vec::new();
            }
        };
        let mut arrivals = Arrivals::new(store, folder);
        if let Err(error) = self.receive(&mut arrivals, &keys) {
            self.give_up(&error);
        }
        // What cannot be removed now goes with the run.
        let _ = fs::remove_dir_all(&arrivals.folder);
        self.tell_damage(&arrivals.damaged);
        self.there.extend(&arrivals.stored);
        self.moved.fetched += arrivals.stored.len();
        arrivals.stored
    }

    /// Those of these trials that are there.
    pub fn find(&mut self, keys: &[Digest]) -> BTreeSet<Digest> {
        let mut found = BTreeSet::new();
        if let Err(error) = self.look(keys, &mut found) {
            self.give_up(&error);
        }
        found
    }

    /// Begins to make these trials there, where they are not and this run may write.
    pub fn push(&mut self, store: &Store, keys: &[Digest]) {
        if !self.write {
            return;
        }
        for key in keys {
            if !matches!(self.link, Link::Broken)
                && self.there.insert(*key)
                && let Err(error) = self.begin_push(store, key)
            {
                self.give_up(&error);
            }
        }
    }

    /// Waits until what was begun is done.
    pub fn finish(&mut self) -> Moved {
        while !self.pushing.is_empty() {
            if let Err(error) = self.next_reply().and_then(|reply| self.note_push(&reply)) {
                self.give_up(&error);
            }
        }
        self.moved
    }

    fn receive(&mut self, arrivals: &mut Arrivals<'_>, keys: &[Digest]) -> Result<()> {
        for key in keys {
            self.ask_for(arrivals, record_name(&LEAF, key), Part::Record(*key))?;
        }
        while !arrivals.parts.is_empty() {
            let reply = self.next_reply()?;
            let Some(part) = arrivals.parts.remove(&reply.id) else {
                self.note_push(&reply)?;
                continue;
            };
            let is_there = match reply.outcome {
                RemoteOutcome::Failed { why } => bail!(why),
                outcome => outcome == RemoteOutcome::There,
            };
            match part {
                Part::Record(trial) if is_there => {
                    for content in arrivals.record(trial, reply.id)? {
                        let part = Part::Content { trial, content };
                        self.ask_for(arrivals, blob_name(&content), part)?;
                    }
                }
                Part::Record(_) => {}
                Part::Content { trial, content } => {
                    let file = is_there.then_some(reply.id);
                    arrivals.content(trial, content, file)?;
                }
            }
        }
        Ok(())
    }

    fn ask_for(&mut self, arrivals: &mut Arrivals<'_>, name: String, part: Part) -> Result<()> {
        let folder = &arrivals.folder;
        let id = self.ask(|id| RemoteAsk::Fetch { name, to: file(folder, id) })?;
        arrivals.parts.insert(id, part);
        Ok(())
    }

    fn look(&mut self, keys: &[Digest], found: &mut BTreeSet<Digest>) -> Result<()> {
        let mut asked = BTreeMap::new();
        for key in keys {
            let name = record_name(&LEAF, key);
            asked.insert(self.ask(|_| RemoteAsk::Find { name })?, *key);
        }
        while !asked.is_empty() {
            let reply = self.next_reply()?;
            let key = asked.remove(&reply.id);
            match reply.outcome {
                RemoteOutcome::Failed { why } => bail!(why),
                RemoteOutcome::There => found.extend(key),
                RemoteOutcome::Absent | RemoteOutcome::Made => {}
            }
        }
        Ok(())
    }

    fn begin_push(&mut self, store: &Store, key: &Digest) -> Result<()> {
        // What came without its samples would keep those who have them from sharing them.
        let Some(objects) = store.objects(&LEAF, key)? else { return Ok(()) };
        let id = self.ask(|_| RemoteAsk::Push { objects })?;
        self.pushing.insert(id);
        while let Link::Open(process) = &mut self.link
            && let Ok(reply) = process.replies.try_recv()
        {
            self.note_push(&reply)?;
        }
        Ok(())
    }

    fn note_push(&mut self, reply: &RemoteReply) -> Result<()> {
        self.pushing.remove(&reply.id);
        match &reply.outcome {
            RemoteOutcome::Failed { why } => bail!("{why}"),
            RemoteOutcome::Made => self.moved.made += 1,
            RemoteOutcome::There | RemoteOutcome::Absent => {}
        }
        Ok(())
    }

    /// Sends a request; its number.
    fn ask(&mut self, ask: impl FnOnce(u64) -> RemoteAsk) -> Result<u64> {
        if matches!(self.link, Link::Idle) {
            self.link = Link::Open(Process::start(&self.url)?);
        }
        let Link::Open(process) = &mut self.link else { bail!("it has failed before") };
        let id = process.next_id;
        process.next_id += 1;
        let mut line = serde_json::to_vec(&RemoteRequest { id, ask: ask(id) })?;
        line.push(b'\n');
        process.requests.write_all(&line).context("`bench remote` has ended")?;
        Ok(id)
    }

    fn next_reply(&self) -> Result<RemoteReply> {
        let Link::Open(process) = &self.link else { bail!("it has failed before") };
        loop {
            match process.replies.recv_timeout(TICK) {
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Disconnected) => bail!("`bench remote` has ended"),
                Err(RecvTimeoutError::Timeout) if self.interrupted.load(Ordering::Relaxed) => {
                    bail!("interrupted")
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Nothing is asked any more.
    fn give_up(&mut self, error: &anyhow::Error) {
        self.link = Link::Broken;
        self.pushing.clear();
        if !self.interrupted.load(Ordering::Relaxed) {
            (self.warn)(&format!(
                "the remote store {} is left alone for the rest of this run: {error:#}",
                self.url
            ));
        }
    }

    fn tell_damage(&mut self, damaged: &[(String, String)]) {
        let Some((record, object)) = damaged.first().filter(|_| !self.damage_told) else { return };
        self.damage_told = true;
        let others = match damaged.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        // Contents of another measurement would not be those that the record names.
        let and_its_record =
            if record == object { String::new() } else { format!(" and {record}") };
        (self.warn)(&format!(
            "{}/{object} is damaged{others}, so its trial counts as not there: remove \
             it{and_its_record}, and who writes next makes it again",
            self.url.trim_end_matches('/')
        ));
    }
}

impl Process {
    fn start(url: &str) -> Result<Self> {
        let mut child = Command::new(engines::bench_binary()?)
            .args(["remote", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in a terminal is for us, who end it.
            .process_group(0)
            .spawn()
            .context("cannot start `bench remote`")?;
        let requests = child.stdin.take().context("`bench remote` has no input")?;
        let output = child.stdout.take().context("`bench remote` has no output")?;
        let (sender, replies) = mpsc::channel();
        // Ends with the pipe.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(reply) = serde_json::from_str(&line) else { break };
                if sender.send(reply).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests, replies, next_id: 0 })
    }
}

/// The file that a request fills.
fn file(folder: &Path, id: u64) -> PathBuf {
    folder.join(id.to_string())
}

impl<'a> Arrivals<'a> {
    fn new(store: &'a Store, folder: PathBuf) -> Self {
        Self {
            store,
            folder,
            parts: BTreeMap::new(),
            waiting: BTreeMap::new(),
            stored: Vec::new(),
            damaged: Vec::new(),
        }
    }

    fn read(&self, id: u64) -> Result<Vec<u8>> {
        let path = file(&self.folder, id);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Takes the record of a trial; the contents that it lacks.
    fn record(&mut self, trial: Digest, id: u64) -> Result<Vec<Digest>> {
        let Some(action) = Action::arrived(&self.read(id)?, &LEAF, &trial) else {
            self.is_damaged(trial, record_name(&LEAF, &trial));
            return Ok(Vec::new());
        };
        let mut missing = BTreeSet::new();
        for digest in action.outputs.values() {
            if self.store.get(digest)?.is_none() {
                missing.insert(*digest);
            }
        }
        let contents = missing.iter().copied().collect();
        self.waiting.insert(trial, (action, missing));
        self.complete(trial)?;
        Ok(contents)
    }

    /// Takes a content of a trial, from the file of that request; `None` where there is none.
    fn content(&mut self, trial: Digest, content: Digest, id: Option<u64>) -> Result<()> {
        let bytes = id.map(|id| self.read(id)).transpose()?;
        match bytes.filter(|bytes| Digest::of(bytes) == content) {
            Some(bytes) => {
                self.store.put(&bytes)?;
                if let Some((_, missing)) = self.waiting.get_mut(&trial) {
                    missing.remove(&content);
                }
                self.complete(trial)
            }
            None => {
                // Of a trial that lacks several it is said once.
                if self.waiting.remove(&trial).is_some() {
                    self.is_damaged(trial, blob_name(&content));
                }
                Ok(())
            }
        }
    }

    /// Stores the record of a trial once all its contents are here.
    fn complete(&mut self, trial: Digest) -> Result<()> {
        if !self.waiting.get(&trial).is_some_and(|(_, missing)| missing.is_empty()) {
            return Ok(());
        }
        let (action, _) = self.waiting.remove(&trial).expect("it was just found");
        let record = action.outputs.get(RECORD).map(|digest| self.store.get(digest)).transpose()?;
        let is_one = |bytes: Vec<u8>| serde_json::from_slice::<Outcome>(&bytes).is_ok();
        if record.flatten().is_some_and(is_one) {
            self.store.put_action(&action)?;
            self.stored.push(trial);
        } else {
            self.is_damaged(trial, record_name(&LEAF, &trial));
        }
        Ok(())
    }

    fn is_damaged(&mut self, trial: Digest, object: String) {
        self.damaged.push((record_name(&LEAF, &trial), object));
    }
}
