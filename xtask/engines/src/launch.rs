//! One launch, from start to stop: the server, the load that `bench run` puts on it, and what
//! becomes of a server that fails.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bench_core::{
    canonical::Digest,
    schema::{
        Engine, Event, FORMAT, LaunchPlan, Observed, Outcome, PlannedTrial, Progress,
        SettingFailure,
    },
};

use crate::{
    Ended, Group, LaunchHost, Program, end_orphans,
    server::{Blame, Failure, GRACE, Launcher, NotStarted, Server, StartRequest},
};

/// How often the server's life, the signals and the limits are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long a server that we did not start, and that takes requests, may take to its first token.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// How long a load may go on without a request that ends or a token that comes.
const STALL_LIMIT: Duration = Duration::from_secs(600);

/// How long `bench run` may take to exit once it is done, or told to.
const EXIT_LIMIT: Duration = Duration::from_secs(30);

/// Requests fail before a dying server has ended: how long to wait for its end then.
const DEATH_SETTLES: Duration = Duration::from_secs(5);

/// Server starts of one launch: the first, and one more after a crash under load.
const STARTS_MAX: usize = 2;

/// Where a launch finds and leaves things.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The `bench` executable.
    pub bench: PathBuf,
    /// Notes of running process groups, for the next run after a crash.
    pub run_dir: PathBuf,
    /// Logs of servers and of `bench run`.
    pub log_dir: PathBuf,
    /// Raw samples, as [`Event::Trial`] names them.
    pub out_dir: PathBuf,
}

/// Why a launch gave less than its plan. Nothing of such a failure is stored; what came as an
/// event before it is good.
#[derive(Debug)]
pub enum LaunchError {
    /// The host wanted its end: SIGINT, SIGTERM or SIGHUP, or a record that it could not keep.
    Interrupted,
    /// Something around the server.
    Environment {
        /// What happened.
        what: String,
        /// What to do about it.
        advice: String,
        /// Log that tells more.
        log: Option<PathBuf>,
    },
    /// A server could not be started as a fork, or died before it served for a reason that is not
    /// known to be the setting's.
    NoFork(String),
    /// The server died under load for no reason that we know.
    TrialsLost {
        /// Trials without a record.
        keys: Vec<Digest>,
        /// What happened.
        what: String,
        /// Log of the last server.
        log: PathBuf,
    },
    /// `bench run` did not keep to its contract.
    Driver {
        /// What happened.
        what: String,
        /// Its log.
        log: PathBuf,
    },
    /// A file or a process could not be had.
    Other(anyhow::Error),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Environment { what, advice, log } => {
                write!(f, "{what}; {advice}")?;
                log.as_ref().map_or(Ok(()), |log| write!(f, " (log: {})", log.display()))
            }
            Self::NoFork(why) => write!(f, "no server as a fork: {why}"),
            Self::TrialsLost { keys, what, log } => write!(
                f,
                "{what}: {} trials lost; run again to measure them (log: {})",
                keys.len(),
                log.display()
            ),
            Self::Driver { what, log } => write!(f, "bench run {what} (log: {})", log.display()),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for LaunchError {}

impl From<anyhow::Error> for LaunchError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<NotStarted> for LaunchError {
    fn from(why: NotStarted) -> Self {
        match why {
            NotStarted::Interrupted => Self::Interrupted,
            NotStarted::NoFork(why) => Self::NoFork(why),
            NotStarted::Other(error) => Self::Other(error),
        }
    }
}

/// A flag that SIGINT, SIGTERM and SIGHUP set.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn interrupt_flag() -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("no signal handler")?;
    }
    Ok(flag)
}

/// Lets a write beyond the limit on the size of files (`ulimit -f`) fail, where the signal's default
/// action would end the program without a word.
///
/// # Errors
/// When there is no handler to be had.
pub fn survive_file_limits() -> Result<()> {
    let signal = signal_hook::consts::SIGXFSZ;
    signal_hook::flag::register(signal, Arc::default()).context("no signal handler")?;
    Ok(())
}

/// Runs one launch. On every way out, whatever it started is ended and waited for.
///
/// Events come in the order in which they happen, [`Event::Done`] last and only on success. A
/// server that cannot start with its settings is an [`Event::Refused`], not an error. One that
/// dies under load loses the load point that was running and is started once more for the rest; if
/// it ran out of memory, the point's trial is an [`Outcome::Refused`].
///
/// When all is measured, the host is asked what else is wanted of this start, until that is nothing:
/// the server stays up meanwhile. `launcher` starts the server, where the engine is one that must be
/// started (`launchers::of`).
///
/// # Errors
/// See [`LaunchError`].
pub fn run(
    plan: &LaunchPlan,
    tools: &Tools,
    host: &mut dyn LaunchHost,
    launcher: Option<&mut (dyn Launcher + 'static)>,
) -> Result<(), LaunchError> {
    end_orphans(&tools.run_dir, GRACE)?;
    let mut launch = Launch {
        plan,
        tools,
        host,
        planned: plan.trials.iter().map(|trial| trial.key).collect(),
        recorded: BTreeSet::new(),
        running: None,
        observed: None,
        refused: false,
    };
    match launcher {
        Some(launcher) => launch.serve(launcher)?,
        None => launch.drive_only()?,
    }
    launch.tell(Event::Done {})
}

/// A launch that goes on.
struct Launch<'a> {
    plan: &'a LaunchPlan,
    tools: &'a Tools,
    host: &'a mut dyn LaunchHost,
    /// Trials of the plan, and what was wanted later.
    planned: Vec<Digest>,
    /// Trials that have a record.
    recorded: BTreeSet<Digest>,
    /// The trial whose load is on the server, by the last progress of one without a record.
    running: Option<Digest>,
    /// What the server said when it was ready.
    observed: Option<Observed>,
    /// Whether the settings were refused; then no trial follows.
    refused: bool,
}

/// How driving a server went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Driven {
    /// To the end of the plan.
    Whole,
    /// The server ended; whether it was ready before.
    ServerEnded { ready: bool },
}

impl Launch<'_> {
    /// Drives what needs no start.
    fn drive_only(&mut self) -> Result<(), LaunchError> {
        let mut rest = self.plan.clone();
        for round in 1.. {
            let log = self.log_path(&format!("bench-{round}"));
            self.drive(&rest, None, &log)?;
            self.require_records(&rest.trials, &log)?;
            rest.trials = self.more();
            if rest.trials.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// What else is wanted of this start.
    fn more(&mut self) -> Vec<PlannedTrial> {
        if self.refused {
            return Vec::new();
        }
        let more = self.host.more();
        self.planned.extend(more.iter().map(|trial| trial.key));
        more
    }

    /// Starts a server, drives it, and starts it once more if it dies under load.
    fn serve(&mut self, launcher: &mut dyn Launcher) -> Result<(), LaunchError> {
        let plan = self.plan;
        let mut rest = plan.clone();
        let mut died_of = None;
        let (mut starts, mut rounds) = (1.., 1..);
        let mut has_died_early = false;
        let mut lives = STARTS_MAX;
        while lives > 0 {
            let start = starts.next().expect("it has no end");
            let log = self.log_path(&format!("server-{start}"));
            let request = StartRequest {
                plan,
                run_dir: &self.tools.run_dir,
                log: log.clone(),
                is_interrupted: &|| self.host.interrupted(),
            };
            let mut server = launcher.start(&request)?;
            rest.engine = Engine::Server(server.engine());
            let limit = launcher.start_limit();
            let driven = loop {
                let round = rounds.next().expect("it has no end");
                let bench_log = self.log_path(&format!("bench-{round}"));
                let driven = self.drive(&rest, Some((&mut *server, limit)), &bench_log)?;
                if driven != Driven::Whole {
                    break driven;
                }
                self.require_records(&rest.trials, &bench_log)?;
                rest.trials = self.more();
                if rest.trials.is_empty() {
                    break driven;
                }
            };
            let failure = (driven != Driven::Whole).then(|| server.failure());
            server.stop()?;
            let Some(failure) = failure else { break };
            if driven == (Driven::ServerEnded { ready: false }) {
                if matches!(failure, Failure::Setting(_)) {
                    return self.refuse(launcher.name(), failure, log);
                }
                match launcher.blame(std::mem::replace(&mut has_died_early, true)) {
                    Blame::Launcher => continue,
                    Blame::Fork if failure != Failure::Killed => {
                        let why = format!("{} (log: {})", describe(&failure), log.display());
                        return Err(LaunchError::NoFork(why));
                    }
                    // What kills two forks in a row kills servers that are started the ordinary way, too.
                    Blame::Server | Blame::Fork => {
                        return self.refuse(launcher.name(), failure, log);
                    }
                }
            }
            lives -= 1;
            died_of = Some((describe(&failure), log));
            let running = self.running.take();
            rest.trials
                .retain(|trial| !self.recorded.contains(&trial.key) && running != Some(trial.key));
            if let (Some(key), Failure::Setting(failure)) = (running, failure) {
                self.record(key, Outcome::Refused(failure))?;
            }
            if rest.trials.is_empty() {
                break;
            }
        }
        let keys = self.missing();
        match died_of {
            Some((what, log)) if !keys.is_empty() => {
                Err(LaunchError::TrialsLost { keys, what, log })
            }
            _ => Ok(()),
        }
    }

    /// The server ended before it was ready.
    fn refuse(&mut self, engine: &str, failure: Failure, log: PathBuf) -> Result<(), LaunchError> {
        let (what, advice) = match failure {
            // Started once before with the same settings: then they are not to blame.
            Failure::Setting(failure) if self.observed.is_some() => {
                (describe(&Failure::Setting(failure)), "it had started before; start again")
            }
            Failure::Setting(failure) => {
                return self.tell(Event::Refused { failure });
            }
            Failure::Environment { what, advice } => (what, advice),
            Failure::Killed => (
                describe(&failure),
                "most likely the host ran out of memory: see the kernel's log, and free some",
            ),
            unknown @ Failure::Unknown { .. } => (describe(&unknown), "read its log"),
        };
        let what = format!("{engine} did not start: {what}");
        Err(LaunchError::Environment { what, advice: advice.to_owned(), log: Some(log) })
    }

    /// Runs `bench run` on the plan and forwards its events, [`Event::Done`] excepted. `server`
    /// is the one that we started, with the limit of its start.
    fn drive(
        &mut self,
        plan: &LaunchPlan,
        server: Option<(&mut (dyn Server + 'static), Duration)>,
        log: &Path,
    ) -> Result<Driven, LaunchError> {
        let (mut server, ready_limit) =
            server.map_or((None, READY_LIMIT), |(server, limit)| (Some(server), limit));
        let (mut bench, lines) = self.spawn_bench(plan, ready_limit, server.is_some(), log)?;
        let mut watch = Watch::new(ready_limit);
        let driver_error = |what: String| LaunchError::Driver { what, log: log.to_owned() };
        let start = Instant::now();
        loop {
            if self.host.interrupted() {
                return Err(LaunchError::Interrupted);
            }
            if let Some(server) = server.as_deref_mut().filter(|_| !watch.ready) {
                server.watch();
            }
            if let Some(limit) = watch.exceeded(start.elapsed()) {
                return Err(watch.error(limit, server.map_or(log, |server| server.log_path())));
            }
            let line = match lines.recv_timeout(TICK) {
                Ok(line) => line.context("cannot read what bench run prints")?,
                // Only now, so that what was told before the server ended counts.
                Err(RecvTimeoutError::Timeout) => {
                    if server.as_deref().is_some_and(|server| server.ended().is_some()) {
                        return Ok(Driven::ServerEnded { ready: watch.ready });
                    }
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    if server.as_deref().is_some_and(|server| server.wait(DEATH_SETTLES).is_some())
                    {
                        return Ok(Driven::ServerEnded { ready: watch.ready });
                    }
                    bench.wait(EXIT_LIMIT);
                    let ended = format!("ended early with {}{}", bench.stop(), last_words(log));
                    return Err(driver_error(ended));
                }
            };
            let event: Event = serde_json::from_str(&line)
                .map_err(|e| driver_error(format!("printed an unknown line ({e}): {line}")))?;
            if let Event::Ready { format, .. } = event
                && format != FORMAT
            {
                return Err(driver_error(format!(
                    "speaks format {format}, this program reads {FORMAT}: build both from one commit"
                )));
            }
            if has_failures(&event)
                && server.as_deref().is_some_and(|server| server.wait(DEATH_SETTLES).is_some())
            {
                return Ok(Driven::ServerEnded { ready: watch.ready });
            }
            watch.note(&event, start.elapsed());
            if event == (Event::Done {}) {
                break;
            }
            self.forward(event, server.as_deref_mut())?;
        }
        match bench.wait(EXIT_LIMIT) {
            Some(Ended::Code(0)) => Ok(Driven::Whole),
            Some(ended) => Err(driver_error(format!("ended with {ended} after its last event"))),
            None => Err(driver_error("did not exit after its last event".to_owned())),
        }
    }

    fn spawn_bench(
        &self,
        plan: &LaunchPlan,
        ready_limit: Duration,
        starting: bool,
        log: &Path,
    ) -> Result<(Group, Receiver<std::io::Result<String>>)> {
        let Tools { bench, run_dir, log_dir, out_dir } = self.tools;
        for folder in [run_dir, log_dir, out_dir] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let plan_path = log.with_extension("plan.json");
        fs::write(&plan_path, serde_json::to_vec(plan).context("the plan is not JSON")?)
            .with_context(|| format!("cannot write {}", plan_path.display()))?;
        let mut args: Vec<std::ffi::OsString> =
            vec!["run".into(), "--plan".into(), plan_path.into(), "--out".into(), out_dir.into()];
        if let Engine::Server(server) = &plan.engine {
            args.extend(["--url".into(), server.base_url.clone().into()]);
            // Longer than ours, which knows the server's log.
            let seconds = (ready_limit + EXIT_LIMIT).as_secs();
            args.extend(["--ready-timeout-s".into(), seconds.to_string().into()]);
            args.extend(starting.then(|| "--starting".into()));
        }
        let program = Program { path: bench.clone(), args, env: Default::default() };
        let errors =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut group = Group::spawn(&program, Stdio::piped(), errors.into(), run_dir, EXIT_LIMIT)?;
        let stdout = group.take_stdout().context("bench run has no output")?;
        let (send, lines) = mpsc::channel();
        // Ends with the pipe, at the latest when the group is ended.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok((group, lines))
    }

    fn forward(
        &mut self,
        mut event: Event,
        server: Option<&mut (dyn Server + 'static)>,
    ) -> Result<(), LaunchError> {
        match &mut event {
            Event::Ready { observed, .. } => {
                if let Some(server) = server {
                    let (start_s, start) = server.start();
                    observed.start_s = Some(start_s);
                    observed.start = Some(start);
                    complete(observed, &server.observe());
                }
                self.observed = Some((**observed).clone());
            }
            Event::Refused { .. } => self.refused = true,
            Event::Trial { key, outcome, .. } => {
                self.recorded.insert(*key);
                self.running = None;
                if let (Outcome::Measured(measured), Some(ready)) = (&mut **outcome, &self.observed)
                {
                    complete(&mut measured.observed, ready);
                }
            }
            Event::Progress(progress) => self.running = Some(progress.key),
            Event::Silent { .. } | Event::Stalled { .. } | Event::Done {} => {}
        }
        self.tell(event)
    }

    fn record(&mut self, key: Digest, outcome: Outcome) -> Result<(), LaunchError> {
        self.recorded.insert(key);
        self.tell(Event::Trial { key, outcome: Box::new(outcome), samples: None })
    }

    /// Hands an event to the host, which may end the launch.
    fn tell(&mut self, event: Event) -> Result<(), LaunchError> {
        if self.host.event(event).is_break() { Err(LaunchError::Interrupted) } else { Ok(()) }
    }

    /// Planned trials without a record.
    fn missing(&self) -> Vec<Digest> {
        let planned = self.planned.iter().copied();
        planned.filter(|key| !self.recorded.contains(key)).collect()
    }

    /// What was driven to the end has a record of every trial.
    fn require_records(&self, driven: &[PlannedTrial], log: &Path) -> Result<(), LaunchError> {
        let is_missing = |trial: &&PlannedTrial| !self.recorded.contains(&trial.key);
        let missing = if self.refused { 0 } else { driven.iter().filter(is_missing).count() };
        if missing == 0 {
            return Ok(());
        }
        let what = format!("was done, but gave no record of {missing} trials");
        Err(LaunchError::Driver { what, log: log.to_owned() })
    }

    fn log_path(&self, what: &str) -> PathBuf {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let plain = |c: char| if is_plain(c) { c } else { '-' };
        let name: String = self.plan.launch.chars().map(plain).collect();
        self.tools.log_dir.join(format!("{name}-{what}.log"))
    }
}

/// Fills what is not known yet.
fn complete(observed: &mut Observed, more: &Observed) {
    let Observed {
        version,
        start_s,
        kv_cache_tokens,
        kv_cache_blocks,
        block_size,
        max_num_batched_tokens,
        attention_backend,
        start,
        // Each trial has its own.
        machine: _,
        warm_up: _,
        cost: _,
    } = more.clone();
    observed.version = observed.version.take().or(version);
    observed.start_s = observed.start_s.or(start_s);
    observed.kv_cache_tokens = observed.kv_cache_tokens.or(kv_cache_tokens);
    observed.kv_cache_blocks = observed.kv_cache_blocks.or(kv_cache_blocks);
    observed.block_size = observed.block_size.or(block_size);
    observed.max_num_batched_tokens = observed.max_num_batched_tokens.or(max_num_batched_tokens);
    observed.attention_backend = observed.attention_backend.take().or(attention_backend);
    observed.start = observed.start.take().or(start);
}

/// Whether it is a record of requests that failed, as those of a dying server do.
fn has_failures(event: &Event) -> bool {
    let Event::Trial { outcome, .. } = event else { return false };
    matches!(&**outcome, Outcome::Measured(measured) if !measured.summary.counts.failed.is_empty())
}

fn describe(failure: &Failure) -> String {
    match failure {
        Failure::Setting(SettingFailure { class, evidence, .. }) => {
            format!("{}: {}", class.title(), evidence.first().map_or("", String::as_str))
        }
        Failure::Environment { what, .. } => what.clone(),
        Failure::Killed => "the server was killed with SIGKILL".to_owned(),
        Failure::Unknown { last_error: Some(line) } => line.clone(),
        Failure::Unknown { last_error: None } => "for an unknown reason".to_owned(),
    }
}

/// The limits of a launch. Time is since the start of `bench run`.
#[derive(Debug)]
struct Watch {
    ready_limit: Duration,
    ready: bool,
    moved_at: Duration,
    requests_done: u64,
}

impl Watch {
    fn new(ready_limit: Duration) -> Self {
        Self { ready_limit, ready: false, moved_at: Duration::ZERO, requests_done: 0 }
    }

    fn note(&mut self, event: &Event, now: Duration) {
        let moved = match event {
            // A server may hang while the load generator goes on telling so.
            Event::Progress(Progress { requests_done, output_tokens_per_s, .. }) => {
                let is_other = *requests_done != self.requests_done;
                self.requests_done = *requests_done;
                is_other || *output_tokens_per_s > 0.0
            }
            Event::Stalled { .. } => false,
            _ => true,
        };
        self.ready |= !matches!(event, Event::Progress(_) | Event::Stalled { .. });
        if moved {
            self.moved_at = now;
        }
        if let Event::Silent { seconds, .. } = event {
            self.moved_at = now.saturating_sub(Duration::from_secs(*seconds));
        }
    }

    /// The limit that is exceeded, if one is.
    fn exceeded(&self, now: Duration) -> Option<Duration> {
        let (since, limit) = if self.ready {
            (self.moved_at, STALL_LIMIT)
        } else {
            (Duration::ZERO, self.ready_limit)
        };
        (now.saturating_sub(since) > limit).then_some(limit)
    }

    fn error(&self, limit: Duration, log: &Path) -> LaunchError {
        let seconds = limit.as_secs();
        let (what, advice) = if self.ready {
            (format!("no request ended and no token came for {seconds} s"), "look at the log")
        } else {
            (format!("no first token {seconds} s after the start"), "raise `start_timeout_s`")
        };
        LaunchError::Environment { what, advice: advice.to_owned(), log: Some(log.to_owned()) }
    }
}

/// What a person is told of a server from which nothing comes any more.
pub fn silent(requests: u64, seconds: u64) -> String {
    let left = STALL_LIMIT.as_secs().saturating_sub(seconds);
    let requests =
        if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") };
    format!(
        "warning: nothing has come of {requests} for {seconds} s: the server is busy or hangs, see its \
         log; it has {left} s more before the launch fails, Ctrl-C ends it now and keeps what is measured"
    )
}

/// What a person is told of streams that stopped among others that go on.
pub fn stalled(requests: u64, under_way: u64, seconds: u64) -> String {
    let (have, them) = if requests == 1 { ("has", "it") } else { ("have", "them") };
    format!(
        "warning: {requests} of {under_way} answers under way {have} stopped: nothing has come of {them} for \
         {seconds} s, while others go on. The server has preempted or lost {them}, see its log; a request has half \
         an hour. Ctrl-C ends it now and keeps what is measured"
    )
}

/// What a log ends with; a full disk leaves it empty.
pub fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let is_full = || rustix::fs::statvfs(log).is_ok_and(|disk| disk.f_bavail < 16);
    match text.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {}", line.trim()),
        None if is_full() => format!(": no space left on the disk of {}", log.display()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
