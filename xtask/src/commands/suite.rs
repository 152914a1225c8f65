//! `suite` and `stage`: plan, measure, run, project, show.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{AnswersResult, CompareResult, Figures, Measured, Outcome, Point},
};

use super::{Session, failures, repeats};
use crate::{
    calibration,
    cli::{MessageFormat, RunArgs},
    error::{self, Code},
    measure::{self, Setup, Update},
    memory,
    remote::{self, Remote},
    results,
    stages::{self, spread_points},
    ui::{self, Cost, Ui},
};
use analysis::{
    answers::KnownAnswers, comparison, ending::Ending, engine_time::EngineTime, lead,
    lenders::Lenders, pruning,
};
use dag::{Dag, Leaf, State};
use engines::{
    Engine, Foreseen, History,
    executor::{self, Executor},
    launch,
};
use profile::{Profile, Trial, nearest, stage};
use report::terminal::Beside;
use serde::de::DeserializeOwned;

/// Runs the stages named by `only`, or all of them, of the profile without some of its sweeps.
pub fn run(
    profile: &str,
    only: &[String],
    without: &[String],
    args: &RunArgs,
    format: MessageFormat,
) -> Result<Ending> {
    loop {
        // How servers are started is in every key: then all is planned anew.
        if let Some(ending) = plan_and_run(profile, only, without, args, format)? {
            return Ok(ending);
        }
    }
}

/// `None` when servers are to be started another way than planned.
fn plan_and_run(
    profile: &str,
    only: &[String],
    without: &[String],
    args: &RunArgs,
    format: MessageFormat,
) -> Result<Option<Ending>> {
    let started = std::time::Instant::now();
    let mut session = Session::open_for(profile, args.offline, args.dry_run)?;
    leave_out(&mut session.profile, without)?;
    let names = wanted(&session, only)?;
    let remote_url = remote::url(&session.profile, &args.remote)?.filter(|_| !args.offline);
    if !args.dry_run {
        session.store.make_writable()?;
    }
    let mut engine = session.engine()?;
    let ui = Ui::new(format);
    // Before the DAG, since an engine that is not there yet has nothing to be known by.
    let is_needed = names.iter().any(|name| name == stage::PROVISION.name);
    let is_missing = is_needed && engine.fingerprint().is_none();
    if is_missing && args.dry_run {
        engine = Box::new(Foreseen(engine));
    } else if is_missing {
        let provisioned = engine.provision(&mut |step| ui.step(step));
        provisioned.map_err(|error| Code::EngineUnavailable.of(error))?;
    }
    let is_wanted = |name: &str| names.iter().any(|wanted| wanted == name);
    let interrupted = launch::interrupt_flag()?;
    let warn = |text: &str| ui.warn(text);
    let mut remote =
        remote_url.map(|url| Remote::new(url, &interrupted, warn).of_run(&session.profile, args));
    if let Some(remote) = remote.as_mut().filter(|_| !args.dry_run && !args.fresh) {
        prefetch(&session, &*engine, &is_wanted, remote, &ui)?;
    }
    let executor = executor::of(&session.profile, &session.root.artifacts())?;
    let prepare = || {
        if args.dry_run || args.offline {
            return Ok(());
        }
        reach(&session, &*engine, &is_wanted, args.fresh, &interrupted, &ui)?;
        if interrupted.load(Ordering::Relaxed) || engine.is_simulated() || !executor.is_here() {
            return Ok(());
        }
        calibrate(&session, &*engine, &is_wanted, args.fresh, &interrupted, &ui)
    };
    let prepared = prepare();
    if interrupted.load(Ordering::Relaxed) {
        let ending = Ending::Interrupted;
        let cost = Cost { elapsed: started.elapsed(), ..Cost::default() };
        ui.ending(&session.profile, cost, engine.is_simulated(), ending, false);
        return Ok(Some(ending));
    }
    prepared?;
    let context = session.context(&*engine);
    let mut dag = session.plan(&context, &is_wanted, args.fresh)?;
    let history = history(&session, &*engine, &dag)?;
    if !args.dry_run && !args.offline && measures(&dag) {
        // It may compile for minutes, of which no estimate below knows.
        engines::driver(&engine.to_launch()?)?;
    }
    ui.header(
        &engine.title(),
        &ui::plan_line(&dag, &session.profile, &*engine, &history, is_missing),
    );
    let recommends = session.profile.endpoint().is_none();
    if let Some(why) = comparison::unjudgeable(&session.profile).filter(|_| recommends) {
        ui.warn(&why);
    }
    engine.remark().iter().for_each(|remark| ui.warn(remark));
    if !args.offline {
        within_memory(&*engine, &*executor, &dag)?;
    }
    if args.dry_run {
        let missing = keys(&dag.missing_leaves());
        let remote = remote.as_mut().filter(|_| !is_missing && !missing.is_empty());
        let found = remote.map(|remote| (remote.find(&missing).len(), remote.url()));
        ui::engine_line(&dag, &*engine, &history).iter().for_each(|line| ui.noted(line));
        ui.dry_run(&dag, is_missing, engine.installation().as_deref(), found);
        // What is named is not known yet, nor is it whether it has several flags.
        if matches!(dag.state(stage::CHOOSE.name), Some(State::Waiting(_))) {
            pruning::planned(&session.profile).iter().for_each(|planned| ui.tests(*planned));
        }
        let known = measure::history(&session.store, &dag)?;
        let proposal = repeats::propose(&session.store, &dag, &session.profile, &known)?;
        ui.repeats(&session.profile, proposal);
        ui.noted("dry run: nothing was changed");
        return Ok(Some(Ending::Done));
    }
    if !args.offline {
        within_budget(&session, &*engine, &dag, &history)?;
    }
    // Before anything is measured: a run that is killed has its engine named for `bundle export`.
    remember(&session, &dag)?;
    let run = Run {
        session: &session,
        engine: &*engine,
        executor: &*executor,
        args,
        interrupted: &interrupted,
        ui: &ui,
        measured: Cell::new(0),
    };
    let executed = run.execute(&mut dag, &mut remote);
    if let Some(why) = executed.map_err(|error| with_what_is_stored(error, &dag))? {
        engine.refuse_forks(&why)?;
        return Ok(None);
    }
    share(&session, &dag, remote, &ui)?;
    let is_interrupted = interrupted.load(Ordering::Relaxed);
    let comparison = finish(&session, &dag, is_interrupted, &ui)?;
    if !engine.is_simulated() {
        engine_time(&session, &dag)?.iter().for_each(|line| ui.noted(line));
    }
    let failed = dag.iter().any(|(_, state)| !matches!(state, State::Done(_)));
    let decision = comparison.as_ref().map(|comparison| &comparison.decision);
    let ending = Ending::of(is_interrupted, failed, decision);
    let has_file = comparison
        .is_some_and(|comparison| report::recommended(&session.profile, &comparison).is_some());
    let (measured, all) = (run.measured.get(), dag.stored_leaves()?.len());
    let cost = Cost { elapsed: started.elapsed(), measured, all };
    ui.ending(&session.profile, cost, engine.is_simulated(), ending, has_file);
    Ok(Some(ending))
}

/// Whether something may be measured: a stage that bears on trials is not done.
fn measures(dag: &Dag<'_, Trial>) -> bool {
    dag.iter().any(|(task, state)| {
        stages::bears_on_trials(task.name()) && !matches!(state, State::Done(_))
    })
}

/// What stored trials say of those to come; nothing where launches cost next to nothing.
fn history(session: &Session, engine: &dyn Engine, dag: &Dag<'_, Trial>) -> Result<History> {
    if engine.runs_side_by_side() {
        return Ok(History::default());
    }
    measure::history(&session.store, dag)
}

/// Where the server was on which the profile was measured last; `None` where it was on none.
fn measured_at(session: &Session) -> Option<String> {
    let identity = session.recorded_engine().ok()?.fingerprint()?;
    identity["base_url"].as_str().map(str::to_owned)
}

/// Contacts a server that runs already, if something is to be measured on it.
fn reach(
    session: &Session,
    engine: &dyn Engine,
    is_wanted: &dyn Fn(&str) -> bool,
    fresh: bool,
    interrupted: &AtomicBool,
    ui: &Ui,
) -> Result<()> {
    let Some(endpoint) = session.profile.endpoint() else { return Ok(()) };
    let context = session.context(engine);
    let missing = session.plan(&context, is_wanted, fresh)?.missing_leaves();
    let gone = missing.iter().find(|leaf| leaf.what.replicate + 1 < endpoint.start);
    if let Some(leaf) = gone {
        let message = format!(
            "{}: start {} is not in the store, and can no longer be measured, since start = {} runs \
             now; {}",
            leaf.role,
            leaf.what.replicate + 1,
            endpoint.start,
            match measured_at(session).filter(|url| *url != endpoint.base_url) {
                Some(url) => format!(
                    "the profile's trials are of {url}, and `url` is {} now: set it back, or begin again \
                     with start = 1",
                    endpoint.base_url
                ),
                None =>
                    "measure each start before the next, or begin again with start = 1 and another \
                         `identity` in [engine]"
                        .to_owned(),
            }
        );
        return Err(Code::StartGone.error(message));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let reached = engine.reach(interrupted, &mut |text| ui.warn(text));
    reached.map_err(|error| Code::EngineUnavailable.of(error))
}

/// Calibrates the load generator if something is to be measured with it. Where it cannot be, the
/// report says so.
fn calibrate(
    session: &Session,
    engine: &dyn Engine,
    is_wanted: &dyn Fn(&str) -> bool,
    fresh: bool,
    interrupted: &AtomicBool,
    ui: &Ui,
) -> Result<()> {
    let context = session.context(engine);
    if session.plan(&context, is_wanted, fresh)?.missing_leaves().is_empty() {
        return Ok(());
    }
    let made = calibration::ensure(&session.root.artifacts(), &mut |step| ui.step(step));
    if let Err(error) = made
        && !interrupted.load(Ordering::Relaxed)
    {
        ui.step(&format!("the load generator is not calibrated: {error:#}"));
    }
    Ok(())
}

/// Refuses a plan that takes more engine minutes than the profile allows.
fn within_budget(
    session: &Session,
    engine: &dyn Engine,
    dag: &Dag<'_, Trial>,
    history: &History,
) -> Result<()> {
    let Some(budget) = session.profile.budget_engine_minutes else { return Ok(()) };
    let launches = measure::left(dag);
    let seconds = |launch: &measure::Launch| launch.estimate_s(engine, history);
    let minutes = launches.iter().map(seconds).sum::<f64>() / 60.0;
    if engine.is_simulated() || minutes <= f64::from(budget) {
        return Ok(());
    }
    let message = format!(
        "{} launches take about {minutes:.0} engine minutes, [budget] allows {budget}: raise \
         `engine_minutes`, drop values, or run a part with --only",
        launches.len()
    );
    Err(Code::OverBudget.error(message))
}

/// Takes sweeps out of a profile.
fn leave_out(profile: &mut Profile, without: &[String]) -> Result<()> {
    let names: Vec<String> = profile.sweeps.iter().map(|sweep| sweep.name.clone()).collect();
    if let Some(unknown) = without.iter().find(|name| !names.contains(name)) {
        let message = error::no_such("sweep", unknown, &names);
        let advice = match nearest(unknown, names.iter().map(String::as_str)) {
            _ if names.is_empty() => {
                format!(" in profile `{}`; --only STAGE runs a part of its stages", profile.name)
            }
            Some(_) => format!(" Sweeps can be left out: {}", names.join(", ")),
            None => String::new(),
        };
        return Err(Code::UnknownName.error(message + &advice));
    }
    profile.sweeps.retain(|sweep| !without.contains(&sweep.name));
    Ok(())
}

/// Refuses a plan that the memory of this machine does not hold.
fn within_memory(engine: &dyn Engine, executor: &dyn Executor, dag: &Dag<'_, Trial>) -> Result<()> {
    let launches = measure::left(dag);
    let at_once = executor.at_once(launches.len(), engine.runs_side_by_side());
    let leaves = launches.iter().flat_map(|launch| &launch.trials);
    let loads = leaves.map(|leaf| (&*leaf.role, &leaf.what.load));
    let refused = memory::refusal(loads, at_once, memory::free_bytes());
    match refused.filter(|_| engine.is_simulated()) {
        Some(why) => Err(Code::OutOfMemory.error(why)),
        None => Ok(()),
    }
}

/// The named stages and everything they need, or all stages.
fn wanted(session: &Session, only: &[String]) -> Result<Vec<String>> {
    let engine = session.engine()?;
    let context = session.context(&*engine);
    let tasks = stages::tasks(&context);
    let names: Vec<String> = tasks.iter().map(|task| task.name().to_owned()).collect();
    if only.is_empty() {
        return Ok(names);
    }
    if let Some(unknown) = only.iter().find(|name| !names.contains(name)) {
        return Err(Code::UnknownName.error(error::no_such("stage", unknown, &names)));
    }
    let mut wanted: Vec<String> = only.to_vec();
    let mut next = 0;
    while let Some(name) = wanted.get(next).cloned() {
        next += 1;
        for task in tasks.iter().filter(|task| task.name() == name) {
            let more: Vec<String> =
                task.needs().into_iter().filter(|n| !wanted.contains(n)).collect();
            wanted.extend(more);
        }
    }
    Ok(wanted)
}

/// What a run works with.
struct Run<'r> {
    session: &'r Session,
    engine: &'r dyn Engine,
    executor: &'r dyn Executor,
    args: &'r RunArgs,
    interrupted: &'r AtomicBool,
    ui: &'r Ui,
    /// Trials so far.
    measured: Cell<usize>,
}

impl Run<'_> {
    /// Runs stages and launches until nothing is left that can run, or a server cannot be started as
    /// a fork; then for this reason.
    fn execute(
        &self,
        dag: &mut Dag<'_, Trial>,
        remote: &mut Option<Remote<'_>>,
    ) -> Result<Option<String>> {
        let Self { session, ui, .. } = *self;
        ui.cached(dag);
        loop {
            run_stages(session, dag, ui)?;
            let missing = dag.missing_leaves();
            if fetch(session, dag, remote, &missing, ui)? {
                continue;
            }
            let mut launches = measure::launches(missing);
            // Until the choice is made, the settings that are compared wait: they share their blocks.
            let choose = dag.state(stage::CHOOSE.name);
            let is_choosing = matches!(choose, Some(State::Waiting(_) | State::Wanting(_)));
            if is_choosing && launches.iter().any(|launch| launch.block().is_none()) {
                launches.retain(|launch| launch.block().is_none());
            }
            if launches.is_empty() || self.interrupted.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if self.args.offline {
                let missing: Vec<_> = launches.iter().flat_map(|launch| &launch.trials).collect();
                ui.absent(&missing);
                let keys: Vec<Digest> = missing.iter().map(|leaf| leaf.key).collect();
                dag.leaves_failed(&keys, "trials are missing, and --offline measures none")?;
                continue;
            }
            let no_fork = self.measure(&launches, dag, remote)?;
            if no_fork.is_some() && !self.interrupted.load(Ordering::Relaxed) {
                return Ok(no_fork);
            }
            // What a failed launch kept others from measuring fails with it.
            let left = keys(&dag.missing_leaves());
            if launches.iter().flat_map(|l| &l.trials).any(|leaf| left.contains(&leaf.key)) {
                let why = if self.interrupted.load(Ordering::Relaxed) {
                    "interrupted"
                } else {
                    "not measured, since a launch failed"
                };
                dag.leaves_failed(&left, why)?;
            }
        }
    }

    /// Runs launches, and each stage as soon as it has its trials; why a server could not be started
    /// as a fork, if one could not.
    fn measure(
        &self,
        launches: &[measure::Launch],
        dag: &mut Dag<'_, Trial>,
        remote: &mut Option<Remote<'_>>,
    ) -> Result<Option<String>> {
        let Self { session, engine, executor, ui, .. } = *self;
        let mut no_fork = None;
        let history = history(session, engine, dag)?;
        left(dag, engine, &history, ui);
        let (store, bench, fresh) = (&session.store, engines::driver as _, self.args.fresh);
        let setup = Setup { store, engine, executor, bench, fresh };
        measure::run(setup, launches, history.feasibility.clone(), self.interrupted, |update| {
            match &update {
                Update::NoFork(why) => no_fork = Some(why.clone()),
                Update::Stored(keys) => {
                    self.measured.update(|n| n + keys.len());
                    ui.stored(dag, keys);
                    dag.leaves_stored(keys)?;
                    if let Some(remote) = remote {
                        remote.push(&session.store, keys);
                    }
                    run_stages(session, dag, ui)?;
                }
                Update::Failed { trials, reason } => dag.leaves_failed(trials, reason)?,
                Update::Note(text) => ui.noted(text),
                Update::Progress(progress) => ui.progress(dag, progress),
                Update::Idle { launch, reply } => {
                    let mut wanted = measure::of_launch(dag, *launch);
                    while fetch(session, dag, remote, &wanted, ui)? {
                        run_stages(session, dag, ui)?;
                        wanted = measure::of_launch(dag, *launch);
                    }
                    // Nobody waits any more when the worker has failed.
                    let _ = reply.send(wanted);
                }
                Update::Ended => left(dag, engine, &history, ui),
                Update::Waiting => ui.wait(),
            }
            Ok(())
        })?;
        ui.idle();
        Ok(no_fork)
    }
}

/// Fetches what the remote store has, and what is then asked for, before anything is said of what
/// is missing. Stages that only show come later.
fn prefetch(
    session: &Session,
    engine: &dyn Engine,
    is_wanted: &dyn Fn(&str) -> bool,
    remote: &mut Remote<'_>,
    ui: &Ui,
) -> Result<()> {
    let context = session.context(engine);
    let bears = |name: &str| is_wanted(name) && stages::bears_on_trials(name);
    let mut dag = session.plan(&context, &bears, false)?;
    loop {
        while dag.run_next()?.is_some() {}
        let missing = keys(&dag.missing_leaves());
        if !missing.is_empty() {
            ui.step(&format!("looking for {} trials in {}", missing.len(), remote.url()));
        }
        let found = remote.fetch(&session.store, &missing);
        if found.is_empty() {
            return Ok(());
        }
        dag.leaves_stored(&found)?;
    }
}

/// Fetches those of these trials that the remote store has; whether there was any.
fn fetch(
    session: &Session,
    dag: &mut Dag<'_, Trial>,
    remote: &mut Option<Remote<'_>>,
    missing: &[Leaf<Trial>],
    ui: &Ui,
) -> Result<bool> {
    let Some(remote) = remote else { return Ok(false) };
    let found = remote.fetch(&session.store, &keys(missing));
    if found.is_empty() {
        return Ok(false);
    }
    ui.stored(dag, &found);
    dag.leaves_stored(&found)?;
    Ok(true)
}

/// Writes what is stored to the remote store, where it may be written, what was measured by earlier
/// runs too, and says what has moved.
fn share(
    session: &Session,
    dag: &Dag<'_, Trial>,
    remote: Option<Remote<'_>>,
    ui: &Ui,
) -> Result<()> {
    let Some(mut remote) = remote else { return Ok(()) };
    let stored: Vec<Digest> = dag.stored_leaves()?.iter().map(|(leaf, _)| leaf.key).collect();
    remote.push(&session.store, &stored);
    let moved = remote.finish();
    ui.moved(remote.url(), moved);
    Ok(())
}

fn keys(leaves: &[Leaf<Trial>]) -> Vec<Digest> {
    leaves.iter().map(|leaf| leaf.key).collect()
}

/// Says what is left to measure.
fn left(dag: &Dag<'_, Trial>, engine: &dyn Engine, history: &History, ui: &Ui) {
    let launches = measure::left(dag);
    // An empty sum would be minus zero.
    let seconds = launches.iter().fold(0.0, |sum, launch| sum + launch.estimate_s(engine, history));
    ui.left(launches.len(), seconds);
}

fn run_stages(session: &Session, dag: &mut Dag<'_, Trial>, ui: &Ui) -> Result<()> {
    ui.cached(dag);
    while let Some(name) = dag.run_next()? {
        let state = dag.state(&name).expect("the stage that ran is in the DAG");
        if let State::Done(action) = state {
            session.store.set_latest(&session.profile.name, &name, &action.key)?;
        }
        ui.ran(&name, state, &summary(session, state));
        ui.cached(dag);
    }
    Ok(())
}

/// What a stage's line says of its result, in a few words.
fn summary(session: &Session, state: &State<Trial>) -> String {
    figures_of(session, state).map_or_else(String::new, |result| ui::stage_summary(&result))
}

/// What the result file of a stage says of configurations, if it wrote one.
fn figures_of(session: &Session, state: &State<Trial>) -> Option<Figures> {
    let State::Done(action) = state else { return None };
    let mut files = action.outputs.iter().filter(|(name, _)| name.ends_with(".json"));
    files.find_map(|(_, digest)| {
        let bytes = session.store.get(digest).ok()??;
        serde_json::from_slice(&bytes).ok()
    })
}

/// Notes the keys of the stages that are done.
fn remember(session: &Session, dag: &Dag<'_, Trial>) -> Result<()> {
    for (task, state) in dag.iter() {
        if let State::Done(action) = state {
            session.store.set_latest(&session.profile.name, task.name(), &action.key)?;
        }
    }
    Ok(())
}

/// What the engine's time went into, over all trials of the plan; nothing where no server was started.
fn engine_time(session: &Session, dag: &Dag<'_, Trial>) -> Result<Option<String>> {
    let mut records = Vec::new();
    for (_, digest) in dag.stored_leaves()? {
        let Some(bytes) = session.store.get(&digest)? else { continue };
        if let Outcome::Measured(record) =
            serde_json::from_slice(&bytes).context("reading a trial")?
        {
            records.push(record);
        }
    }
    let time =
        EngineTime::of(records.iter().map(|record: &Measured| {
            (&*record.launch, &record.observed, record.summary.duration_s)
        }));
    Ok((time.starts > 0).then(|| format!("engine   {}", report::engine_time(&time))))
}

/// Projects what is done, remembers its keys and shows the last screen; the comparison, if there is
/// one.
fn finish(
    session: &Session,
    dag: &Dag<'_, Trial>,
    is_interrupted: bool,
    ui: &Ui,
) -> Result<Option<CompareResult>> {
    remember(session, dag)?;
    let mut files = BTreeMap::new();
    let mut points: Vec<Point> = Vec::new();
    let (mut judged, mut sweeps) = (Vec::<Point>::new(), Vec::<Vec<Point>>::new());
    for (task, state) in dag.iter() {
        match state {
            State::Done(action) => {
                files.extend(action.outputs.iter().map(|(name, digest)| (name.clone(), *digest)));
                let found = figures_of(session, state).map(|file| file.points).unwrap_or_default();
                if session.profile.sweeps.iter().any(|sweep| sweep.name == task.name()) {
                    sweeps.push(found.clone());
                } else if [&stage::BASELINE, &stage::COMPREHENSIVE]
                    .iter()
                    .any(|s| s.name == task.name())
                {
                    judged.extend(found.iter().cloned());
                }
                points.extend(found);
            }
            state => ui.not_done(task.name(), state),
        }
    }
    let trials = dag.stored_leaves()?.len();
    let written = write_results(session, dag, &files, is_interrupted)
        .with_context(|| unwritten(&session.profile.name, dag.missing_leaves().len(), trials));
    // What came of the suite is shown all the same.
    let comparison = show(session, dag, &files, &points, &judged, &sweeps, ui)?;
    written.map_err(|error| Code::ResultsUnwritten.error(format!("{error:#}")))?;
    Ok(comparison)
}

/// What is true of results that could not be written: all is measured, or some, or nothing.
fn unwritten(profile: &str, missing: usize, stored: usize) -> String {
    let folder = format!("results/{profile} could not be written");
    match (missing, stored) {
        (0, _) => format!(
            "the results are in the store and not in results/{profile}: when files can be written there, the \
             same command writes them and measures nothing again"
        ),
        (_, 0) => format!(
            "{folder}, and no trial is in the store: when files can be written, the same command measures \
             all"
        ),
        (missing, stored) => format!(
            "{folder}; trials in the store: {stored}, missing: {missing}. When files can be written, the \
             same command measures what is missing"
        ),
    }
}

/// An error with what a full disk leaves, where it is one.
fn with_what_is_stored(error: anyhow::Error, dag: &Dag<'_, Trial>) -> anyhow::Error {
    let stored = dag.stored_leaves().map(|leaves| leaves.len());
    match stored {
        Ok(stored) if error::is_disk_full(&error) => error.context(format!(
            "the run ended, with trials in the store: {stored}, missing: {}. When there is room on the disk, the \
             same command measures what is missing",
            dag.missing_leaves().len()
        )),
        _ => error,
    }
}

/// Makes the results folder that of these files.
fn write_results(
    session: &Session,
    dag: &Dag<'_, Trial>,
    files: &BTreeMap<String, Digest>,
    is_interrupted: bool,
) -> Result<()> {
    let folder = session.root.results(&session.profile);
    results::project(&folder, files, |digest| session.store.get(digest))?;
    // What an earlier run recommended does not outlive a run that recommends nothing.
    let recommends = files.contains_key(stages::RECOMMENDED);
    let is_settled = |stage| {
        matches!(dag.state(stage), Some(State::Done(_) | State::Failed(_) | State::Blocked(_)))
    };
    if !recommends && !is_interrupted && is_settled(stage::DOCUMENT.name) {
        results::remove(&folder.join(stages::RECOMMENDED))?;
    }
    // Nor do the files of a stage that the profile no longer has.
    for name in stages::files_of_others(&session.profile) {
        results::remove(&folder.join(name))?;
    }
    Ok(())
}

/// What a stage wrote, if it did.
fn read<T: DeserializeOwned>(
    session: &Session,
    files: &BTreeMap<String, Digest>,
    name: &str,
) -> Result<Option<T>> {
    let Some(digest) = files.get(name) else { return Ok(None) };
    let bytes = session.store.get(digest)?;
    let read = bytes.map(|bytes| serde_json::from_slice(&bytes));
    read.transpose().with_context(|| format!("reading {name}"))
}

/// Shows the last screen; the comparison, if there is one.
fn show(
    session: &Session,
    dag: &Dag<'_, Trial>,
    files: &BTreeMap<String, Digest>,
    points: &[Point],
    judged: &[Point],
    sweeps: &[Vec<Point>],
    ui: &Ui,
) -> Result<Option<CompareResult>> {
    let Some(comparison) = read::<CompareResult>(session, files, stage::COMPARE.file())? else {
        if matches!(dag.state(stage::COMPARE.name), Some(State::Failed(_) | State::Blocked(_))) {
            ui.failed(&session.profile, points, &report::causes(points));
        }
        return Ok(None);
    };
    let profile = &session.profile;
    let spread = spread_points(profile, comparison.header.engine.identity);
    let lenders = Lenders::of(spread.iter().chain(judged).chain(sweeps.iter().flatten()));
    let answers: Option<AnswersResult> = read(session, files, stage::ANSWERS.file())?;
    let answers = KnownAnswers::from_result(profile, answers.as_ref());
    let sweeps: Vec<_> = sweeps.iter().map(Vec::as_slice).collect();
    let lead = lead::beside(&comparison, judged, &sweeps, &lenders, &answers, profile);
    let capacity = read(session, files, stage::CAPACITY.file())?;
    let beside = Beside {
        points,
        problems: &report::causes(points),
        failed_requests: &failures::tolerated(session, dag, points)?,
        lead: lead.as_ref(),
        capacity: capacity.as_ref(),
    };
    ui.closing(&session.profile, &comparison, &beside);
    Ok(Some(comparison))
}
