//! A Slurm cluster: each launch is a job that runs `xtask launch` on a node. The store, the launch's
//! folder and both programs lie on a file system that the nodes share.
//!
//! Slurm decides when and where a job runs, and runs it again when its node is lost. The job's
//! comment is the launch's folder, which lies in that of the run that wants it: when this run is
//! dead, the job is an orphan.

mod commands;
mod gpus;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use bench_core::{
    canonical::Digest,
    schema::{Event, LaunchPlan, PlannedTrial},
};
use serde_json::json;

use super::{
    Executor,
    folder::{Folder, Tail, attempt_name},
};
use crate::{
    LaunchHost,
    finding::{Finding, Missing},
    launch::{LaunchError, Tools, last_words},
    vllm::Node,
};
use commands::{Batch, Cluster, CommandLine, JobId, Queued, Shown};
use profile::SlurmConfig;
use store::Store;

pub use gpus::allotted_gpus;

/// How often a job's events are looked for.
const TICK: Duration = Duration::from_millis(200);

/// How old what is known of the queue may be: one look serves all jobs.
const QUEUE_AGE_MAX: Duration = Duration::from_secs(2);

/// How long the controller may be away before the launches fail; their jobs go on meanwhile.
const CONTROLLER_LIMIT: Duration = Duration::from_secs(600);

/// How long the last events of a job that ended well may take to be seen here.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);

/// Why a job waits when nothing is wrong.
const WAITS: [&str; 5] = ["None", "Resources", "Priority", "BeginTime", "Dependency"];

/// Parts of reasons for which a job waits until somebody changes it.
const HOPELESS: [&str; 10] = [
    "AccountNotAllowed",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "JobHeld",
    "MaxWallDuration",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSNotAllowed",
    "requeued held",
];

/// Launches as jobs of a Slurm cluster.
pub(super) struct Slurm<'a> {
    config: &'a SlurmConfig,
    cluster: Box<dyn Cluster>,
    /// This program.
    program: PathBuf,
    /// The current folder.
    here: PathBuf,
    artifacts: PathBuf,
    queue: Mutex<Queue>,
    queue_age_max: Duration,
    /// Reasons to wait that were told.
    told: Mutex<BTreeSet<String>>,
}

/// What was last seen of the queue.
#[derive(Default)]
struct Queue {
    jobs: BTreeMap<JobId, Queued>,
    /// When it was asked for.
    seen: Option<Instant>,
    /// When the controller was last tried.
    tried: Option<Instant>,
}

/// What is known of a job.
enum Look {
    /// Nothing newer than the job.
    Unknown,
    /// It waits or runs.
    There(Queued),
    /// It is in the queue no more.
    Gone,
}

impl<'a> Slurm<'a> {
    pub(super) fn new(config: &'a SlurmConfig, artifacts: &Path) -> Result<Self> {
        let program = env::current_exe().context("finding this program")?;
        let here = env::current_dir().context("finding the current folder")?;
        Ok(Self {
            config,
            cluster: Box::new(CommandLine),
            program,
            here,
            artifacts: artifacts.to_owned(),
            queue: Mutex::default(),
            queue_age_max: QUEUE_AGE_MAX,
            told: Mutex::default(),
        })
    }

    /// Looks for a job in the queue, which is asked for anew when what is known is old.
    fn look(&self, job: JobId, submitted: Instant) -> Result<Look> {
        let mut queue = self.queue.lock().expect("no thread panics with the lock");
        let now = Instant::now();
        if queue.tried.is_none_or(|tried| now - tried >= self.queue_age_max) {
            queue.tried = Some(now);
            match self.cluster.queue() {
                Ok(jobs) => *queue = Queue { jobs, seen: Some(now), tried: Some(now) },
                Err(error) if queue.seen.is_none_or(|seen| now - seen >= CONTROLLER_LIMIT) => {
                    return Err(error);
                }
                // Controllers restart.
                Err(_) => {}
            }
        }
        Ok(match (queue.jobs.get(&job), queue.seen) {
            (Some(found), _) => Look::There(found.clone()),
            (None, Some(seen)) if seen > submitted => Look::Gone,
            _ => Look::Unknown,
        })
    }

    /// Submits a launch; what the job prints goes into `log`.
    fn submit(
        &self,
        plan: &LaunchPlan,
        folder: &Folder,
        tools: &Tools,
        log: &Path,
    ) -> Result<JobId, LaunchError> {
        let plan_path = folder.plan();
        let mut command = vec![self.program.as_os_str(), "launch".as_ref(), plan_path.as_os_str()];
        command.extend(["--out".as_ref(), folder.0.as_os_str()]);
        command.extend(["--logs".as_ref(), tools.log_dir.as_os_str()]);
        command.extend(["--bench".as_ref(), tools.bench.as_os_str()]);
        let gpus = plan.engine.gpus();
        let note = gpus.map(|gpus| note_path(self.config, gpus, &self.artifacts));
        if let Some(note) = &note {
            command.extend(["--device".as_ref(), note.as_os_str()]);
        }
        let (here, comment) = (&self.here, &folder.0);
        let batch = Batch { command: &command, counts_attempts: true, here, comment, log };
        let args = commands::arguments(self.config, &batch);
        let script = commands::script(self.config, &batch);
        self.cluster.submit(&args, &script).map_err(|error| LaunchError::Environment {
            what: format!("{error:#}"),
            advice: "look at [executor] in the profile, and at `sinfo`".to_owned(),
            log: None,
        })
    }

    /// Has a node write into `note` what computes there.
    fn ask(&self, note: &Path, gpus: &str) -> Result<()> {
        let log = self.artifacts.join("logs").join("device-job.log");
        for folder in [note.parent(), log.parent()].into_iter().flatten() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::remove_file(&log).ok();
        let mut command = vec![self.program.as_os_str(), "device".as_ref(), note.as_os_str()];
        if !gpus.is_empty() {
            command.extend(["--gpus".as_ref(), OsStr::new(gpus)]);
        }
        let (here, comment, log) = (&self.here, note, &log);
        let batch = Batch { command: &command, counts_attempts: false, here, comment, log };
        let mut args = commands::arguments(self.config, &batch);
        args.push("--wait".to_owned());
        let asked = self.cluster.submit(&args, &commands::script(self.config, &batch));
        asked.map(drop).map_err(|error| {
            anyhow!("cannot ask a node for its device: {error:#}{}", last_words(log))
        })
    }
}

/// The node that stands for those where this configuration places jobs.
pub(super) fn node<'a>(
    config: &'a SlurmConfig,
    gpus: &[u32],
    artifacts: &Path,
) -> Result<Node<'a>> {
    let slurm = Slurm::new(config, artifacts)?;
    let list: Vec<String> = gpus.iter().map(u32::to_string).collect();
    let ask = move |note: &Path| slurm.ask(note, &list.join(","));
    Ok(Node { note: note_path(config, gpus, artifacts), ask: Box::new(ask) })
}

/// Where the device is noted of the nodes where this configuration places jobs.
fn note_path(config: &SlurmConfig, gpus: &[u32], artifacts: &Path) -> PathBuf {
    let placement = json!({
        "partition": config.partition,
        "gres": config.gres,
        "exclusive": config.exclusive,
        "options": config.options,
        "gpus": gpus,
    });
    let digest = Digest::of_json(&placement).expect("it holds no floats");
    artifacts.join("env").join(format!("node-{}.json", digest.short()))
}

impl Executor for Slurm<'_> {
    /// Slurm has the queue.
    fn at_once(&self, launches: usize, _side_by_side: bool) -> usize {
        launches
    }

    fn is_here(&self) -> bool {
        false
    }

    fn doctor(&self) -> Vec<Finding> {
        let found = self.cluster.queue().map(|queue| format!("answers; our jobs: {}", queue.len()));
        let found = found.map_err(|error| Missing {
            what: format!("{error:#}"),
            fix: "log in where Slurm's commands are, or take [executor] out".to_owned(),
        });
        vec![Finding { what: "Slurm".to_owned(), found }]
    }

    fn end_orphans(&self, store: &Store, note: &mut dyn FnMut(String)) -> Result<()> {
        let tmp = store.root().join("tmp");
        let is_orphan = |job: &Queued| {
            let run = Path::new(&job.comment).parent();
            run.is_some_and(|run| run.parent() == Some(&tmp) && !store::run_lives(run))
        };
        let queue = self.cluster.queue()?;
        let orphans: Vec<JobId> =
            queue.iter().filter(|(_, job)| is_orphan(job)).map(|(id, _)| *id).collect();
        for job in &orphans {
            self.cluster.cancel(*job)?;
        }
        if !orphans.is_empty() {
            let count = orphans.len();
            note(format!("ended    jobs left behind by a run that was killed ({count})"));
        }
        Ok(())
    }

    fn run(
        &self,
        plan: &LaunchPlan,
        tools: &Tools,
        host: &mut dyn LaunchHost,
    ) -> Result<(), LaunchError> {
        let folder = Folder(tools.out_dir.clone());
        folder.write_plan(plan)?;
        let log_dir = &tools.log_dir;
        fs::create_dir_all(log_dir)
            .with_context(|| format!("cannot make {}", log_dir.display()))?;
        let log = log_dir.join(format!("{}-job.log", plan.launch));
        // Each attempt appends to it; what is there is of another job.
        fs::remove_file(&log).ok();
        let id = self.submit(plan, &folder, tools, &log)?;
        let mut job = Job {
            slurm: self,
            id,
            submitted: Instant::now(),
            log,
            tail: Tail::new(folder.clone()),
            folder,
            missing: plan.trials.iter().map(|trial| trial.key).collect(),
            recorded: BTreeSet::new(),
            rounds: 0,
            closed: false,
            attempt: 0,
            has_run: false,
            lost: false,
            ended: None,
            done: false,
        };
        job.follow(host)
    }
}

/// A job of ours. Dropping it ends it, unless it is done.
struct Job<'a> {
    slurm: &'a Slurm<'a>,
    id: JobId,
    /// From when on it is in the queue.
    submitted: Instant,
    log: PathBuf,
    folder: Folder,
    tail: Tail,
    /// Trials that are wanted and have no record.
    missing: BTreeSet<Digest>,
    recorded: BTreeSet<Digest>,
    /// How often it was told what else is wanted.
    rounds: u32,
    /// Whether nothing more is wanted of it.
    closed: bool,
    /// The latest attempt that has told something.
    attempt: u32,
    /// Whether the latest attempt was seen on a node.
    has_run: bool,
    /// Whether it was told that its node is lost, and no attempt has begun since.
    lost: bool,
    /// When its end was seen.
    ended: Option<Instant>,
    done: bool,
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if !self.done {
            // It may have ended by itself; what cannot be ended now is an orphan of the next run.
            let _ = self.slurm.cluster.cancel(self.id);
        }
    }
}

impl Job<'_> {
    fn follow(&mut self, host: &mut dyn LaunchHost) -> Result<(), LaunchError> {
        loop {
            if host.interrupted() {
                return Err(LaunchError::Interrupted);
            }
            // Before the events, so that what was told before its end counts.
            let look = self.slurm.look(self.id, self.submitted)?;
            self.take_events(host)?;
            if self.done {
                return Ok(());
            }
            if self.missing.is_empty() && !self.closed {
                self.answer(&host.more())?;
            }
            match look {
                Look::There(queued) => self.notice(&queued, host)?,
                Look::Gone => {
                    if let Some(error) = self.failure() {
                        return Err(error);
                    }
                }
                Look::Unknown => {}
            }
            thread::sleep(TICK);
        }
    }

    fn take_events(&mut self, host: &mut dyn LaunchHost) -> Result<(), LaunchError> {
        for (attempt, mut event) in self.tail.read()? {
            if attempt > self.attempt {
                self.attempt = attempt;
                if !self.lost {
                    host.note(self.was_lost());
                }
                self.lost = false;
            }
            match &mut event {
                Event::Trial { key, samples, .. } => {
                    self.missing.remove(key);
                    // An attempt on a node that was given up may have gone on for a while.
                    if !self.recorded.insert(*key) {
                        continue;
                    }
                    *samples =
                        samples.take().map(|name| format!("{}/{name}", attempt_name(attempt)));
                }
                Event::Refused { .. } => self.closed = true,
                Event::Progress(_) | Event::Silent { .. } | Event::Stalled { .. }
                    if attempt < self.attempt =>
                {
                    continue;
                }
                Event::Done {} => self.done = true,
                Event::Ready { .. }
                | Event::Progress(_)
                | Event::Silent { .. }
                | Event::Stalled { .. } => {}
            }
            if host.event(event).is_break() {
                return Err(LaunchError::Interrupted);
            }
        }
        Ok(())
    }

    /// Tells the job what else is wanted of it.
    fn answer(&mut self, more: &[PlannedTrial]) -> Result<()> {
        self.rounds += 1;
        self.closed = more.is_empty();
        self.missing.extend(more.iter().map(|trial| trial.key));
        self.folder.write_more(self.rounds, more)
    }

    /// Notices that a job lost its node, or waits for what will not come.
    fn notice(&mut self, queued: &Queued, host: &mut dyn LaunchHost) -> Result<(), LaunchError> {
        self.ended = None;
        if !queued.pending {
            self.has_run = true;
            return Ok(());
        }
        let reason = &queued.reason;
        if HOPELESS.iter().any(|part| reason.contains(part)) {
            return Err(LaunchError::Environment {
                what: format!("job {} cannot run: {reason}", self.id),
                advice: "change [executor] in the profile, or ask who runs the cluster".to_owned(),
                log: None,
            });
        }
        if self.has_run && !self.lost {
            self.lost = true;
            host.note(self.was_lost());
        }
        self.has_run = false;
        let mut told = self.slurm.told.lock().expect("no thread panics with the lock");
        if !WAITS.contains(&&**reason) && told.insert(reason.clone()) {
            host.note(format!("waiting  job {} and maybe others: {reason}", self.id));
        }
        Ok(())
    }

    fn was_lost(&self) -> String {
        let kept = self.recorded.len();
        format!("lost     the node of job {}, which Slurm runs again; trials kept: {kept}", self.id)
    }

    /// Why it ended, once it has and its last events must be here.
    fn failure(&mut self) -> Option<LaunchError> {
        let ended = *self.ended.get_or_insert_with(Instant::now);
        // Where nobody answers, the next look at the queue says so.
        let shown = self.slurm.cluster.show(self.id).ok()?;
        let shown = shown.unwrap_or_else(Shown::forgotten);
        let waits_for_events = shown.state == "COMPLETED" && ended.elapsed() < SETTLE_LIMIT;
        if shown.is_active() || waits_for_events {
            return None;
        }
        Some(explain(self.id, &shown, &self.log))
    }
}

/// What became of a job that ended without its last event, and what to do.
fn explain(id: JobId, shown: &Shown, log: &Path) -> LaunchError {
    let Shown { state, reason, exit_code, nodes, time_limit } = shown;
    let job = if nodes.is_empty() { format!("job {id}") } else { format!("job {id} on {nodes}") };
    let last_words = last_words(log);
    if let ("FAILED", Some(error)) = (state.as_str(), last_words.strip_prefix(": error: ")) {
        // The launch itself says what failed and what to do.
        return anyhow!("{job}: {error}").into();
    }
    let is_unstarted = last_words.is_empty() || matches!(exit_code.0, 126 | 127);
    let (what, advice) = match state.as_str() {
        "TIMEOUT" => (
            format!("ran into its time limit of {time_limit}"),
            "raise `time_limit_minutes` in [executor]; trials that ended are kept",
        ),
        "OUT_OF_MEMORY" => (
            "took more memory than it was given".to_owned(),
            "add \"--mem=…\" to `options` in [executor]",
        ),
        "CANCELLED" => ("was cancelled by somebody".to_owned(), "run again"),
        "NODE_FAIL" | "BOOT_FAIL" => ("lost its node and was not requeued".to_owned(), "run again"),
        "FAILED" if is_unstarted => (
            format!("could not start{last_words}"),
            "the project and this program must lie on a file system that the nodes share",
        ),
        "COMPLETED" => (
            "ended without its last events".to_owned(),
            "the project must lie on a file system that the nodes share",
        ),
        _ if reason.is_empty() => {
            (format!("ended as {state}{last_words}"), "look at the log, and run again")
        }
        _ => (format!("ended as {state} ({reason}){last_words}"), "look at the log, and run again"),
    };
    let log = log.exists().then(|| log.to_owned());
    LaunchError::Environment { what: format!("{job} {what}"), advice: advice.to_owned(), log }
}

#[cfg(test)]
mod tests;
