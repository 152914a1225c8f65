//! From missing trials to launches, and from launches to stored trials.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{Engine, Event, FORMAT, LaunchPlan, Outcome, PlannedTrial, Progress},
};
use serde_json::json;

use crate::{
    dag::{Leaf, RECORD},
    engines,
    launch::{self, Tools},
    stages::Trial,
    store::{Kind, Store},
};

/// Name of a trial's raw samples among its outputs.
pub const SAMPLES: &str = "samples";

/// One server start and the trials it serves.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Digest of what is started: engine, arguments, environment, start replicate.
    pub digest: Digest,
    /// The trials, all of one configuration and replicate.
    pub trials: Vec<Leaf<Trial>>,
}

impl Launch {
    fn plan(&self, engine: Engine, trials: &[Leaf<Trial>]) -> LaunchPlan {
        let first = &self.trials[0].what;
        let planned = |leaf: &Leaf<Trial>| PlannedTrial {
            key: leaf.key,
            load: leaf.what.load.clone(),
            data_file: leaf.what.data_file.clone(),
        };
        LaunchPlan {
            format: FORMAT,
            launch: self.digest.short(),
            engine,
            args: first.args.clone(),
            env: first.env.clone(),
            replicate: first.replicate,
            trials: trials.iter().map(planned).collect(),
        }
    }
}

/// Groups trials into launches: as many as there are distinct (configuration, start replicate).
///
/// Launches keep the order of their first trial, so that the stages that come first are finished
/// first.
pub fn launches(leaves: Vec<Leaf<Trial>>) -> Vec<Launch> {
    let mut launches: Vec<Launch> = Vec::new();
    let mut index: BTreeMap<Digest, usize> = BTreeMap::new();
    for leaf in leaves {
        let trial = &leaf.what;
        let digest = Digest::of_json(&json!({
            "engine": trial.identity,
            "args": trial.args,
            "env": trial.env,
            "replicate": trial.replicate,
        }))
        .expect("the trial has a key, so it has no float");
        let at = *index.entry(digest).or_insert_with(|| {
            launches.push(Launch { digest, trials: Vec::new() });
            launches.len() - 1
        });
        launches[at].trials.push(leaf);
    }
    launches
}

/// What happens while launches run.
#[derive(Debug)]
pub enum Update {
    /// A load point goes on.
    Progress(Progress),
    /// These trials are stored.
    Stored(Vec<Digest>),
    /// A launch is over.
    Ended,
    /// A launch failed for reasons that are not the setting's; its trials stay missing.
    Failed {
        /// The launch's trials that are missing.
        trials: Vec<Digest>,
        /// What failed and what to do.
        reason: String,
    },
}

/// Runs launches, as many at once as the engine allows, and reports to `on_update` on this
/// thread. After a failure no further launch is started.
pub fn run(
    store: &Store,
    engine: &dyn engines::Engine,
    launches: &[Launch],
    fresh: bool,
    interrupted: &AtomicBool,
    mut on_update: impl FnMut(Update) -> Result<()>,
) -> Result<()> {
    let bench = engines::bench_binary()?;
    let started = engine.to_launch()?;
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = if engine.runs_side_by_side() { cores.min(launches.len()) } else { 1 };
    let queue = Mutex::new(launches.iter());
    let stop = AtomicBool::new(false);
    let (sender, updates) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, bench, started, queue, stop) =
                (sender.clone(), &bench, &started, &queue, &stop);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().expect("no worker panics with the lock").next();
                    let halted =
                        || stop.load(Ordering::Relaxed) || interrupted.load(Ordering::Relaxed);
                    let Some(launch) = next.filter(|_| !halted()) else { return };
                    let worker = Worker { store, bench, fresh, interrupted, updates: &sender };
                    let update = match worker.run(launch, started.clone()) {
                        Ok(()) => Update::Ended,
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            let trials = launch.trials.iter().map(|leaf| leaf.key).collect();
                            Update::Failed { trials, reason: format!("{error:#}") }
                        }
                    };
                    // The receiver is gone when the main thread has failed; then so do we.
                    if sender.send(update).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let outcome = updates.iter().try_for_each(&mut on_update);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

struct Worker<'a> {
    store: &'a Store,
    bench: &'a PathBuf,
    fresh: bool,
    interrupted: &'a AtomicBool,
    updates: &'a mpsc::Sender<Update>,
}

impl Worker<'_> {
    fn run(&self, launch: &Launch, engine: Engine) -> Result<()> {
        let _lock = self.store.lock(&launch.digest)?;
        // Another run may have measured some of them while this one waited for the lock.
        let mut missing = Vec::new();
        let mut stored = Vec::new();
        for leaf in &launch.trials {
            let found = !self.fresh && self.store.action(Kind::Trial, &leaf.key)?.is_some();
            if found { stored.push(leaf.key) } else { missing.push(leaf.clone()) }
        }
        self.report(Update::Stored(stored));
        if missing.is_empty() {
            return Ok(());
        }
        let folder = self.store.tmp_folder()?;
        let tools = Tools {
            bench: self.bench.clone(),
            run_dir: self.store.root().join("run"),
            log_dir: self.store.root().join("logs"),
            out_dir: folder.clone(),
        };
        let plan = launch.plan(engine, &missing);
        let mut failure = None;
        launch::run(&plan, &tools, self.interrupted, &mut |event| {
            if failure.is_none() {
                failure = self.take(&event, &missing, &folder).err();
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))
    }

    fn take(&self, event: &Event, trials: &[Leaf<Trial>], folder: &std::path::Path) -> Result<()> {
        match event {
            Event::Progress(progress) => self.report(Update::Progress(*progress)),
            Event::Trial { key, outcome, samples } => {
                let trial = trials.iter().find(|leaf| leaf.key == *key);
                let trial = trial.context("`bench run` reported a trial that was not asked for")?;
                let samples = samples.as_ref().map(|name| folder.join(name));
                self.publish(trial, outcome, samples)?;
                self.report(Update::Stored(vec![*key]));
            }
            // A setting that cannot start is the result of every trial on it.
            Event::Refused { failure } => {
                let outcome = Outcome::Refused(failure.clone());
                for trial in trials {
                    self.publish(trial, &outcome, None)?;
                }
                self.report(Update::Stored(trials.iter().map(|leaf| leaf.key).collect()));
            }
            Event::Ready { .. } | Event::Done {} => {}
        }
        Ok(())
    }

    fn publish(
        &self,
        trial: &Leaf<Trial>,
        outcome: &Outcome,
        samples: Option<PathBuf>,
    ) -> Result<()> {
        let mut record = serde_json::to_vec_pretty(outcome)?;
        record.push(b'\n');
        let mut outputs = BTreeMap::from([(RECORD.to_owned(), record)]);
        if let Some(path) = samples {
            let bytes =
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            outputs.insert(SAMPLES.to_owned(), bytes);
        }
        self.store.publish(Kind::Trial, trial.what.preimage(), &outputs, BTreeMap::new())?;
        Ok(())
    }

    fn report(&self, update: Update) {
        // Nobody listens any more when the main thread has failed; the trial is stored anyway.
        let _ = self.updates.send(update);
    }
}
