//! Jobs on a fake cluster: each look at its queue is an act of the play, in which the job tells
//! something, is lost, or ends.

use std::{
    collections::VecDeque,
    io::Write as _,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bench_core::schema::{
    Arrival, Engine, FORMAT, FailureClass, LoadSpec, Outcome, SettingFailure, Size,
};

use super::*;
use tempfile::TempDir;

const JOB: JobId = 7;

/// What a look at the queue finds.
type Act = Box<dyn FnMut(&Path) -> Option<Queued> + Send>;

#[derive(Default)]
struct Fake {
    folder: PathBuf,
    acts: Mutex<VecDeque<Act>>,
    shown: Option<Shown>,
    refusal: Option<&'static str>,
    /// Other jobs of the queue.
    others: BTreeMap<JobId, Queued>,
    cancelled: Arc<Mutex<Vec<JobId>>>,
    submitted: AtomicU64,
}

impl Cluster for Fake {
    fn submit(&self, _args: &[String], _script: &str) -> Result<JobId> {
        self.submitted.fetch_add(1, Ordering::Relaxed);
        match self.refusal {
            Some(why) => Err(anyhow!(why)),
            None => Ok(JOB),
        }
    }

    /// The last act goes on for ever.
    fn queue(&self) -> Result<BTreeMap<JobId, Queued>> {
        let mut acts = self.acts.lock().expect("no panic");
        let found = acts.front_mut().and_then(|act| act(&self.folder));
        if acts.len() > 1 {
            acts.pop_front();
        }
        let mut queue = self.others.clone();
        queue.extend(found.map(|job| (JOB, job)));
        Ok(queue)
    }

    fn show(&self, _job: JobId) -> Result<Option<Shown>> {
        Ok(self.shown.clone())
    }

    fn cancel(&self, job: JobId) -> Result<()> {
        self.cancelled.lock().expect("no panic").push(job);
        Ok(())
    }
}

fn running() -> Option<Queued> {
    Some(Queued { pending: false, reason: "None".to_owned(), comment: String::new() })
}

fn waiting(reason: &str) -> Option<Queued> {
    Some(Queued { pending: true, reason: reason.to_owned(), comment: String::new() })
}

fn act(act: impl FnMut(&Path) -> Option<Queued> + Send + 'static) -> Act {
    Box::new(act)
}

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn trial(name: &str) -> Event {
    let failure = SettingFailure {
        class: FailureClass::BadCombination,
        evidence: Vec::new(),
        foreseen: None,
    };
    let samples = Some(format!("{name}.gz"));
    Event::Trial { key: key(name), outcome: Box::new(Outcome::Refused(failure)), samples }
}

fn ready() -> Event {
    Event::Ready { format: FORMAT, observed: Box::default() }
}

/// An attempt tells something.
fn tell(folder: &Path, attempt: u32, events: &[Event]) {
    let folder = folder.join(attempt_name(attempt));
    fs::create_dir_all(&folder).expect("made");
    let path = folder.join("events.jsonl");
    let mut file = fs::File::options().create(true).append(true).open(path).expect("opened");
    for event in events {
        writeln!(file, "{}", serde_json::to_string(event).expect("JSON")).expect("written");
    }
}

fn planned(names: &[&str]) -> Vec<PlannedTrial> {
    let load = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), Vec::new(), 1);
    let planned =
        |name: &&str| PlannedTrial { key: key(name), load: load.clone(), data_file: None };
    names.iter().map(planned).collect()
}

fn config() -> SlurmConfig {
    SlurmConfig {
        partition: None,
        gres: None,
        time_limit_minutes: None,
        exclusive: false,
        options: Vec::new(),
        env: BTreeMap::new(),
    }
}

/// What came of a launch of `a` and `b`.
struct Played {
    events: Vec<Event>,
    notes: Vec<String>,
    result: Result<(), LaunchError>,
    cancelled: Vec<JobId>,
    scratch: TempDir,
}

/// Keeps what it is told, and interrupts after an event that `interrupt` picks.
struct Host<A, I> {
    events: Vec<Event>,
    notes: Vec<String>,
    answers: A,
    interrupt: I,
    interrupted: bool,
}

impl<'a, A: Iterator<Item = &'a [&'a str]>, I: Fn(&Event) -> bool> LaunchHost for Host<A, I> {
    fn event(&mut self, event: Event) -> ControlFlow<()> {
        self.interrupted |= (self.interrupt)(&event);
        self.events.push(event);
        ControlFlow::Continue(())
    }

    fn more(&mut self) -> Vec<PlannedTrial> {
        self.answers.next().map(planned).unwrap_or_default()
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    fn interrupted(&self) -> bool {
        self.interrupted
    }
}

/// Plays a launch; `more` answers what else is wanted, one list a time and then nothing.
fn play(acts: Vec<Act>, fake: Fake, more: Vec<&[&str]>) -> Played {
    play_until(acts, fake, more, |_| false)
}

fn play_until(
    acts: Vec<Act>,
    fake: Fake,
    more: Vec<&[&str]>,
    interrupt: impl Fn(&Event) -> bool,
) -> Played {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let cancelled = Arc::clone(&fake.cancelled);
    let fake = Fake { folder: scratch.path().to_owned(), acts: Mutex::new(acts.into()), ..fake };
    let config = config();
    let slurm = on(fake, &config);
    let plan = LaunchPlan {
        format: FORMAT,
        launch: "start".to_owned(),
        engine: Engine::Server(bench_core::schema::ServerEngine {
            base_url: "http://localhost".to_owned(),
            model: "m".to_owned(),
            vocab_size: 1000,
            api_key_env: None,
        }),
        args: Default::default(),
        env: Default::default(),
        config_file: None,
        replicate: 0,
        trials: planned(&["a", "b"]),
    };
    let path = |name: &str| scratch.path().join(name);
    let tools = Tools {
        bench: path("bench"),
        run_dir: path("run"),
        log_dir: path("logs"),
        out_dir: scratch.path().to_owned(),
    };
    let answers = more.into_iter();
    let (events, notes) = (Vec::new(), Vec::new());
    let mut host = Host { events, notes, answers, interrupt, interrupted: false };
    let result = slurm.run(&plan, &tools, &mut host);
    let Host { events, notes, .. } = host;
    let cancelled = cancelled.lock().expect("no panic").clone();
    Played { events, notes, result, cancelled, scratch }
}

fn on(fake: Fake, config: &SlurmConfig) -> Slurm<'_> {
    Slurm {
        config,
        cluster: Box::new(fake),
        program: "/shared/xtask".into(),
        here: "/shared".into(),
        artifacts: "/shared/artifacts".into(),
        queue: Mutex::default(),
        queue_age_max: Duration::ZERO,
        told: Mutex::default(),
    }
}

/// Names of the trials and their samples, in the order in which they came.
fn recorded(events: &[Event]) -> Vec<(Digest, &str)> {
    let mut found = Vec::new();
    for event in events {
        if let Event::Trial { key, samples, .. } = event {
            found.push((*key, samples.as_deref().expect("they have samples")));
        }
    }
    found
}

#[test]
fn a_job_tells_what_a_launch_here_would_and_is_asked_for_more() {
    let has_more = |folder: &Path, round: u32| folder.join(format!("more-{round}.json")).exists();
    let acts = vec![
        act(|_| waiting("Priority")),
        act(|folder| {
            tell(folder, 0, &[ready(), trial("a"), trial("b")]);
            running()
        }),
        act(move |folder| {
            if has_more(folder, 1) && !has_more(folder, 2) {
                tell(folder, 0, &[trial("c")]);
            } else if has_more(folder, 2) {
                tell(folder, 0, &[Event::Done {}]);
            }
            running()
        }),
    ];
    let played = play(acts, Fake::default(), vec![&["c"]]);
    played.result.expect("it ends well");
    let expected = [("a", "attempt-0/a.gz"), ("b", "attempt-0/b.gz"), ("c", "attempt-0/c.gz")];
    assert_eq!(recorded(&played.events), expected.map(|(name, path)| (key(name), path)));
    assert_eq!(played.events.first(), Some(&ready()));
    assert_eq!(played.events.last(), Some(&Event::Done {}));
    assert_eq!((played.notes, played.cancelled), (Vec::new(), Vec::new()));
    let more = fs::read(played.scratch.path().join("more-2.json")).expect("it is answered");
    assert_eq!(more, b"[]");
}

#[test]
fn what_a_lost_node_measured_is_kept_and_counts_once() {
    let acts = vec![
        act(|folder| {
            tell(folder, 0, &[ready(), trial("a")]);
            running()
        }),
        act(|_| running()),
        act(|_| waiting("BeginTime")),
        act(|_| waiting("BeginTime")),
        act(|folder| {
            tell(folder, 1, &[ready(), trial("b")]);
            // The node was not dead after all.
            tell(folder, 0, &[trial("b")]);
            running()
        }),
        act(|folder| {
            tell(folder, 1, &[Event::Done {}]);
            running()
        }),
    ];
    let played = play(acts, Fake::default(), Vec::new());
    played.result.expect("it ends well");
    let expected = [(key("a"), "attempt-0/a.gz"), (key("b"), "attempt-0/b.gz")];
    assert_eq!(recorded(&played.events), expected);
    let note = "lost     the node of job 7, which Slurm runs again; trials kept: 1";
    assert_eq!(played.notes, [note]);
}

#[test]
fn a_job_that_was_lost_between_two_looks_is_told_too() {
    let acts = vec![
        act(|folder| {
            tell(folder, 0, &[trial("a")]);
            running()
        }),
        act(|folder| {
            tell(folder, 2, &[trial("b"), Event::Done {}]);
            running()
        }),
    ];
    let played = play(acts, Fake::default(), Vec::new());
    played.result.expect("it ends well");
    assert_eq!(played.notes.len(), 1);
}

#[test]
fn an_interrupt_cancels_the_job() {
    let acts = vec![act(|folder| {
        tell(folder, 0, &[trial("a")]);
        running()
    })];
    let is_trial = |event: &Event| matches!(event, Event::Trial { .. });
    let played = play_until(acts, Fake::default(), Vec::new(), is_trial);
    assert!(matches!(played.result, Err(LaunchError::Interrupted)));
    assert_eq!(played.cancelled, [JOB]);
    assert_eq!(recorded(&played.events).len(), 1, "what came before is kept");
}

#[test]
fn a_job_that_cannot_run_is_cancelled() {
    for reason in ["PartitionTimeLimit", "launch failed requeued held", "JobHeldAdmin"] {
        let acts = vec![act(move |_| waiting(reason))];
        let played = play(acts, Fake::default(), Vec::new());
        let error = played.result.expect_err("it never runs").to_string();
        assert!(error.starts_with(&format!("job 7 cannot run: {reason}; change")), "{error}");
        assert_eq!(played.cancelled, [JOB]);
    }
}

#[test]
fn a_reason_that_may_pass_is_told_once() {
    let acts = vec![
        act(|_| waiting("Resources")),
        act(|_| waiting("ReqNodeNotAvail")),
        act(|_| waiting("ReqNodeNotAvail")),
        act(|folder| {
            tell(folder, 0, &[trial("a"), trial("b"), Event::Done {}]);
            running()
        }),
    ];
    let played = play(acts, Fake::default(), Vec::new());
    played.result.expect("it ends well");
    assert_eq!(played.notes, ["waiting  job 7 and maybe others: ReqNodeNotAvail"]);
}

#[test]
fn a_refused_job_is_told_with_the_reason() {
    let fake = Fake { refusal: Some("sbatch failed: Invalid account"), ..Fake::default() };
    let played = play(Vec::new(), fake, Vec::new());
    let error = played.result.expect_err("it is refused").to_string();
    let advice = "look at [executor] in the profile, and at `sinfo`";
    assert_eq!(error, format!("sbatch failed: Invalid account; {advice}"));
}

fn shown(state: &str, exit_code: (i32, i32)) -> Shown {
    Shown {
        state: state.to_owned(),
        reason: String::new(),
        exit_code,
        nodes: "n2".to_owned(),
        time_limit: "00:01:00".to_owned(),
    }
}

#[test]
fn what_a_job_told_before_its_end_counts() {
    let acts = vec![
        act(|_| running()),
        act(|folder| {
            tell(folder, 0, &[trial("a")]);
            None
        }),
    ];
    let fake = Fake { shown: Some(shown("TIMEOUT", (0, 15))), ..Fake::default() };
    let played = play(acts, fake, Vec::new());
    let error = played.result.expect_err("it ran too long").to_string();
    assert!(error.starts_with("job 7 on n2 ran into its time limit of 00:01:00; raise"), "{error}");
    assert_eq!(recorded(&played.events).len(), 1);
}

#[test]
fn a_job_that_was_requeued_between_the_looks_goes_on() {
    let looks = AtomicU64::new(0);
    let acts = vec![
        act(|_| running()),
        act(move |folder| {
            if looks.fetch_add(1, Ordering::Relaxed) < 2 {
                return None;
            }
            tell(folder, 1, &[trial("a"), trial("b"), Event::Done {}]);
            running()
        }),
    ];
    let fake = Fake { shown: Some(shown("PENDING", (0, 0))), ..Fake::default() };
    play(acts, fake, Vec::new()).result.expect("it ends well");
}

#[test]
fn ends_are_explained() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let log = scratch.path().join("job.log");
    let mut text = String::new();
    let own = "error: vLLM did not start: boom; read its log (log: /shared/logs/server-1.log)\n";
    let lines = [
        ("TIMEOUT", (0, 15), "slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***\n"),
        ("OUT_OF_MEMORY", (0, 125), ""),
        ("CANCELLED", (0, 15), ""),
        ("NODE_FAIL", (0, 0), ""),
        ("FAILED", (1, 0), own),
        ("FAILED", (127, 0), "slurm_script: 3: exec: /shared/xtask: not found\n"),
        ("FAILED", (0, 53), ""),
        ("FAILED", (2, 0), "thread panicked\n"),
        ("DEADLINE", (0, 0), ""),
        ("COMPLETED", (0, 0), ""),
    ];
    for (state, exit_code, words) in lines {
        fs::write(&log, words).expect("written");
        let error = explain(JOB, &shown(state, exit_code), &log).to_string();
        text += &error.replace(&scratch.path().display().to_string(), "LOGS");
        text += "\n";
    }
    insta::assert_snapshot!(text);
}

#[test]
fn orphans_are_the_jobs_of_dead_runs_of_this_store() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut store = Store::open_read_only(scratch.path()).expect("opens");
    store.make_writable().expect("it is ours");
    let alive = store.tmp_folder().expect("made").display().to_string();
    let dead = scratch.path().join("tmp/1-0/4").display().to_string();
    let of = |comment: &str| Queued { comment: comment.to_owned(), ..running().expect("a job") };
    let others: BTreeMap<JobId, Queued> =
        [(1, of(&alive)), (2, of(&dead)), (3, of("/elsewhere/tmp/1-0/4")), (4, of(""))].into();
    let fake = Fake { others, ..Fake::default() };
    let cancelled = Arc::clone(&fake.cancelled);
    let config = config();
    let mut notes = Vec::new();
    let slurm = on(fake, &config);
    slurm.end_orphans(&store, &mut |note| notes.push(note)).expect("it has a queue");
    assert_eq!(*cancelled.lock().expect("no panic"), [2]);
    assert_eq!(notes, ["ended    jobs left behind by a run that was killed (1)"]);
}
