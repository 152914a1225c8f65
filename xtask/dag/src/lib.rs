//! A content-hashed DAG. No word of engines or flags here: tasks read leaves (measured elsewhere,
//! named by key) and the outputs of other tasks, and yield named files.
//!
//! A task's key names the *content* of what it reads. A rerun that yields the same bytes
//! therefore stops there: what lies below has the same key as before.
//!
//! ```text
//! Waiting ─► Wanting (leaves) ─► Waiting (the rest of upstream) ─► Runnable (key known) ─► Done
//!                 │                                                    │
//!                 └── leaf failed ─────────────────────── run failed ──┴─► Failed
//!                                                       and what needs it: Blocked
//! ```

pub mod key;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Context as _, Result, anyhow};
use bench_core::canonical::Digest;
use serde::de::DeserializeOwned;
use serde_json::Value;

use key::StageKey;
use store::{Action, Kind, Store};

/// Files by name.
pub type Outputs = BTreeMap<String, Vec<u8>>;

/// A leaf that a task reads: its role in the task and what its key is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf<T> {
    /// Role in the task, such as `256/burst/0`.
    pub role: String,
    /// Key of the leaf.
    pub key: Digest,
    /// What is measured.
    pub what: T,
}

/// A node of the DAG: from artifacts to artifacts.
pub trait Task {
    /// What a leaf measures.
    type Leaf: Clone;

    /// Name; unique in the DAG.
    fn name(&self) -> &str;
    /// Number of what `run` does, raised by hand when its output changes.
    fn epoch(&self) -> u32;
    /// Tasks whose outputs this one reads.
    fn needs(&self) -> Vec<String>;
    /// Those of its needs that [`Task::leaves`] reads. The others may come later, so that as many
    /// leaves as possible are known before the first is measured.
    fn needs_for_leaves(&self) -> Vec<String> {
        self.needs()
    }
    /// The part of the configuration that `run` reads; no floats.
    fn config(&self) -> Value;
    /// Digests of templates and other embedded files that `run` reads, by name.
    fn templates(&self) -> BTreeMap<String, Digest> {
        BTreeMap::new()
    }
    /// Leaves that it reads, given what is upstream.
    fn leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Self::Leaf>>> {
        Ok(Vec::new())
    }
    /// Outputs of leaves that it reads beside records, of those leaves that have them.
    fn also_reads(&self) -> &[&str] {
        &[]
    }
    /// Leaves that it reads too, given the records of those that are stored: asked once all
    /// of these are, or whenever one is ([`Task::asks_early`]). What was asked for once stays asked for,
    /// whatever is stored later.
    fn further_leaves(&self, _inputs: &Inputs<'_>) -> Result<Vec<Leaf<Self::Leaf>>> {
        Ok(Vec::new())
    }
    /// Whether some of its leaves may call for further ones while others are missing.
    fn asks_early(&self) -> bool {
        false
    }
    /// From inputs to outputs: a function, with no other effect (provisioning apart).
    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs>;
}

/// What a task reads.
pub struct Inputs<'a> {
    store: &'a Store,
    upstream: BTreeMap<&'a str, &'a Action>,
    /// Records by role, other outputs by role and name.
    leaves: BTreeMap<String, Digest>,
}

impl Inputs<'_> {
    /// A file of an upstream task.
    pub fn file(&self, task: &str, name: &str) -> Result<Vec<u8>> {
        let action = self.upstream.get(task).ok_or_else(|| anyhow!("{task} is not upstream"))?;
        let digest =
            action.outputs.get(name).ok_or_else(|| anyhow!("{task} has no output {name}"))?;
        self.blob(digest).with_context(|| format!("reading {name} of {task}"))
    }

    /// A JSON file of an upstream task.
    pub fn json<T: DeserializeOwned>(&self, task: &str, name: &str) -> Result<T> {
        let bytes = self.file(task, name)?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {name} of {task}"))
    }

    /// Names of an upstream task's files.
    pub fn file_names(&self, task: &str) -> impl Iterator<Item = &str> {
        self.upstream
            .get(task)
            .into_iter()
            .flat_map(|action| action.outputs.keys().map(String::as_str))
    }

    /// Whether a task is upstream.
    pub fn has(&self, task: &str) -> bool {
        self.upstream.contains_key(task)
    }

    /// A file of a task as JSON; `None` where the task is not upstream.
    pub fn json_if_upstream<T: DeserializeOwned>(
        &self,
        task: &str,
        name: &str,
    ) -> Result<Option<T>> {
        self.has(task).then(|| self.json(task, name)).transpose()
    }

    /// Whether the record of a leaf is there.
    pub fn has_leaf(&self, role: &str) -> bool {
        self.leaves.contains_key(role)
    }

    /// The record of a leaf, by its role.
    pub fn leaf<T: DeserializeOwned>(&self, role: &str) -> Result<T> {
        let digest =
            self.leaves.get(role).ok_or_else(|| anyhow!("no trial {role} was asked for"))?;
        let bytes = self.blob(digest).with_context(|| format!("reading trial {role}"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading trial {role}"))
    }

    /// Another output of a leaf, one of [`Task::also_reads`]; `None` where the leaf has none, as
    /// when it was measured elsewhere.
    pub fn leaf_output(&self, role: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let digest = self.leaves.get(&format!("{role}/{name}"));
        digest.map(|digest| self.blob(digest)).transpose()
    }

    fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.store
            .get(digest)?
            .ok_or_else(|| anyhow!("{} was damaged and is set aside; run again", digest.short()))
    }
}

/// Name of a leaf's output that tasks read.
pub const RECORD: &str = "record";

/// What keys of tasks and of leaves stand for, under the names that the store has had for them since
/// its first format.
pub static TASK: Kind = Kind::named("stage");
/// See [`TASK`].
pub static LEAF: Kind = Kind::named("trial");

/// State of a task.
#[derive(Debug)]
pub enum State<L> {
    /// Upstream tasks that are not done.
    Waiting(Vec<String>),
    /// Leaves that are not in the store.
    Wanting(Vec<Leaf<L>>),
    /// Its inputs are there, its outputs are not.
    Runnable(StageKey, BTreeMap<String, Digest>),
    /// Its outputs are there.
    Done(Box<Action>),
    /// It failed in this run.
    Failed(String),
    /// An upstream task failed in this run.
    Blocked(String),
}

/// Leaves that a task asks for, as far as that is known.
struct Asked<L> {
    leaves: Vec<Leaf<L>>,
    roles: BTreeSet<String>,
    /// What the task reads of those that are stored, by the name in [`Inputs`].
    records: BTreeMap<String, Digest>,
}

/// The tasks in an order in which each comes after what it needs, and their states.
pub struct Dag<'a, L> {
    store: &'a Store,
    tasks: Vec<Box<dyn Task<Leaf = L> + 'a>>,
    states: Vec<State<L>>,
    /// What each task asks for, once its upstream is known.
    asked: Vec<Option<Asked<L>>>,
    /// Outputs of leaves that were found, so that each is looked up once for all its tasks.
    found: RefCell<BTreeMap<Digest, BTreeMap<String, Digest>>>,
    /// Leaves stored in this run. When measuring afresh, no others count.
    stored: BTreeSet<Digest>,
    fresh: bool,
}

impl<'a, L: Clone> Dag<'a, L> {
    /// The DAG of these tasks, all of which are looked up in the store. With `fresh`, leaves that
    /// were stored before this run count as missing.
    ///
    /// # Errors
    /// When two tasks have one name, a need does not exist, or there is a cycle.
    pub fn new(
        store: &'a Store,
        tasks: Vec<Box<dyn Task<Leaf = L> + 'a>>,
        fresh: bool,
    ) -> Result<Self> {
        let tasks = sort(tasks)?;
        let mut dag = Self {
            store,
            states: tasks.iter().map(|task| State::Waiting(task.needs())).collect(),
            asked: tasks.iter().map(|_| None).collect(),
            tasks,
            found: RefCell::default(),
            stored: BTreeSet::new(),
            fresh,
        };
        dag.refresh()?;
        Ok(dag)
    }

    /// The tasks with their states.
    pub fn iter(&self) -> impl Iterator<Item = (&dyn Task<Leaf = L>, &State<L>)> {
        self.tasks.iter().map(|task| &**task).zip(&self.states)
    }

    /// State of a task.
    pub fn state(&self, name: &str) -> Option<&State<L>> {
        self.iter().find(|(task, _)| task.name() == name).map(|(_, state)| state)
    }

    /// The leaves a task asked for, if its upstream is known.
    pub fn leaves(&self, name: &str) -> Option<&[Leaf<L>]> {
        let index = self.tasks.iter().position(|task| task.name() == name)?;
        self.asked[index].as_ref().map(|asked| &*asked.leaves)
    }

    /// How many of the leaves that a task asked for were stored in this run.
    pub fn stored_now(&self, name: &str) -> usize {
        let leaves = self.leaves(name).unwrap_or_default();
        leaves.iter().filter(|leaf| self.stored.contains(&leaf.key)).count()
    }

    /// Whether a leaf was stored in this run.
    pub fn has_stored(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Leaves that are missing now, each once, in the order of the tasks.
    pub fn missing_leaves(&self) -> Vec<Leaf<L>> {
        let mut seen = BTreeSet::new();
        let wanting = self.states.iter().filter_map(|state| match state {
            State::Wanting(leaves) => Some(leaves),
            _ => None,
        });
        wanting.flatten().filter(|leaf| seen.insert(leaf.key)).cloned().collect()
    }

    /// Leaves that are stored and count, each once, with the digests of their records.
    pub fn stored_leaves(&self) -> Result<Vec<(&Leaf<L>, Digest)>> {
        let mut seen = BTreeSet::new();
        let asked = self.asked.iter().flatten().flat_map(|asked| &asked.leaves);
        asked
            .filter(|leaf| seen.insert(leaf.key))
            .filter_map(|leaf| self.record(&leaf.key).transpose().map(|found| Ok((leaf, found?))))
            .collect()
    }

    /// Looks up every task whose upstream may have changed.
    fn refresh(&mut self) -> Result<()> {
        for index in 0..self.tasks.len() {
            if matches!(self.states[index], State::Waiting(_)) {
                self.states[index] = self.look(index)?;
            }
        }
        Ok(())
    }

    /// Says that these leaves are in the store now.
    pub fn leaves_stored(&mut self, keys: &[Digest]) -> Result<()> {
        self.stored.extend(keys);
        self.found.borrow_mut().retain(|key, _| !keys.contains(key));
        let mut done = false;
        for index in 0..self.tasks.len() {
            let State::Wanting(missing) = &self.states[index] else { continue };
            let stored: Vec<_> =
                missing.iter().filter(|leaf| keys.contains(&leaf.key)).cloned().collect();
            if stored.is_empty() {
                continue;
            }
            let mut records = BTreeMap::new();
            for leaf in &stored {
                records.extend(self.read_of(index, leaf)?.unwrap_or_default());
            }
            self.asked[index].as_mut().expect("it wants leaves").records.extend(records);
            self.states[index] = self.look(index)?;
            done |= matches!(self.states[index], State::Done(_));
        }
        if done { self.refresh() } else { Ok(()) }
    }

    /// Says that these leaves cannot be had in this run: the tasks that want them fail.
    pub fn leaves_failed(&mut self, keys: &[Digest], reason: &str) -> Result<()> {
        for state in &mut self.states {
            if let State::Wanting(missing) = state
                && missing.iter().any(|leaf| keys.contains(&leaf.key))
            {
                *state = State::Failed(reason.to_owned());
            }
        }
        self.refresh()
    }

    /// Runs the first runnable task, publishes what it yields and returns its name; `None` when
    /// no task is runnable. A task that fails becomes [`State::Failed`].
    pub fn run_next(&mut self) -> Result<Option<String>> {
        let Some(index) = self.states.iter().position(|s| matches!(s, State::Runnable(..))) else {
            return Ok(None);
        };
        let task = &self.tasks[index];
        let State::Runnable(key, leaf_keys) = &self.states[index] else {
            unreachable!("the state was just found to be runnable")
        };
        let inputs = self.inputs_of(index);
        let state = match task.run(&inputs) {
            Ok(outputs) => {
                let key_inputs = key.key_inputs();
                let action = self.store.publish(&TASK, key_inputs, &outputs, leaf_keys.clone())?;
                State::Done(Box::new(action))
            }
            Err(error) => State::Failed(format!("{error:#}")),
        };
        let name = task.name().to_owned();
        self.states[index] = state;
        self.refresh()?;
        Ok(Some(name))
    }

    fn look(&mut self, index: usize) -> Result<State<L>> {
        let task = &self.tasks[index];
        let mut waiting = Vec::new();
        for need in task.needs() {
            match self.state(&need) {
                Some(State::Done(_)) => {}
                Some(State::Failed(_) | State::Blocked(_)) => return Ok(State::Blocked(need)),
                _ => waiting.push(need),
            }
        }
        if task.needs_for_leaves().iter().any(|need| waiting.contains(need)) {
            return Ok(State::Waiting(waiting));
        }
        if self.asked[index].is_none() {
            let leaves = task.leaves(&self.inputs(index, BTreeMap::new()))?;
            self.asked[index] = Some(Asked {
                leaves: Vec::new(),
                roles: BTreeSet::new(),
                records: BTreeMap::new(),
            });
            self.ask(index, leaves)?;
        }
        let mut missing = self.missing(index);
        while (missing.is_empty() || self.tasks[index].asks_early())
            && self.ask(index, self.tasks[index].further_leaves(&self.inputs_of(index))?)?
        {
            missing = self.missing(index);
        }
        if !missing.is_empty() {
            return Ok(State::Wanting(missing));
        }
        if !waiting.is_empty() {
            return Ok(State::Waiting(waiting));
        }
        let Asked { leaves, records, .. } = self.asked[index].as_ref().expect("it was asked");
        let key = self.key(index, records);
        match self.store.action(&TASK, &key.digest()?)? {
            Some(action) => Ok(State::Done(Box::new(action))),
            None => {
                let keys = leaves.iter().map(|leaf| (leaf.role.clone(), leaf.key)).collect();
                Ok(State::Runnable(key, keys))
            }
        }
    }

    /// The leaves that a task asked for and that are not stored.
    fn missing(&self, index: usize) -> Vec<Leaf<L>> {
        let Asked { leaves, records, .. } = self.asked[index].as_ref().expect("it was asked");
        leaves.iter().filter(|leaf| !records.contains_key(&leaf.role)).cloned().collect()
    }

    /// Digest of a leaf's record, when it is stored and counts.
    fn record(&self, key: &Digest) -> Result<Option<Digest>> {
        Ok(self.outputs(key)?.and_then(|outputs| outputs.get(RECORD).copied()))
    }

    fn outputs(&self, key: &Digest) -> Result<Option<BTreeMap<String, Digest>>> {
        if self.fresh && !self.stored.contains(key) {
            return Ok(None);
        }
        if let Some(outputs) = self.found.borrow().get(key) {
            return Ok(Some(outputs.clone()));
        }
        let outputs = self.store.action(&LEAF, key)?.map(|action| action.outputs);
        if let Some(outputs) = &outputs {
            self.found.borrow_mut().insert(*key, outputs.clone());
        }
        Ok(outputs)
    }

    /// What a task reads of a leaf, by the name in [`Inputs`]; `None` without a record.
    fn read_of(&self, index: usize, leaf: &Leaf<L>) -> Result<Option<BTreeMap<String, Digest>>> {
        let Some(outputs) = self.outputs(&leaf.key)? else { return Ok(None) };
        let Some(record) = outputs.get(RECORD) else { return Ok(None) };
        let more = self.tasks[index]
            .also_reads()
            .iter()
            .filter_map(|name| Some((format!("{}/{name}", leaf.role), *outputs.get(*name)?)));
        Ok(Some(more.chain([(leaf.role.clone(), *record)]).collect()))
    }

    /// Adds leaves to those that a task asks for, and says whether one of them was new.
    fn ask(&mut self, index: usize, leaves: Vec<Leaf<L>>) -> Result<bool> {
        let mut is_new = false;
        for leaf in leaves {
            let asked = self.asked[index].as_mut().expect("leaves are asked for first");
            if !asked.roles.insert(leaf.role.clone()) {
                continue;
            }
            let read = self.read_of(index, &leaf)?.unwrap_or_default();
            let asked = self.asked[index].as_mut().expect("leaves are asked for first");
            asked.records.extend(read);
            asked.leaves.push(leaf);
            is_new = true;
        }
        Ok(is_new)
    }

    /// What a task reads, its leaves as far as they are stored.
    fn inputs_of(&self, index: usize) -> Inputs<'_> {
        let records = self.asked[index].as_ref().map(|asked| asked.records.clone());
        self.inputs(index, records.unwrap_or_default())
    }

    fn inputs(&self, index: usize, leaves: BTreeMap<String, Digest>) -> Inputs<'_> {
        let needs = self.tasks[index].needs();
        let done = self.iter().filter_map(|(task, state)| match state {
            State::Done(action) if needs.iter().any(|need| need == task.name()) => {
                Some((task.name(), &**action))
            }
            _ => None,
        });
        Inputs { store: self.store, upstream: done.collect(), leaves }
    }

    fn key(&self, index: usize, records: &BTreeMap<String, Digest>) -> StageKey {
        let task = &self.tasks[index];
        let upstream =
            self.inputs(index, BTreeMap::new()).upstream.into_iter().flat_map(|(name, action)| {
                action.outputs.iter().map(move |(file, digest)| (format!("{name}/{file}"), *digest))
            });
        let trials = records.iter().map(|(role, digest)| (format!("trial/{role}"), *digest));
        StageKey {
            stage: task.name().to_owned(),
            epoch: task.epoch(),
            config: task.config(),
            inputs: upstream.chain(trials).collect(),
            templates: task.templates(),
        }
    }
}

/// Orders tasks so that each comes after what it needs, otherwise as given.
fn sort<'a, L: Clone>(
    tasks: Vec<Box<dyn Task<Leaf = L> + 'a>>,
) -> Result<Vec<Box<dyn Task<Leaf = L> + 'a>>> {
    let names: BTreeSet<String> = tasks.iter().map(|task| task.name().to_owned()).collect();
    if names.len() != tasks.len() {
        return Err(anyhow!("two stages have one name"));
    }
    let mut sorted: Vec<Box<dyn Task<Leaf = L> + 'a>> = Vec::new();
    let mut rest = tasks;
    while !rest.is_empty() {
        let placed: BTreeSet<String> = sorted.iter().map(|task| task.name().to_owned()).collect();
        let ready = rest.iter().position(|task| task.needs().iter().all(|n| placed.contains(n)));
        let Some(ready) = ready else {
            let task = &rest[0];
            return Err(match task.needs().into_iter().find(|need| !names.contains(need)) {
                Some(need) => anyhow!("stage {} needs {need}, which does not exist", task.name()),
                None => anyhow!("stage {} needs itself in the end", task.name()),
            });
        };
        sorted.push(rest.remove(ready));
    }
    Ok(sorted)
}

#[cfg(test)]
mod tests;
