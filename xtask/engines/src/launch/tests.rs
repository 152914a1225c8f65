//! Launches of a fake server and a fake `bench run`: shell scripts that tell each other through
//! files how far they are.

mod tiny;

use std::{
    collections::BTreeMap, ops::ControlFlow, os::unix::fs::PermissionsExt as _,
    sync::atomic::Ordering,
};

use bench_core::{
    decimal::Decimal,
    schema::{
        Arrival, Class, FORMAT, FailureClass, LoadSpec, PlannedTrial, Size, StartWay, TokenRange,
        VllmEngine,
    },
};

use super::*;
use tempfile::TempDir;

use crate::launchers;

// Server and load start at once: each counts its own starts (`starts`, `calls`).

/// A server that lives until it is ended; `touch $HERE/NAME` and `await NAME` talk to the load.
const HEALTHY: &str = "exec sleep 1000";

const SERVING: &str = "INFO:     Application startup complete.";

/// Keeps events.
struct Host<'a> {
    events: Vec<Event>,
    on_event: &'a mut dyn FnMut(&Event),
    more: &'a mut dyn FnMut() -> Vec<PlannedTrial>,
    interrupted: &'a AtomicBool,
}

impl LaunchHost for Host<'_> {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        (self.on_event)(&event);
        self.events.push(event);
        ControlFlow::Continue(())
    }

    fn more(&mut self) -> Vec<PlannedTrial> {
        (self.more)()
    }

    fn note(&mut self, _text: String) {}

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

struct Bed {
    scratch: TempDir,
    interrupted: AtomicBool,
}

impl Bed {
    /// A server and a load generator from the bodies of their scripts.
    fn new(server: &str, bench: &str) -> Self {
        let bed = Self {
            scratch: tempfile::tempdir().expect("a temporary folder"),
            interrupted: AtomicBool::new(false),
        };
        bed.script("server", &format!("echo start >> \"$HERE/starts\"\n{server}"));
        bed.script("bench", &format!("PLAN=$3\necho \"$@\" >> \"$HERE/calls\"\n{bench}"));
        for (name, key) in [("a", key("a")), ("b", key("b"))] {
            let failure = SettingFailure {
                class: FailureClass::BadCombination,
                evidence: Vec::new(),
                foreseen: None,
            };
            let outcome = Box::new(Outcome::Refused(failure));
            bed.event(name, &Event::Trial { key, outcome, samples: None });
            bed.event(&format!("{name}-runs"), &Event::Progress(progress(key, 0, 0.0)));
        }
        bed.event("ready", &Event::Ready { format: FORMAT, observed: Box::default() });
        bed.event("done", &Event::Done {});
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn script(&self, name: &str, body: &str) {
        let here = self.scratch.path().display();
        let text = format!(
            "#!/bin/sh\nHERE='{here}'\nsay() {{ cat \"$HERE/$1.event\"; }}\n\
             await() {{ until [ -e \"$HERE/$1\" ]; do sleep 0.02; done; }}\n{body}\n"
        );
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn event(&self, name: &str, event: &Event) {
        let line = serde_json::to_string(event).expect("it is JSON");
        fs::write(self.path(&format!("{name}.event")), line + "\n").expect("written");
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn run(&self) -> (Vec<Event>, Result<(), LaunchError>) {
        self.run_and(&mut |_| {})
    }

    /// Runs the launch; nothing of it may be left afterwards.
    fn run_and(&self, on_event: &mut dyn FnMut(&Event)) -> (Vec<Event>, Result<(), LaunchError>) {
        self.run_plan(&self.plan(), on_event, &mut Vec::new)
    }

    fn run_plan(
        &self,
        plan: &LaunchPlan,
        on_event: &mut dyn FnMut(&Event),
        more: &mut dyn FnMut() -> Vec<PlannedTrial>,
    ) -> (Vec<Event>, Result<(), LaunchError>) {
        self.run_with(launchers::of(&plan.engine), plan, on_event, more)
    }

    fn run_with(
        &self,
        mut launcher: Option<Box<dyn Launcher>>,
        plan: &LaunchPlan,
        on_event: &mut dyn FnMut(&Event),
        more: &mut dyn FnMut() -> Vec<PlannedTrial>,
    ) -> (Vec<Event>, Result<(), LaunchError>) {
        let tools = Tools {
            bench: self.path("bench"),
            run_dir: self.path("run"),
            log_dir: self.path("logs"),
            out_dir: self.path("out"),
        };
        let mut host = Host { events: Vec::new(), on_event, more, interrupted: &self.interrupted };
        let result = run(plan, &tools, &mut host, launcher.as_deref_mut());
        let events = host.events;
        let notes = fs::read_dir(&tools.run_dir).expect("it was made").count();
        assert_eq!(notes, 0, "a process group is left");
        (events, result)
    }

    fn plan(&self) -> LaunchPlan {
        let trial = |name: &str| PlannedTrial { key: key(name), load: load(), data_file: None };
        LaunchPlan {
            format: FORMAT,
            launch: "max-num-seqs=4/0".to_owned(),
            engine: Engine::Vllm(VllmEngine {
                python: self.path("server").display().to_string(),
                model: "model".to_owned(),
                served_model_name: "dummy:tiny".to_owned(),
                dummy_weights: true,
                vocab_size: 100,
                gpus: Vec::new(),
                start_timeout_s: 600,
                start: StartWay::Ordinary,
            }),
            args: BTreeMap::new(),
            env: BTreeMap::new(),
            config_file: None,
            replicate: 0,
            trials: vec![trial("a"), trial("b")],
        }
    }
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn load() -> LoadSpec {
    let one = TokenRange { min: 1, max: 1 };
    let class = Class {
        name: "all".to_owned(),
        share: Decimal::from_millionths(1_000_000),
        input_tokens: one,
        output_tokens: one,
        prefix: None,
    };
    LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), vec![class], 1)
}

/// Events in short.
fn progress(key: Digest, requests_done: u64, output_tokens_per_s: f64) -> Progress {
    Progress {
        key,
        running: 0,
        waiting: 0,
        kv_cache_percent: 0.0,
        output_tokens_per_s,
        requests_done,
        requests_planned: 0,
    }
}

/// Events in words, progress left out.
fn told(events: &[Event]) -> Vec<String> {
    let name = |k: &Digest| if *k == key("a") { "a" } else { "b" };
    let short = |event: &Event| {
        Some(match event {
            Event::Ready { .. } => "ready".to_owned(),
            Event::Refused { failure } => format!("refused: {}", failure.class.title()),
            Event::Progress(_) | Event::Silent { .. } | Event::Stalled { .. } => return None,
            Event::Trial { key, outcome, .. } => match &**outcome {
                Outcome::Measured(_) => format!("trial {}", name(key)),
                Outcome::Refused(failure) => {
                    format!("trial {}: {}", name(key), failure.class.title())
                }
            },
            Event::Done {} => "done".to_owned(),
        })
    };
    events.iter().filter_map(short).collect()
}

const A: &str = "trial a: bad combination";
const B: &str = "trial b: bad combination";

#[test]
fn one_start_serves_every_load_point() {
    let server = "echo 'Using CPU_ATTN attention backend out of one'; touch \"$HERE/up\"\n\
                  exec sleep 1000";
    let bed = Bed::new(server, "await up; say ready; say a; say b; say done");
    let (events, result) = bed.run();
    result.expect("all is well");
    assert_eq!(told(&events), ["ready", A, B, "done"]);
    assert_eq!(bed.lines("starts").len(), 1);

    let Event::Ready { observed, .. } = &events[0] else { panic!("ready comes first") };
    assert_eq!(observed.attention_backend.as_deref(), Some("CPU_ATTN"));
    assert!(observed.start_s.is_some());

    let calls = bed.lines("calls");
    let words: Vec<_> = calls[0].split(' ').collect();
    assert_eq!((words[0], words[1], words[3], words[5]), ("run", "--plan", "--out", "--url"));
    let plan: LaunchPlan =
        serde_json::from_slice(&fs::read(words[2]).expect("it is there")).expect("a plan");
    let Engine::Server(engine) = plan.engine else { panic!("it is driven as a server") };
    assert_eq!((engine.base_url.as_str(), engine.vocab_size), (words[6], 100));
    assert_eq!(engine.model, "dummy:tiny");
}

/// What ARCHITECTURE.md says of a new engine: the two traits are all that a launch asks of it.
#[test]
fn an_engine_that_is_started_is_one_file() {
    let launch = |server: &str| {
        let bed = Bed::new(server, "await up; say ready; say a; say b; say done");
        let tiny = tiny::Tiny(bed.path("server"));
        bed.run_with(Some(Box::new(tiny)), &bed.plan(), &mut |_| {}, &mut Vec::new)
    };
    let (events, result) = launch("touch \"$HERE/up\"; exec sleep 1000");
    result.expect("all is well");
    assert_eq!(told(&events), ["ready", A, B, "done"]);
    let Event::Ready { observed, .. } = &events[0] else { panic!("ready comes first") };
    assert_eq!(observed.version.as_deref(), Some("1"));
    assert!(observed.start_s.is_some());
    let (_, result) = launch("echo 'it broke'; exit 1");
    let text = result.expect_err("it did not start").to_string();
    assert!(text.starts_with("tiny did not start: it broke; read its log"), "{text}");
}

#[test]
fn what_is_wanted_later_finds_the_server_up() {
    let server = "touch \"$HERE/up\"; exec sleep 1000";
    let bench = "await up; say ready; if [ -e \"$HERE/again\" ]; then say b; else say a; fi\n\
                 touch \"$HERE/again\"; say done";
    let bed = Bed::new(server, bench);
    let mut plan = bed.plan();
    let mut later = vec![plan.trials.split_off(1)];
    let (events, result) =
        bed.run_plan(&plan, &mut |_| {}, &mut || later.pop().unwrap_or_default());
    result.expect("all is well");
    assert_eq!(told(&events), ["ready", A, "ready", B, "done"]);
    assert_eq!(bed.lines("starts").len(), 1);
    let start_s = |event: &Event| match event {
        Event::Ready { observed, .. } => observed.start_s,
        _ => None,
    };
    assert_eq!(start_s(&events[0]), start_s(&events[2]), "it started once");
}

#[test]
fn a_setting_that_cannot_start_is_a_result() {
    let server = "echo 'ValueError: No available memory for the cache blocks.' >&2; exit 1";
    let bed = Bed::new(server, HEALTHY);
    let (events, result) = bed.run();
    result.expect("that is a result");
    assert_eq!(told(&events), ["refused: KV cache memory", "done"]);
}

#[test]
fn the_environment_is_no_result() {
    let bed = Bed::new("echo 'OSError: [Errno 98] Address already in use'; exit 1", HEALTHY);
    let (events, result) = bed.run();
    assert!(events.is_empty());
    let text = result.expect_err("it did not start").to_string();
    let expected = "vLLM did not start: OSError: [Errno 98] Address already in use; another \
                    program took the port; start again (log: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("max-num-seqs-4-0-server-1.log)"), "{text}");
}

#[test]
fn a_crash_in_a_load_loses_that_point_and_starts_once_more() {
    let server = format!(
        "if [ $(wc -l < \"$HERE/starts\") = 2 ]; then {HEALTHY}; fi\n\
         echo '{SERVING}'; await loaded; echo 'EngineDeadError: it died'; exit 1"
    );
    let bench = "say ready\n\
                 if [ $(wc -l < \"$HERE/calls\") = 2 ]; then say b; say done; exit; fi\n\
                 say a-runs; touch \"$HERE/loaded\"; exec sleep 1000";
    let bed = Bed::new(&server, bench);
    let (events, result) = bed.run();
    assert_eq!(told(&events), ["ready", "ready", B]);
    let Err(LaunchError::TrialsLost { keys, what, .. }) = result else { panic!("{result:?}") };
    assert_eq!(keys, [key("a")]);
    assert_eq!(what, "EngineDeadError: it died");
    assert_eq!(bed.lines("starts").len(), 2);
}

#[test]
fn out_of_memory_under_load_is_the_result_of_that_point() {
    let server = format!(
        "if [ $(wc -l < \"$HERE/starts\") = 2 ]; then {HEALTHY}; fi\n\
         echo '{SERVING}'; await loaded; echo 'torch.OutOfMemoryError: CUDA out of memory.'; exit 1"
    );
    let bench = "say ready\n\
                 if [ $(wc -l < \"$HERE/calls\") = 2 ]; then say b; say done; exit; fi\n\
                 say a-runs; touch \"$HERE/loaded\"; exec sleep 1000";
    let (events, result) = Bed::new(&server, bench).run();
    result.expect("every point has a result");
    assert_eq!(told(&events), ["ready", "trial a: out of memory under load", "ready", B, "done"]);
}

#[test]
fn a_crash_between_loads_loses_none() {
    let server = format!(
        "if [ $(wc -l < \"$HERE/starts\") = 2 ]; then {HEALTHY}; fi\n\
         echo '{SERVING}'; await loaded; echo 'torch.OutOfMemoryError: CUDA out of memory.'; exit 1"
    );
    let bench = "say ready\n\
                 if [ $(wc -l < \"$HERE/calls\") = 2 ]; then say b; say done; exit; fi\n\
                 say a-runs; say a; touch \"$HERE/loaded\"; exec sleep 1000";
    let (events, result) = Bed::new(&server, bench).run();
    result.expect("every point has a result");
    assert_eq!(told(&events), ["ready", A, "ready", B, "done"]);
}

#[test]
fn a_server_that_dies_twice_is_not_started_again() {
    let server = format!("echo '{SERVING}'; await \"loaded$(wc -l < $HERE/starts)\"; exit 1");
    let bench = "say ready; touch \"$HERE/loaded$(wc -l < $HERE/calls)\"; exec sleep 1000";
    let bed = Bed::new(&server, bench);
    let (events, result) = bed.run();
    assert_eq!(told(&events), ["ready", "ready"]);
    let Err(LaunchError::TrialsLost { keys, .. }) = result else { panic!("{result:?}") };
    assert_eq!(keys, [key("a"), key("b")]);
    assert_eq!(bed.lines("starts").len(), 2);
}

#[test]
fn bench_that_fails_because_the_server_died_is_not_to_blame() {
    // The second server waits for the second load.
    let server = format!("echo '{SERVING}'; await loaded; rm \"$HERE/loaded\"; exit 1");
    let bed = Bed::new(&server, "say ready; touch \"$HERE/loaded\"; exit 1");
    let (_, result) = bed.run();
    assert!(matches!(result, Err(LaunchError::TrialsLost { .. })), "{result:?}");
}

#[test]
fn what_bench_prints_is_checked() {
    let fail = |bench: &str| {
        let (events, result) = Bed::new(HEALTHY, bench).run();
        let Err(LaunchError::Driver { what, .. }) = result else { panic!("{result:?}") };
        (told(&events), what)
    };
    let (events, what) = fail("say ready; echo '{\"event\":\"news\"}'");
    assert_eq!(events, ["ready"]);
    assert!(what.starts_with("printed an unknown line (unknown variant `news`"), "{what}");
    assert!(what.ends_with(r#"{"event":"news"}"#), "{what}");
    let (events, what) = fail("say ready | sed s/1/99/; say a; say b; say done");
    assert!(events.is_empty());
    assert_eq!(what, "speaks format 99, this program reads 1: build both from one commit");
    assert_eq!(fail("say ready; say a; say done").1, "was done, but gave no record of 1 trials");
    assert_eq!(
        fail("say ready; say a; say b; say done; exit 4").1,
        "ended with exit code 4 after its last event"
    );
}

#[test]
fn an_interrupt_ends_everything() {
    let bed = Bed::new(HEALTHY, "say ready; exec sleep 1000");
    let (events, result) = bed.run_and(&mut |_| bed.interrupted.store(true, Ordering::Relaxed));
    assert_eq!(told(&events), ["ready"]);
    assert!(matches!(result, Err(LaunchError::Interrupted)), "{result:?}");
}

#[test]
fn a_panic_ends_everything() {
    let bed = Bed::new(HEALTHY, "say ready; exec sleep 1000");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(bed.run_and(&mut |_| panic!("on purpose")));
    }));
    panicked.expect_err("it panics");
    assert_eq!(fs::read_dir(bed.path("run")).expect("it was made").count(), 0);
}

#[test]
fn limits_are_of_the_start_and_of_standing_still() {
    let s = Duration::from_secs;
    let progress = |done, tokens| Event::Progress(progress(key("a"), done, tokens));
    let mut watch = Watch::new(s(90));
    assert_eq!(watch.exceeded(s(90)), None);
    assert_eq!(watch.exceeded(s(91)), Some(s(90)));
    watch.note(&Event::Ready { format: FORMAT, observed: Box::default() }, s(80));
    assert_eq!(watch.exceeded(s(80) + STALL_LIMIT), None);
    watch.note(&progress(1, 0.0), s(100));
    watch.note(&progress(1, 0.0), s(200));
    assert_eq!(watch.exceeded(s(101) + STALL_LIMIT), Some(STALL_LIMIT));
    // The stall began before it was told.
    watch.note(&Event::Silent { requests: 4, seconds: 5 }, s(205));
    assert_eq!(watch.exceeded(s(201) + STALL_LIMIT), Some(STALL_LIMIT));
    assert_eq!(
        silent(4, 5),
        "warning: nothing has come of 4 requests for 5 s: the server is busy or hangs, see its log; it \
         has 595 s more before the launch fails, Ctrl-C ends it now and keeps what is measured"
    );
    watch.note(&progress(1, 3.0), s(300));
    assert_eq!(watch.exceeded(s(101) + STALL_LIMIT), None);
}
