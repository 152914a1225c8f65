//! From missing trials to launches, and from launches to stored trials.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{
        Args, Engine, Event, FORMAT, LaunchPlan, Outcome, PlannedTrial, Progress, SettingFailure,
    },
};

use analysis::{choice, pruning};
use dag::{Dag, LEAF, Leaf, RECORD, State};
use engines::{
    History, LaunchHost, RUN_DIR,
    executor::Executor,
    launch::{self, LaunchError, Tools},
};
use profile::{
    Profile, SAMPLES, Trial,
    feasibility::Feasibility,
    flags,
    role::{self, TrialRole},
    stage,
};
use store::Store;

/// How often a run that waits says so.
const LOOK: Duration = Duration::from_secs(1);

/// One server start and the trials it serves.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Digest of what is started: engine, arguments, environment, start replicate.
    pub digest: Digest,
    /// The trials, all of one configuration and replicate.
    pub trials: Vec<Leaf<Trial>>,
}

impl Launch {
    /// The block of starts that it belongs to; `None` where nothing is compared by it.
    pub fn block(&self) -> Option<u32> {
        self.trials.iter().find_map(|leaf| leaf.what.block)
    }

    /// About how long it takes, by what was seen of others.
    pub fn estimate_s(&self, engine: &dyn engines::Engine, history: &History) -> f64 {
        let trials: Vec<_> = self.trials.iter().map(|leaf| &leaf.what).collect();
        engine.estimate_s(&trials, history)
    }

    fn plan(&self, engine: Engine, trials: &[Leaf<Trial>]) -> LaunchPlan {
        let first = &self.trials[0].what;
        LaunchPlan {
            format: FORMAT,
            launch: self.digest.short(),
            engine,
            args: first.args.clone(),
            env: first.env.clone(),
            config_file: first.config_file.clone(),
            replicate: first.replicate,
            trials: trials.iter().map(planned).collect(),
        }
    }
}

/// What the stored trials say of those to come.
///
/// # Errors
/// When a record cannot be read.
pub fn history(store: &Store, dag: &Dag<'_, Trial>) -> Result<History> {
    let mut history = History::default();
    for (leaf, digest) in dag.stored_leaves()? {
        // Damaged ones are set aside, and measured again later.
        let Some(bytes) = store.get(&digest)? else { continue };
        let outcome: Outcome = serde_json::from_slice(&bytes)
            .with_context(|| format!("reading trial {}", leaf.role))?;
        history.note(&leaf.what, &outcome);
    }
    Ok(history)
}

fn planned(leaf: &Leaf<Trial>) -> PlannedTrial {
    PlannedTrial {
        key: leaf.key,
        load: leaf.what.load.clone(),
        data_file: leaf.what.data_file.clone(),
    }
}

/// The launches that are left, as far as they are known, with what stands for those of the choice.
pub fn left(dag: &Dag<'_, Trial>) -> Vec<Launch> {
    let mut launches = launches(dag.missing_leaves());
    launches.extend(later(dag));
    launches
}

/// Groups trials into launches: as many as there are distinct (configuration, start replicate).
///
/// First each setting once, then each a second time: what drifts during a run, such as a card's
/// temperature, then falls on all settings alike. Among these, those that find the same compiled
/// graphs follow each other; otherwise launches keep the order of their first trial.
///
/// Starts by which settings are compared come last, block by block. A block has one start of every
/// setting, in an order that is random and yet the same whenever it is asked for.
pub fn launches(leaves: Vec<Leaf<Trial>>) -> Vec<Launch> {
    let mut launches: Vec<Launch> = Vec::new();
    let mut index: BTreeMap<Digest, usize> = BTreeMap::new();
    for leaf in leaves {
        let digest =
            Digest::of_json(&leaf.what.start()).expect("the trial has a key, so it has no float");
        let at = *index.entry(digest).or_insert_with(|| {
            launches.push(Launch { digest, trials: Vec::new() });
            launches.len() - 1
        });
        launches[at].trials.push(leaf);
    }
    let mut compiled = Vec::new();
    launches.sort_by_cached_key(|launch| {
        let trial = &launch.trials[0].what;
        let graphs = (compiled_args(&trial.args), trial.env.clone());
        let group = compiled.iter().position(|known| *known == graphs).unwrap_or_else(|| {
            compiled.push(graphs);
            compiled.len() - 1
        });
        match launch.block() {
            None => (false, trial.replicate, group, None),
            Some(block) => (true, block, 0, Some(launch.digest)),
        }
    });
    launches
}

/// The trials that are missing now of one launch.
pub fn of_launch(dag: &Dag<'_, Trial>, digest: Digest) -> Vec<Leaf<Trial>> {
    let mut launches = launches(dag.missing_leaves()).into_iter();
    launches.find(|launch| launch.digest == digest).map_or_else(Vec::new, |launch| launch.trials)
}

/// What stands for the launches of the chosen settings until these are known: the defaults under
/// the same loads, as often.
pub fn later(dag: &Dag<'_, Trial>) -> Vec<Launch> {
    let known = |stage| dag.leaves(stage).unwrap_or_default();
    if dag.state(stage::COMPREHENSIVE.name).is_none()
        || !known(stage::COMPREHENSIVE.name).is_empty()
    {
        return Vec::new();
    }
    let of_default = |leaf: &&Leaf<Trial>| {
        TrialRole::parse(&leaf.role).is_some_and(|role| role.setting == role::DEFAULT)
    };
    launches(known(stage::BASELINE.name).iter().filter(of_default).cloned().collect())
}

/// Seconds that the tests of a candidate's flags and the further starts of an undecided comparison take at
/// most, beyond what is [`left`].
pub fn further_s(
    dag: &Dag<'_, Trial>,
    profile: &Profile,
    engine: &dyn engines::Engine,
    history: &History,
) -> f64 {
    let is_to_judge =
        matches!(dag.state(stage::COMPREHENSIVE.name), Some(State::Waiting(_) | State::Wanting(_)));
    let leaves = dag.leaves(stage::BASELINE.name).unwrap_or_default();
    let of_default = |leaf: &&Leaf<Trial>| {
        TrialRole::parse(&leaf.role).is_some_and(|role| role.setting == role::DEFAULT)
    };
    let starts = launches(leaves.iter().filter(of_default).cloned().collect());
    let Some(start) = starts.first().filter(|_| is_to_judge) else { return 0.0 };
    let limits = profile.slo.iter().map(|limit| &limit.load);
    let goals: Vec<&String> = std::iter::once(&profile.objective.load).chain(limits).collect();
    let is_of_goals = |leaf: &&Leaf<Trial>| {
        let load = TrialRole::parse(&leaf.role).map(|role| role.load).unwrap_or_default();
        goals.iter().any(|goal| load.split('~').next() == Some(goal.as_str()))
    };
    let trials = start.trials.iter().filter(is_of_goals).cloned().collect();
    let of_goals = Launch { digest: start.digest, trials };
    let is_to_choose = matches!(dag.state(stage::CHOOSE.name), Some(State::Waiting(_)));
    let tests = pruning::planned(profile).filter(|_| is_to_choose).map_or(0, |(_, most)| most);
    let further = 2 * profile.starts_max.saturating_sub(choice::judged_starts(profile));
    f64::from(tests) * of_goals.estimate_s(engine, history)
        + f64::from(further) * start.estimate_s(engine, history)
}

/// The arguments by which vLLM looks for compiled graphs: all of which nothing else is known.
fn compiled_args(args: &Args) -> Args {
    let counts = |flag: &str| !flags::find(flag).is_some_and(|flag| flag.compile_cache_ignores);
    args.iter().filter(|(flag, _)| counts(flag)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What happens while launches run.
#[derive(Debug)]
pub enum Update {
    /// A load point goes on.
    Progress(Progress),
    /// These trials are stored.
    Stored(Vec<Digest>),
    /// Something that a person should know.
    Note(String),
    /// A launch has measured all that it was to: what else is wanted of it, while it is up?
    Idle {
        /// Digest of what was started.
        launch: Digest,
        /// Takes the answer.
        reply: mpsc::Sender<Vec<Leaf<Trial>>>,
    },
    /// A launch is over.
    Ended,
    /// Nothing has happened for a while, as when a server starts.
    Waiting,
    /// A launch failed because its server could not be started as a fork, for this reason.
    NoFork(String),
    /// A launch failed for reasons that are not the setting's; its trials stay missing.
    Failed {
        /// The launch's trials that are missing.
        trials: Vec<Digest>,
        /// What failed and what to do.
        reason: String,
    },
}

/// What launches need.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Where trials go.
    pub store: &'a Store,
    /// What is started.
    pub engine: &'a dyn engines::Engine,
    /// Where it is started.
    pub executor: &'a dyn Executor,
    /// Finds or builds the program that drives the load points of such an engine.
    pub bench: fn(&Engine) -> Result<PathBuf>,
    /// Whether what is stored is measured again.
    pub fresh: bool,
}

/// Runs launches, as many at once as engine and executor allow, and reports to `on_update` on this
/// thread. After a failure no further launch is started.
///
/// `feasibility` is what is known of starts already: launches that are bound to fail are not started
/// where a start costs anything.
pub fn run(
    setup: Setup<'_>,
    launches: &[Launch],
    feasibility: Feasibility,
    interrupted: &AtomicBool,
    mut on_update: impl FnMut(Update) -> Result<()>,
) -> Result<()> {
    let Setup { store, engine, executor, bench, fresh } = setup;
    let mut notes = Vec::new();
    executor.end_orphans(store, &mut |text| notes.push(text))?;
    notes.into_iter().try_for_each(|text| on_update(Update::Note(text)))?;
    let started = engine.to_launch()?;
    let bench = &*bench(&started)?;
    let workers = executor.at_once(launches.len(), engine.runs_side_by_side());
    let feasibility = Mutex::new(feasibility);
    let queue = Mutex::new(launches.iter());
    // No further launch is started; those that run go on.
    let stop = AtomicBool::new(false);
    // Nobody takes updates any more; what runs is ended.
    let abandoned = AtomicBool::new(false);
    let failures = Mutex::new(Failures::default());
    let (sender, updates) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, started, queue, stop, abandoned, feasibility, failures) =
                (sender.clone(), &started, &queue, &stop, &abandoned, &feasibility, &failures);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().expect("no worker panics with the lock").next();
                    let halted =
                        || stop.load(Ordering::Relaxed) || interrupted.load(Ordering::Relaxed);
                    let Some(launch) = next.filter(|_| !halted()) else { return };
                    let feasibility = (!engine.runs_side_by_side()).then_some(feasibility);
                    let updates = &sender;
                    let worker = Worker {
                        store,
                        executor,
                        bench,
                        fresh,
                        feasibility,
                        interrupted,
                        abandoned,
                        updates,
                    };
                    let update = match worker.run(launch, started.clone()) {
                        Ok(()) => Update::Ended,
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            if let Some(LaunchError::NoFork(why)) = error.downcast_ref() {
                                // As below.
                                let _ = sender.send(Update::NoFork(why.clone()));
                                return;
                            }
                            let trials = launch.trials.iter().map(|leaf| leaf.key).collect();
                            let mut failures =
                                failures.lock().expect("no worker panics with the lock");
                            Update::Failed { trials, reason: failures.reason(&error) }
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
        let mut take = || loop {
            match updates.recv_timeout(LOOK) {
                Ok(update) => on_update(update)?,
                Err(RecvTimeoutError::Timeout) => on_update(Update::Waiting)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        };
        let outcome = take();
        stop.store(true, Ordering::Relaxed);
        abandoned.store(true, Ordering::Relaxed);
        // With the receiver go the questions in it, so that no worker waits for an answer.
        drop(updates);
        outcome
    })
}

/// How failures are told, by what lies at their root.
#[derive(Default)]
struct Failures(BTreeMap<String, String>);

impl Failures {
    /// The text of an error. A full disk fails every launch that runs, each at a path of its own: what
    /// has the same root is told as it was the first time, so that it is one failure.
    fn reason(&mut self, error: &anyhow::Error) -> String {
        let told = self.0.entry(error.root_cause().to_string());
        told.or_insert_with(|| format!("{error:#}")).clone()
    }
}

struct Worker<'a> {
    store: &'a Store,
    executor: &'a dyn Executor,
    bench: &'a Path,
    fresh: bool,
    /// `None` where a start costs nothing, so that trying is the better proof.
    feasibility: Option<&'a Mutex<Feasibility>>,
    interrupted: &'a AtomicBool,
    /// Set when the main thread has failed.
    abandoned: &'a AtomicBool,
    updates: &'a mpsc::Sender<Update>,
}

impl Worker<'_> {
    fn run(&self, launch: &Launch, engine: Engine) -> Result<()> {
        let _lock = self.store.lock(&launch.digest)?;
        // Another run may have measured some of them while this one waited for the lock.
        let mut missing = Vec::new();
        let mut stored = Vec::new();
        for leaf in &launch.trials {
            let found = !self.fresh && self.store.action(&LEAF, &leaf.key)?.is_some();
            if found { stored.push(leaf.key) } else { missing.push(leaf.clone()) }
        }
        self.report(Update::Stored(stored));
        if missing.is_empty() {
            return Ok(());
        }
        if let Some(failure) = self.foresee(&missing[0].what) {
            return self.refuse(&missing, failure);
        }
        let folder = self.store.tmp_folder()?;
        let tools = Tools {
            bench: self.bench.to_owned(),
            run_dir: self.store.root().join(RUN_DIR),
            log_dir: self.store.root().join("logs"),
            out_dir: folder.clone(),
        };
        let plan = launch.plan(engine, &missing);
        let mut owner =
            Owner { worker: self, launch: launch.digest, folder, trials: missing, failure: None };
        let outcome = self.executor.run(&plan, &tools, &mut owner);
        if let Some(error) = owner.failure {
            return Err(error);
        }
        outcome?;
        let folder = owner.folder;
        std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))
    }

    /// What else is wanted of a launch, besides the trials that it was asked for already.
    fn more(&self, launch: Digest, asked: &[Leaf<Trial>]) -> Vec<Leaf<Trial>> {
        let (reply, answer) = mpsc::channel();
        self.report(Update::Idle { launch, reply });
        let mut more = answer.recv().unwrap_or_default();
        more.retain(|leaf| asked.iter().all(|known| known.key != leaf.key));
        if self.halted() { Vec::new() } else { more }
    }

    fn halted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed) || self.abandoned.load(Ordering::Relaxed)
    }

    fn take(&self, event: &Event, trials: &[Leaf<Trial>], folder: &Path) -> Result<()> {
        match event {
            Event::Progress(progress) => self.report(Update::Progress(*progress)),
            Event::Trial { key, outcome, samples } => {
                let trial = trials.iter().find(|leaf| leaf.key == *key);
                let trial = trial.context("`bench run` reported a trial that was not asked for")?;
                let samples = samples.as_ref().map(|name| folder.join(name));
                self.publish(trial, outcome, samples)?;
                self.report(Update::Stored(vec![*key]));
            }
            Event::Refused { failure } => self.refuse(trials, failure.clone())?,
            Event::Silent { requests, seconds } => {
                self.report(Update::Note(launch::silent(*requests, *seconds)));
            }
            Event::Stalled { requests, under_way, seconds } => {
                let told = launch::stalled(*requests, *under_way, *seconds);
                self.report(Update::Note(told));
            }
            Event::Ready { .. } | Event::Done {} => {}
        }
        Ok(())
    }

    fn foresee(&self, trial: &Trial) -> Option<SettingFailure> {
        self.feasibility?.lock().expect("no worker panics with the lock").foresee(trial)
    }

    /// A setting that cannot start is the result of every trial on it.
    fn refuse(&self, trials: &[Leaf<Trial>], failure: SettingFailure) -> Result<()> {
        let outcome = Outcome::Refused(failure);
        for trial in trials {
            self.publish(trial, &outcome, None)?;
        }
        self.report(Update::Stored(trials.iter().map(|leaf| leaf.key).collect()));
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
        self.store.publish(&LEAF, trial.what.key_inputs(), &outputs, BTreeMap::new())?;
        if let Some(feasibility) = self.feasibility {
            let mut feasibility = feasibility.lock().expect("no worker panics with the lock");
            feasibility.note(&trial.what, outcome);
        }
        Ok(())
    }

    fn report(&self, update: Update) {
        // Nobody listens any more when the main thread has failed; the trial is stored anyway.
        let _ = self.updates.send(update);
    }
}

/// A worker as the owner of the launch that it runs.
struct Owner<'a> {
    worker: &'a Worker<'a>,
    /// Digest of what was started.
    launch: Digest,
    /// Where samples arrive.
    folder: PathBuf,
    /// All that was asked of the launch.
    trials: Vec<Leaf<Trial>>,
    /// Why a record could not be kept; measuring on would be in vain.
    failure: Option<anyhow::Error>,
}

impl LaunchHost for Owner<'_> {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        match self.worker.take(&event, &self.trials, &self.folder) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn more(&mut self) -> Vec<PlannedTrial> {
        let more = self.worker.more(self.launch, &self.trials);
        let planned = more.iter().map(planned).collect();
        self.trials.extend(more);
        planned
    }

    fn note(&mut self, text: String) {
        self.worker.report(Update::Note(text));
    }

    fn interrupted(&self) -> bool {
        self.worker.halted()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io, os::unix::fs::PermissionsExt as _};

    use anyhow::bail;
    use bench_core::schema::{ArgValue, Arrival, FailureClass, LoadSpec, Size, VllmEngine};
    use serde_json::Value;
    use store::disk::{Disk, RealDisk};

    use super::*;

    #[test]
    fn one_cause_is_told_once() {
        let full = |path: &str| {
            anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull))
                .context(format!("cannot write {path}"))
        };
        let mut failures = Failures::default();
        let first = failures.reason(&full("a"));
        assert!(first.starts_with("cannot write a: "), "{first}");
        assert_eq!(failures.reason(&full("b")), first);
        assert_eq!(failures.reason(&anyhow::anyhow!("other")), "other");
    }

    /// vLLM as a shell script, and a `bench` that measures `a` and says it is done.
    struct Scripts<'a>(&'a Path);

    impl engines::Engine for Scripts<'_> {
        fn fingerprint(&self) -> Option<Value> {
            None
        }

        fn provision(&self, _say: &mut dyn FnMut(&str)) -> Result<Value> {
            Ok(Value::Null)
        }

        fn title(&self) -> String {
            String::new()
        }

        fn is_simulated(&self) -> bool {
            false
        }

        fn to_launch(&self) -> Result<Engine> {
            Ok(Engine::Vllm(VllmEngine {
                python: self.0.join("server").display().to_string(),
                model: "model".to_owned(),
                served_model_name: "model".to_owned(),
                dummy_weights: true,
                vocab_size: 100,
                gpus: Vec::new(),
                start_timeout_s: 600,
                start: bench_core::schema::StartWay::Ordinary,
            }))
        }

        fn runs_side_by_side(&self) -> bool {
            false
        }

        fn estimate_s(&self, _trials: &[&Trial], _history: &History) -> f64 {
            0.0
        }

        fn doctor(&self) -> Vec<engines::finding::Finding> {
            Vec::new()
        }
    }

    /// The machine's disk, until a file with this text is there: then nothing more fits on it.
    #[derive(Debug)]
    struct FillingDisk(PathBuf);

    impl Disk for FillingDisk {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            RealDisk.read(path)
        }

        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            match self.0.exists() {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => RealDisk.write(path, bytes),
            }
        }

        fn sync(&self, path: &Path) -> io::Result<()> {
            RealDisk.sync(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            RealDisk.rename(from, to)
        }

        fn create_dir_all(&self, path: &Path) -> io::Result<()> {
            RealDisk.create_dir_all(path)
        }

        fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
            RealDisk.remove_dir_all(path)
        }
    }

    /// Runs one launch of two trials with this end of `bench`, and what is told of it.
    fn measured(
        bench_ends: &str,
        mut on_update: impl FnMut(&Path, &Update) -> Result<()> + Send + 'static,
    ) -> (Result<()>, Vec<String>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = folder.path().to_owned();
        let script = |name: &str, body: &str| {
            let text = format!("#!/bin/sh\nHERE='{}'\n{body}\n", here.display());
            fs::write(here.join(name), text).expect("written");
            let permissions = fs::Permissions::from_mode(0o755);
            fs::set_permissions(here.join(name), permissions).expect("ours");
        };
        let leaf = |seed| {
            let what = Trial {
                identity: "engine".into(),
                args: Args::new(),
                env: BTreeMap::new(),
                config_file: None,
                load: LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), Vec::new(), seed),
                data_file: None,
                replicate: 0,
                instrument_epoch: bench_core::INSTRUMENT_EPOCH,
                block: None,
            };
            Leaf { role: format!("{seed}"), key: what.key().expect("no floats"), what }
        };
        let (first, second) = (leaf(1), leaf(2));
        let outcome = Outcome::Refused(SettingFailure {
            class: FailureClass::OutOfMemory,
            evidence: Vec::new(),
            foreseen: None,
        });
        let json = |event: &Event| serde_json::to_string(event).expect("JSON");
        let ready = json(&Event::Ready { format: FORMAT, observed: Box::default() });
        let trial =
            |key| json(&Event::Trial { key, outcome: outcome.clone().into(), samples: None });
        let done = json(&Event::Done {});
        script("server", "exec sleep 1000");
        let (first_told, second_told) = (trial(first.key), trial(second.key));
        script(
            "bench",
            &format!(
                "tell() {{ echo \"$1\"; }}\ntell '{ready}'\ntell '{first_told}'\n{}",
                bench_ends.replace("SECOND", &second_told).replace("DONE", &done)
            ),
        );
        let (send, end) = mpsc::channel();
        thread::spawn(move || {
            let disk = Box::new(FillingDisk(here.join("full")));
            let mut store = Store::open_on(disk, &here.join("artifacts")).expect("a store");
            store.make_writable().expect("a store");
            let setup = Setup {
                store: &store,
                engine: &Scripts(&here),
                executor: &engines::executor::Local::default(),
                bench: |engine| match engine {
                    Engine::Vllm(engine) => Ok(Path::new(&engine.python).with_file_name("bench")),
                    _ => unreachable!(),
                },
                fresh: false,
            };
            let launches = launches(vec![first, second]);
            let mut told = Vec::new();
            let never = AtomicBool::new(false);
            let outcome = run(setup, &launches, Feasibility::default(), &never, |update| {
                if let Update::Failed { reason, .. } = &update {
                    told.push(reason.clone());
                }
                on_update(&here, &update)
            });
            let groups = fs::read_dir(store.root().join(RUN_DIR)).expect("notes").count();
            assert_eq!(groups, 0, "the server is stopped");
            send.send((outcome, told)).expect("the test waits");
        });
        // It takes less than a second; a run that hangs is to fail and not to wait.
        end.recv_timeout(Duration::from_secs(60)).expect("the run ends")
    }

    #[test]
    fn a_run_whose_owner_fails_ends_though_its_worker_asks_for_more() {
        let (outcome, told) = measured("tell 'SECOND'\ntell 'DONE'", |_, update| match update {
            Update::Stored(keys) if !keys.is_empty() => bail!("the disk is gone"),
            _ => Ok(()),
        });
        assert_eq!(outcome.expect_err("it failed").to_string(), "the disk is gone");
        assert!(told.is_empty(), "one error is enough: {told:?}");
    }

    #[test]
    fn a_run_whose_owner_fails_does_not_wait_for_the_load() {
        let (outcome, _) = measured("exec sleep 1000", |_, update| match update {
            Update::Stored(keys) if !keys.is_empty() => bail!("the disk is gone"),
            _ => Ok(()),
        });
        assert_eq!(outcome.expect_err("it failed").to_string(), "the disk is gone");
    }

    #[test]
    fn a_record_that_cannot_be_stored_ends_its_load() {
        let (outcome, told) = measured(
            "until [ -e \"$HERE/full\" ]; do sleep 0.02; done\ntell 'SECOND'\nexec sleep 1000",
            |here, update| {
                if matches!(update, Update::Stored(keys) if !keys.is_empty()) {
                    fs::write(here.join("full"), "")?;
                }
                Ok(())
            },
        );
        outcome.expect("the failure is the launch's");
        assert!(matches!(&told[..], [one] if one.contains("no storage space")), "{told:?}");
    }

    /// Nothing comes of a server that starts; whoever shows the run is asked to all the same.
    #[test]
    fn a_run_in_which_nothing_happens_says_that_it_waits() {
        let (outcome, _) = measured(
            "until [ -e \"$HERE/seen\" ]; do sleep 0.02; done\ntell 'SECOND'\ntell 'DONE'",
            |here, update| {
                if matches!(update, Update::Waiting) {
                    fs::write(here.join("seen"), "")?;
                }
                Ok(())
            },
        );
        outcome.expect("it ends when it was seen to wait");
    }

    fn example_trial(args: &[(&str, &str)]) -> Trial {
        let text = |value: &str| ArgValue::Text(value.to_owned());
        Trial {
            instrument_epoch: bench_core::INSTRUMENT_EPOCH,
            identity: "engine".into(),
            args: args.iter().map(|(flag, value)| ((*flag).to_owned(), text(value))).collect(),
            env: BTreeMap::new(),
            config_file: None,
            load: LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), Vec::new(), 1),
            data_file: None,
            replicate: 0,
            block: None,
        }
    }

    #[test]
    fn settings_take_turns_and_those_of_the_same_graphs_follow_each_other() {
        let leaf = |seqs: &str, cut: &str, replicate| {
            // How many requests run decides the graphs; how prompts are cut does not.
            let args = [("max-num-seqs", seqs), ("long-prefill-token-threshold", cut)];
            let what = Trial { replicate, ..example_trial(&args) };
            Leaf {
                role: format!("{seqs}/{cut}/{replicate}"),
                key: what.key().expect("no floats"),
                what,
            }
        };
        let leaves = [
            ("4", "0", 0),
            ("4", "0", 1),
            ("8", "0", 0),
            ("8", "0", 1),
            ("4", "64", 0),
            ("4", "0", 0),
        ]
        .map(|(seqs, cut, replicate)| leaf(seqs, cut, replicate));
        let launches = launches(leaves.into());
        let order: Vec<_> = launches.iter().map(|launch| &*launch.trials[0].role).collect();
        assert_eq!(order, ["4/0/0", "4/64/0", "8/0/0", "4/0/1", "8/0/1"]);
        assert_eq!(launches[0].trials.len(), 2, "one start serves all that is wanted of it");
    }

    #[test]
    fn starts_that_are_compared_come_last_and_block_by_block() {
        let leaf = |seqs: &str, replicate, block| {
            let what = Trial { replicate, block, ..example_trial(&[("max-num-seqs", seqs)]) };
            Leaf { role: format!("{seqs}/{replicate}"), key: what.key().expect("no floats"), what }
        };
        let mut leaves = vec![leaf("7", 0, None)];
        // The defaults' first starts are those of the sweeps.
        for block in 0..8 {
            leaves.extend([leaf("2", block, Some(block)), leaf("4", 3 + block, Some(block))]);
        }
        leaves.push(leaf("7", 1, None));
        let launches = launches(leaves);
        let blocks: Vec<_> = launches.iter().map(Launch::block).collect();
        assert_eq!(blocks[..2], [None; 2]);
        assert!(blocks.is_sorted(), "{blocks:?}");
        let is_first_2 = |pair: &[Launch]| pair[0].trials[0].role.starts_with("2/");
        let first: Vec<bool> = launches[2..].chunks(2).map(is_first_2).collect();
        assert!(first.contains(&true) && first.contains(&false), "no setting is always first");
    }
}
