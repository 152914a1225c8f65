//! Both ends of a launch's folder.

use std::os::unix::fs::PermissionsExt as _;

use bench_core::schema::{
    Arrival, Engine, FORMAT, FailureClass, LoadSpec, Outcome, Progress, ServerEngine,
    SettingFailure, Size,
};
use proptest::prelude::*;

use super::*;
use tempfile::TempDir;

fn key(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn progress(n: u64) -> Event {
    Event::Progress(Progress {
        key: key("a"),
        running: 1,
        waiting: 2,
        kv_cache_percent: 0.5,
        output_tokens_per_s: 1.5,
        requests_done: n,
        requests_planned: 9,
    })
}

fn failure() -> SettingFailure {
    SettingFailure { class: FailureClass::BadCombination, evidence: Vec::new(), foreseen: None }
}

fn trial(name: &str, samples: Option<&str>) -> Event {
    let outcome = Box::new(Outcome::Refused(failure()));
    Event::Trial { key: key(name), outcome, samples: samples.map(str::to_owned) }
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("JSON");
    line.push(b'\n');
    line
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However the lines of two attempts arrive, each is read whole, once and in its order.
    #[test]
    fn events_are_read_whole_and_once(
        counts in [0..5_u64, 0..5_u64],
        cuts in prop::collection::vec((0..2_usize, 1..60_usize), 0..40),
    ) {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut tail = Tail::new(Folder(scratch.path().to_owned()));
        let texts = counts.map(|count| (0..count).flat_map(|n| line(&progress(n))).collect::<Vec<_>>());
        let mut written = [0_usize; 2];
        let mut read = [Vec::new(), Vec::new()];
        let whole = [(0, usize::MAX), (1, usize::MAX)];
        for (attempt, bytes) in cuts.into_iter().chain(whole) {
            let folder = scratch.path().join(attempt_name(attempt as u32));
            fs::create_dir_all(&folder).expect("made");
            let path = folder.join("events.jsonl");
            let mut file = File::options().create(true).append(true).open(path).expect("opened");
            let end = texts[attempt].len().min(written[attempt].saturating_add(bytes));
            file.write_all(&texts[attempt][written[attempt]..end]).expect("written");
            written[attempt] = end;
            for (attempt, event) in tail.read().expect("it is well formed") {
                read[attempt as usize].push(event);
            }
        }
        prop_assert_eq!(read, counts.map(|count| (0..count).map(progress).collect::<Vec<_>>()));
    }
}

#[test]
fn what_is_no_event_is_a_mistake_and_half_a_line_is_none() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = scratch.path().join("attempt-0");
    fs::create_dir_all(&folder).expect("made");
    fs::create_dir_all(scratch.path().join("attempt-x")).expect("made");
    let events = folder.join("events.jsonl");
    let mut tail = Tail::new(Folder(scratch.path().to_owned()));
    assert_eq!(tail.read().expect("nothing yet"), []);
    fs::write(&events, "{\"event\":\"do").expect("written");
    assert_eq!(tail.read().expect("it waits for the rest"), []);
    fs::write(&events, "{\"event\":\"do\n").expect("written");
    let error = tail.read().expect_err("no event").to_string();
    assert!(error.ends_with("events.jsonl has a line that is no event"), "{error}");
}

/// A `bench run` that notes the keys it was given and refuses each as a trial.
const BENCH: &str = r#"#!/bin/sh
for key in $(grep -o '"key":"[0-9a-f]*"' "$3" | cut -d '"' -f 4); do
    echo "$key" >> "HERE/measured"
    EVENT
done
echo '{"event":"done"}'
"#;

struct Bed(TempDir);

impl Bed {
    fn new() -> Self {
        let bed = Self(tempfile::tempdir().expect("a temporary folder"));
        let event = serde_json::to_string(&trial("KEY", None)).expect("JSON");
        let event = event.replace(&key("KEY").to_string(), "'\"$key\"'");
        let ready = Event::Ready { format: FORMAT, observed: Box::default() };
        let ready = serde_json::to_string(&ready).expect("JSON");
        let text = BENCH
            .replace("HERE", &bed.0.path().display().to_string())
            .replace("for key", &format!("echo '{ready}'\nfor key"))
            .replace("EVENT", &format!("echo '{event}'"));
        let bench = bed.0.path().join("bench");
        fs::write(&bench, text).expect("written");
        fs::set_permissions(&bench, fs::Permissions::from_mode(0o755)).expect("ours");
        bed
    }

    fn folder(&self) -> Folder {
        Folder(self.0.path().to_owned())
    }

    /// Runs an attempt at `a` and `b`.
    fn run(&self, attempt: u32) -> Result<(), LaunchError> {
        let path = |name: &str| self.0.path().join(name);
        let tools = Tools {
            bench: path("bench"),
            run_dir: path("run"),
            log_dir: path("logs"),
            out_dir: self.0.path().to_owned(),
        };
        let server = ServerEngine {
            base_url: "http://localhost".to_owned(),
            model: "m".to_owned(),
            vocab_size: 1000,
            api_key_env: None,
        };
        let plan = LaunchPlan {
            format: FORMAT,
            launch: "start".to_owned(),
            engine: Engine::Server(server),
            args: Default::default(),
            env: Default::default(),
            config_file: None,
            replicate: 0,
            trials: planned(&["a", "b"]),
        };
        run_attempt(plan, attempt, tools, &AtomicBool::new(false))
    }

    fn measured(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("measured")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The trials that an attempt told of, and whether it told its end.
    fn told(&self, attempt: u32) -> (Vec<Digest>, bool) {
        let events = Tail::new(self.folder()).read().expect("well formed");
        let of_attempt =
            events.into_iter().filter(|(of, _)| *of == attempt).map(|(_, event)| event);
        let events: Vec<_> = of_attempt.collect();
        let trial = |event: &Event| match event {
            Event::Trial { key, .. } => Some(*key),
            _ => None,
        };
        (events.iter().filter_map(trial).collect(), events.contains(&Event::Done {}))
    }
}

fn planned(names: &[&str]) -> Vec<PlannedTrial> {
    let load = LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1), Vec::new(), 1);
    let planned =
        |name: &&str| PlannedTrial { key: key(name), load: load.clone(), data_file: None };
    names.iter().map(planned).collect()
}

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| key(name).to_string()).collect()
}

#[test]
fn an_attempt_measures_its_plan_and_what_else_is_wanted() {
    let bed = Bed::new();
    thread::scope(|scope| {
        let attempt = scope.spawn(|| bed.run(0));
        // The owner answers once it has seen all.
        while bed.told(0).0.len() < 2 {
            thread::yield_now();
        }
        bed.folder().write_more(1, &planned(&["c"])).expect("written");
        while bed.told(0).0.len() < 3 {
            thread::yield_now();
        }
        bed.folder().write_more(2, &[]).expect("written");
        attempt.join().expect("no panic").expect("it ends well");
    });
    assert_eq!(bed.measured(), keys(&["a", "b", "c"]));
    assert_eq!(bed.told(0), (["a", "b", "c"].map(key).into(), true));
}

#[test]
fn what_earlier_attempts_measured_is_left_out() {
    let bed = Bed::new();
    let attempt = bed.0.path().join(attempt_name(0));
    fs::create_dir_all(&attempt).expect("made");
    let mut log = Log::create(&attempt).expect("made");
    log.write(&trial("a", None)).expect("written");
    // Cut off where its machine was lost.
    log.file.write_all(b"{\"event\":\"trial\",").expect("written");
    bed.folder().write_more(1, &planned(&["c"])).expect("written");
    bed.folder().write_more(2, &[]).expect("written");
    bed.run(1).expect("it ends well");
    assert_eq!(bed.measured(), keys(&["b", "c"]));
    assert_eq!(bed.told(1), (["b", "c"].map(key).into(), true));

    bed.run(2).expect("it ends well");
    assert_eq!(bed.measured(), keys(&["b", "c"]), "nothing is left to measure");
    assert_eq!(bed.told(2), (Vec::new(), true));
}

#[test]
fn a_setting_that_was_refused_is_not_started_again() {
    let bed = Bed::new();
    let attempt = bed.0.path().join(attempt_name(0));
    fs::create_dir_all(&attempt).expect("made");
    let mut log = Log::create(&attempt).expect("made");
    log.write(&Event::Refused { failure: failure() }).expect("written");
    bed.run(1).expect("it ends well");
    assert_eq!(bed.measured(), Vec::<String>::new());
    assert_eq!(bed.told(1), (Vec::new(), true));
}

#[test]
fn a_trial_is_told_only_with_its_samples_on_the_disk() {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut log = Log::create(scratch.path()).expect("made");
    let event = trial("a", Some("a.gz"));
    assert!(log.write(&event).is_err(), "there are no samples");
    fs::write(scratch.path().join("a.gz"), "samples").expect("written");
    log.write(&event).expect("they are there");
}
