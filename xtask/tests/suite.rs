//! The program as people run it, in a project folder of its own, on a simulated engine that
//! preempts early.

#[path = "suite/answers.rs"]
mod answers;
#[path = "suite/cases.rs"]
mod cases;
mod common;
#[path = "suite/docs.rs"]
mod docs;
#[path = "suite/energy.rs"]
mod energy;
#[path = "suite/floors.rs"]
mod floors;
#[path = "suite/forked.rs"]
mod forked;
#[path = "suite/layouts.rs"]
mod layouts;
#[path = "suite/mistakes.rs"]
mod mistakes;
#[path = "suite/oracle.rs"]
mod oracle;
#[path = "suite/questions.rs"]
mod questions;
#[path = "suite/remote.rs"]
mod remote;
#[path = "suite/replay.rs"]
mod replay;
#[path = "suite/s3.rs"]
mod s3;
#[path = "suite/slurm.rs"]
mod slurm;
#[path = "suite/stopping.rs"]
mod stopping;
#[path = "suite/vllm.rs"]
mod vllm;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Instant,
};

use bench_core::{
    canonical::Digest,
    rng::Random,
    schema::{BaselineResult, LaunchPlan},
};
use common::{calibrate, copy, files_below, paths_below, unfolded, xtask};
use serde_json::json;

const PROFILE: &str = r#"
[engine]
kind = "simulator"
model = "tiny"
[baseline]
starts = 2
[baseline.args]
max-num-seqs = 2

[[load]]
name = "burst"
part = "throughput"
requests = 24
arrival = "all-at-once"
input_tokens = [8, 40]
output_tokens = [4, 24]
seed = 1
[[load]]
name = "steady"
part = "production"
requests = 24
arrival = { process = "poisson", requests_per_second = 2 }
mix = [
    { name = "short", share = 0.7, input_tokens = [8, 16], output_tokens = [4, 8] },
    { name = "long", share = 0.3, input_tokens = [16, 32], output_tokens = [16, 24] },
]
seed = 2

[sweep.max-num-seqs]
values = [2, 4, 8]
[sweep.memory-utilization]
flag = "gpu-memory-utilization"
values = [0.2, 0.9]

[objective]
maximize = "output_tokens_per_s"
on = "burst"
[slo]
on = "steady"
e2e_p95_ms = 60000
[targets]
queue_share = { max = 0.5, on = "burst" }
"#;

/// Before a profile whose pictures no test looks at: drawing them takes most of such a suite's time.
const NO_PICTURES: &str = "stages = [\"provision\", \"baseline\", \"choose\", \"comprehensive\", \
                           \"compare\", \"confirm\", \"document\"]\n";

/// A flag's value that is a word.
fn text(value: &str) -> bench_core::schema::ArgValue {
    bench_core::schema::ArgValue::Text(value.to_owned())
}

/// A project with one profile, `test`.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(common::tempdir());
        copy(&["bench/models/tiny.json", "baselines/week2.json"], project.0.path());
        project.write_profile(PROFILE);
        project
    }

    fn without_pictures() -> Self {
        let project = Self::new();
        project.write_profile(&format!("{NO_PICTURES}{PROFILE}"));
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_profile(&self, text: &str) {
        let path = self.path("bench/profiles/test.toml");
        fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    fn command(&self, args: &[&str]) -> Command {
        xtask(self.0.path(), args)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}: {error}{text}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A suite over HTTP: where this machine was too busy to send in time, it is measured again.
    fn measured_suite(&self, profile: &str) -> String {
        let first = ["suite", "--profile", profile];
        let again = ["suite", "--profile", profile, "--fresh"];
        for args in std::iter::once(&first[..]).chain(std::iter::repeat_n(&again[..], 10)) {
            let output = self.run(args);
            let text = String::from_utf8_lossy(&output.stdout);
            if output.status.success() || !text.contains("send lag") {
                assert!(output.status.success(), "{text}");
                return text.into_owned();
            }
        }
        panic!("the machine is too busy to measure anything");
    }

    fn suite(&self) -> String {
        self.ok(&["suite", "--profile", "test"])
    }

    fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let folder = fs::read_dir(self.path("results/test")).expect("there are results");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("reads"))
        };
        folder.map(read).collect()
    }

    fn stored_trials(&self) -> usize {
        files_below(&self.path("artifacts/actions/trial"))
    }
}

/// Stages that a run's output says were run, not cached.
fn ran(output: &str) -> Vec<&str> {
    let is_old =
        |line: &str| ["cached", " the same", " as before"].iter().any(|end| line.ends_with(end));
    let lines = output.lines().filter(|line| line.starts_with(" ✓") && !is_old(line));
    lines.filter_map(|line| line.split_whitespace().nth(1)).collect()
}

/// Every path of the JSON files with the type of what lies there; keys that are data are `*`.
fn schema(files: &BTreeMap<String, Vec<u8>>) -> String {
    fn walk(value: &serde_json::Value, path: &str, out: &mut BTreeSet<String>) {
        use serde_json::Value;
        let is_data = ["metrics", "args", "identity"].iter().any(|end| path.ends_with(end));
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                walk(value, &format!("{path}.{}", if is_data { "*" } else { key }), out);
            }),
            Value::Array(items) => items.iter().for_each(|v| walk(v, &format!("{path}[]"), out)),
            Value::Null => drop(out.insert(format!("{path}: null"))),
            Value::Bool(_) => drop(out.insert(format!("{path}: boolean"))),
            Value::Number(_) => drop(out.insert(format!("{path}: number"))),
            Value::String(_) => drop(out.insert(format!("{path}: string"))),
        }
    }
    let mut paths = BTreeSet::new();
    for (_, text) in files.iter().filter(|(name, _)| name.ends_with(".json")) {
        walk(&serde_json::from_slice(text).expect("JSON"), "", &mut paths);
    }
    paths.into_iter().collect::<Vec<_>>().join("\n")
}

/// Without the page, which draws trials over their time where their raw samples are.
fn without_page(mut files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    assert!(files.remove("report.html").is_some());
    files
}

/// Without the time that it took; stages that measure side by side end in any order.
fn without_time(output: &str) -> String {
    let (mut text, mut stages) = (String::new(), Vec::<String>::new());
    let is_of_time = |line: &&str| line.starts_with(" took") || line.starts_with(" running  ");
    for line in output.lines().filter(|line| !is_of_time(line)) {
        match stages.last_mut() {
            _ if line.starts_with(" ✓") => stages.push(format!("{line}\n")),
            Some(stage) if line.starts_with("   ") => *stage += &format!("{line}\n"),
            _ => {
                stages.sort();
                text += &std::mem::take(&mut stages).concat();
                text += &format!("{line}\n");
            }
        }
    }
    text
}

#[test]
fn the_suite_leaves_every_file_and_a_second_run_does_nothing() {
    let project = Project::new();
    let first = project.suite();
    insta::assert_snapshot!("closing_table", without_time(&first));
    let report = fs::read_to_string(project.path("results/test/OPTIMIZATION_RESULTS.md"));
    assert!(!report.expect("a report").contains("andidate"), "nothing was one");
    let files = project.results();
    insta::assert_snapshot!("files", files.keys().cloned().collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!("schema", schema(&files));
    assert!(files["optimization_summary_dashboard.png"].starts_with(b"\x89PNG"));

    let second = project.suite();
    assert_eq!(ran(&second), Vec::<&str>::new(), "{second}");
    assert!(second.contains("all cached"));
    assert_eq!(project.results(), files);

    fs::remove_dir_all(project.path("results")).expect("removes");
    let third = project.suite();
    assert_eq!(ran(&third), Vec::<&str>::new());
    assert_eq!(project.results(), files);

    let fourth = project.ok(&["suite", "--profile", "test", "--fresh"]);
    assert!(ran(&fourth).is_empty(), "the same bytes were measured, so no stage has other inputs");
    for line in [
        " ✓ baseline              8 trials, 4 launches         the same as before",
        " ✓ choose                unchanged                    what it reads is the same",
        " ✓ provision             cached",
    ] {
        assert!(fourth.lines().any(|found| found == line), "{line}: {fourth}");
    }
    let measuring = |line: &&str| line.contains("baseline ") || line.contains("comprehensive ");
    assert!(!fourth.lines().filter(measuring).any(|line| line.ends_with("cached")), "{fourth}");
    assert_eq!(project.results(), files);
}

/// Every arrival, every source of requests, as the committed example has them.
#[test]
fn the_example_of_workloads_runs() {
    let project = Project::new();
    let names = [
        "bench/models/h100-qwen2.5-7b.json",
        "bench/profiles/workloads.toml",
        "bench/profiles/data/trace.jsonl",
        "bench/profiles/data/prompts.jsonl",
        "bench/profiles/data/sharegpt.json",
    ];
    copy(&names, &project.path("."));
    project.ok(&["suite", "--profile", "workloads"]);
    let path = project.path("results/workloads/baseline.json");
    let result: BaselineResult =
        serde_json::from_slice(&fs::read(path).expect("reads")).expect("a result");
    let mean = |load: &str, metric: &str| {
        let point = result.points.iter().find(|point| point.load == load);
        let point = point.unwrap_or_else(|| panic!("no point of {load}"));
        point.metrics.get(metric).map(|estimate| estimate.mean)
    };
    for point in &result.points {
        assert!(point.trials.iter().all(|trial| trial.invalid.is_none()), "{point:?}");
        assert_eq!(point.metrics["failed_share"].mean, 0.0, "{}", point.load);
    }
    for load in ["shared-prefix", "conversations", "replay"] {
        let hits = mean(load, "prefix_cache_hit_percent");
        assert!(hits.is_some_and(|percent| percent > 30.0), "{load}: {hits:?}");
    }
    assert!(mean("limited", "client_queue_mean_ms").is_some_and(|ms| ms > 0.0));
    assert_eq!(mean("bursty", "client_queue_mean_ms"), None);
    // The same again is cached. A file with other content is another load: one trial, since the
    // baseline's settings are the defaults.
    assert!(project.ok(&["suite", "--profile", "workloads"]).contains("all cached"));
    let trials = project.stored_trials();
    let trace = project.path("bench/profiles/data/trace.jsonl");
    let text = fs::read_to_string(&trace).expect("reads");
    fs::write(&trace, text.replacen("\"output_length\": ", "\"output_length\": 1", 1))
        .expect("writes");
    project.ok(&["suite", "--profile", "workloads"]);
    assert_eq!(project.stored_trials(), trials + 1);
}

#[test]
fn only_what_changed_reruns() {
    let project = Project::new();
    project.suite();
    project.write_profile(&format!("# a comment\n{PROFILE}"));
    assert_eq!(ran(&project.suite()), Vec::<&str>::new());

    let trials = project.stored_trials();
    project.write_profile(&PROFILE.replace("values = [2, 4, 8]", "values = [2, 4, 6]"));
    let status = project.ok(&["status", "--profile", "test"]);
    let explained = project.ok(&["explain", "max-num-seqs", "--profile", "test"]);
    insta::assert_snapshot!("status_and_explain", format!("{status}\n{explained}"));
    let changed = project.suite();
    assert_eq!(project.stored_trials(), trials + 2, "one value under two loads");
    let ran = ran(&changed);
    assert!(ran.contains(&"max-num-seqs") && ran.contains(&"document"), "{ran:?}");
    assert!(!ran.contains(&"memory-utilization") && !ran.contains(&"baseline"), "{ran:?}");
}

#[test]
fn a_killed_suite_goes_on_and_ends_with_the_same_bytes() {
    let undisturbed = Project::without_pictures();
    undisturbed.suite();
    let project = Project::without_pictures();
    for trials in [1, 5, 9, 14] {
        let mut child = project
            .command(&["suite", "--profile", "test"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("the program runs");
        while project.stored_trials() < trials && child.try_wait().expect("waits").is_none() {
            crate::common::pause();
        }
        child.kill().expect("kills");
        child.wait().expect("waits");
    }
    let kept = project.stored_trials();
    assert!(kept >= 1);
    let found = project.ok(&["bundle", "export", "--profile", "test", "half.jsonl.gz"]);
    assert!(found.contains(" trials of profile test"), "what is finished can travel: {found}");
    project.suite();
    assert_eq!(project.stored_trials(), undisturbed.stored_trials());
    assert_eq!(project.results(), undisturbed.results());
    let tmp = fs::read_dir(project.path("artifacts/tmp")).expect("reads").count();
    assert_eq!(tmp, 0, "what dead runs left is cleared");
}

/// Which file each stored trial is: another one once its record is written again.
fn trial_files(project: &Project) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let paths = paths_below(&project.path("artifacts/actions/trial"));
    let files = paths.into_iter().map(|path| {
        let file = fs::metadata(&path).expect("a record stays");
        (path, (file.ino(), file.mtime(), file.mtime_nsec()))
    });
    files.collect()
}

/// A benchmark, not a test: `cargo test -p xtask --test suite two_hundred_kills -- --ignored
/// --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn soak_of_two_hundred_kills() {
    const KILLS: u32 = 200;
    let undisturbed = Project::without_pictures();
    let begun = Instant::now();
    undisturbed.suite();
    let whole = begun.elapsed();

    let mut random = Random::new(1, 0);
    let (mut rounds, mut kills, mut whole_suites, mut again) = (0, 0, 0, 0);
    while kills < KILLS {
        let project = Project::without_pictures();
        let mut known = BTreeMap::new();
        loop {
            let mut child = project
                .command(&["suite", "--profile", "test"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the program runs");
            if kills < KILLS {
                thread::sleep(whole.mul_f64(random.uniform()));
                child.kill().expect("it is not reaped yet");
            }
            let status = child.wait().expect("waits");
            rounds += 1;
            let found = trial_files(&project);
            again += known.iter().filter(|(path, file)| found.get(*path) != Some(file)).count();
            known = found;
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "{status}");
            kills += 1;
        }
        assert_eq!(project.results(), undisturbed.results());
        assert_eq!(known.len(), undisturbed.stored_trials());
        whole_suites += 1;
    }
    println!(
        "{rounds} runs, {kills} of them killed; {whole_suites} suites with the bytes of an \
         undisturbed one; {again} finished trials measured again"
    );
    assert_eq!(again, 0);
}

/// Runs `bench` and keeps the plan that it was given.
const COUNTING_BENCH: &str = r#"#!/bin/sh
if [ "$1" = run ]; then cp "$3" "PLANS/$$"; fi
exec BENCH "$@"
"#;

/// Puts a program somewhere. Another process writes it: a program that is open for writing cannot be
/// started, and whatever this one starts meanwhile has its open files for a moment.
fn install(program: &Path, to: &Path) {
    let mut install = Command::new("install");
    let status = install.args(["-m", "755"]).args([program, to]).status().expect("it starts");
    assert!(status.success(), "{}", to.display());
}

/// The program with a `bench` beside it that counts.
fn counting(project: &Project) -> PathBuf {
    let built = PathBuf::from(project.command(&[]).get_program());
    let (bin, plans) = (project.path("bin"), project.path("plans"));
    fs::create_dir(&bin).expect("creates");
    fs::create_dir(&plans).expect("creates");
    install(&built, &bin.join("xtask"));
    let bench = COUNTING_BENCH
        .replace("PLANS", &plans.to_string_lossy())
        .replace("BENCH", &built.with_file_name("bench").to_string_lossy());
    fs::write(project.path("counting"), bench).expect("writes");
    install(&project.path("counting"), &bin.join("bench"));
    bin.join("xtask")
}

/// The trials that were given to `bench run` by a program that counts.
fn measured(project: &Project) -> Vec<Digest> {
    let plans = paths_below(&project.path("plans")).into_iter().map(|path| {
        let text = fs::read(&path).expect("reads");
        serde_json::from_slice::<LaunchPlan>(&text).expect("a plan")
    });
    plans.flat_map(|plan| plan.trials).map(|trial| trial.key).collect()
}

#[test]
fn suites_at_once_measure_each_trial_once() {
    let alone = Project::without_pictures();
    alone.suite();
    let all = alone.stored_trials();
    for (seed, suites) in [(1, 2), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3)] {
        let project = Project::without_pictures();
        let program = counting(&project);
        let mut random = Random::new(seed, 0);
        let mut running: Vec<Child> = Vec::new();
        for _ in 0..suites {
            // The next one begins anywhere in the course of those before it.
            let trials = random.below(all as u64) as usize;
            let is_alive = |child: &mut Child| child.try_wait().expect("waits").is_none();
            while project.stored_trials() < trials && running.iter_mut().any(is_alive) {
                crate::common::pause();
            }
            let mut command = Command::new(&program);
            command.args(["suite", "--profile", "test"]).current_dir(project.path("."));
            command.env_remove("CARGO").stdout(Stdio::null());
            running.push(command.spawn().expect("the program runs"));
        }
        for mut child in running {
            assert!(child.wait().expect("waits").success(), "seed {seed}");
        }
        assert_eq!(project.results(), alone.results(), "seed {seed}");
        let measured = measured(&project);
        let distinct: BTreeSet<_> = measured.iter().collect();
        assert_eq!((measured.len(), distinct.len()), (all, all), "seed {seed}");
    }
}

#[test]
fn mistakes_change_nothing_and_say_what_was_meant() {
    let project = Project::new();
    let mut texts = String::new();
    let mut mistake = |args: &[&str]| {
        let output = project.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        texts += &format!("$ cargo xtask {}\n{error}\n", args.join(" "));
        assert!(!project.path("artifacts").exists() && !project.path("results").exists());
    };
    mistake(&["stage", "max-num-seq", "--profile", "test"]);
    mistake(&["suite", "--only", "queue-time,max-num-seqs", "--profile", "test"]);
    mistake(&["suite", "--profile", "tset"]);
    mistake(&["explain", "compair", "--profile", "test"]);
    mistake(&["compare", "sim", "week3"]);
    mistake(&["baseline", "save", "../x", "--profile", "test"]);
    mistake(&["baseline", "save", "x", "--profile", "test"]);
    project.write_profile(&PROFILE.replace("max-num-seqs = 2", "max_num_seq = 2"));
    mistake(&["suite", "--profile", "test"]);
    insta::assert_snapshot!("mistakes", texts);
}

#[test]
fn a_dry_run_changes_nothing() {
    let project = Project::new();
    insta::assert_snapshot!("dry_run", project.ok(&["suite", "--dry-run", "--profile", "test"]));
    assert!(!project.path("artifacts").exists() && !project.path("results").exists());
}

#[test]
fn the_graph() {
    let project = Project::new();
    insta::assert_snapshot!("graph", project.ok(&["graph", "--profile", "test"]));
}

#[test]
fn baselines_are_saved_and_compared() {
    let project = Project::without_pictures();
    project.suite();
    project.ok(&["baseline", "save", "before", "--profile", "test"]);
    let told = |args: &[&str]| {
        let output = project.run(args);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let screen: Vec<&str> = text.lines().take(24).collect();
        format!(
            "$ cargo xtask {}\n{}\nexit code {}\n\n",
            args.join(" "),
            screen.join("\n"),
            output.status.code().expect("an exit code")
        )
    };
    let mut texts = told(&["compare", "before#baseline", "test", "--gate"]);
    texts += &told(&["compare", "test", "before#baseline", "--gate", "--format", "markdown"]);
    texts += &told(&["compare", "before#default", "test", "--gate"]);
    texts += &told(&["compare", "default", "tuned", "--profile", "test"]);
    // Another engine, another load, and no load in common.
    let strangers = [("identity", "1"), ("load_digest", "2"), ("load", "other")];
    let saved = fs::read_to_string(project.path("baselines/before.json")).expect("reads");
    for (field, to) in strangers {
        let mut file: serde_json::Value = serde_json::from_str(&saved).expect("JSON");
        let digest = |text: &str| json!(bench_core::canonical::Digest::of(text.as_bytes()));
        match field {
            "identity" => file["engine"]["identity"] = digest(to),
            _ => {
                for point in file["points"].as_array_mut().expect("points") {
                    point[field] = if field == "load" { json!(to) } else { digest(to) };
                }
            }
        }
        let name = format!("other-{field}");
        let path = project.path(&format!("baselines/{name}.json"));
        fs::write(path, file.to_string()).expect("writes");
        let output = project.run(&["compare", &name, "test", "--gate"]);
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        texts += &format!("{error}exit code {}\n\n", output.status.code().expect("an exit code"));
    }
    insta::assert_snapshot!("compare", texts);
    let doctor = project.ok(&["doctor", "--profile", "test"]);
    let doctor = doctor.replace(project.0.path().to_str().expect("UTF-8"), "");
    // What is next hangs on the machine's GPU.
    let (findings, next) = doctor.split_once(" → next").expect("it says what is next");
    assert!(next.contains("`xtask suite`"), "{next}");
    insta::assert_snapshot!("doctor", findings);
}

#[test]
fn help_of_each_command() {
    let project = Project::new();
    let mut text = project.ok(&["--help"]);
    for command in [
        "suite", "stage", "launch", "status", "explain", "graph", "compare", "baseline", "bundle",
        "doctor",
    ] {
        text += &format!("\n$ cargo xtask {command} --help\n{}", project.ok(&[command, "--help"]));
    }
    insta::assert_snapshot!("help", text);
}

/// What each stage writes from fixed inputs, by the number of what it does. A stage that writes
/// other bytes under the same number would be taken for finished where it is not.
#[test]
fn other_output_needs_another_epoch() {
    let recorded: BTreeMap<String, String> =
        serde_json::from_str(include_str!("epochs.json")).expect("epochs.json is a map");
    let project = Project::new();
    project.suite();
    // In a profile of its own, since the report names all that is in one.
    let measured = include_str!("../../bench/models/measured/h100-qwen2.5-7b-a.jsonl");
    let few: Vec<&str> = measured.lines().take(3).collect();
    let calibrate = "[calibrate]\nmodel = \"tiny\"\ntrials = [\"few\"]\n";
    fs::create_dir_all(project.path("bench/models/measured")).expect("creates");
    for (path, text) in [
        ("bench/models/measured/few.jsonl", few.join("\n")),
        ("bench/profiles/fit.toml", format!("{PROFILE}{calibrate}")),
    ] {
        fs::write(project.path(path), text).expect("writes");
    }
    project.ok(&["stage", "calibrate-simulator", "--profile", "fit"]);
    let mut found = BTreeMap::new();
    for folder in fs::read_dir(project.path("artifacts/actions/stage")).expect("reads") {
        for file in fs::read_dir(folder.expect("an entry").path()).expect("reads") {
            let text = fs::read(file.expect("an entry").path()).expect("reads");
            let record: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            let action = &record["action"];
            let name = action["preimage"]["stage"].as_str().expect("a stage");
            let mut outputs = action["outputs"].as_object().expect("outputs").clone();
            // Which compressor a build links decides a picture's bytes, not what it shows.
            outputs.retain(|name, _| !name.ends_with(".png"));
            let digest = bench_core::canonical::Digest::of_json(&outputs).expect("no floats");
            found.insert(format!("{name}@{}", action["preimage"]["epoch"]), digest.short());
        }
    }
    assert!(
        found == recorded,
        "what stages write has changed. Raise the epoch of those whose digest differs (for the \
         templates of `document`, and for trials, the key changes by itself), then record in \
         xtask/tests/epochs.json:\n{}",
        serde_json::to_string_pretty(&found).expect("plain JSON")
    );
}

/// A benchmark, not a test: planning with 10,000 stored trials, whole process, median of five.
///
/// `cargo test --release -p xtask --test suite -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "a benchmark"]
fn ten_thousand_trials() {
    let project = Project::new();
    let values: Vec<String> = (64..=5_058).map(|n| n.to_string()).collect();
    let swept = format!("flag = \"max-num-batched-tokens\"\nvalues = [{}]", values.join(", "));
    let profile =
        PROFILE.replace("values = [2, 4, 8]", &swept).replace("requests = 24", "requests = 2");
    project.write_profile(&format!("stages = [\"provision\", \"baseline\"]\n{profile}"));
    project.suite();
    let mut times_ms: Vec<u128> = (0..5)
        .map(|_| {
            let start = std::time::Instant::now();
            assert!(project.suite().contains("all cached"));
            start.elapsed().as_millis()
        })
        .collect();
    times_ms.sort_unstable();
    println!(
        "{} stored trials: {times_ms:?} ms, median {} ms",
        project.stored_trials(),
        times_ms[2]
    );
}

#[test]
fn the_files_of_a_stage_that_is_gone_go_and_strangers_stay() {
    let project = Project::new();
    let profile = PROFILE.split("[sweep").next().expect("the first part").to_owned();
    let objective = &PROFILE[PROFILE.find("[objective]").expect("it is there")..];
    project.write_profile(&format!(
        "stages = [\"provision\", \"baseline\", \"compare\"]\n{profile}{objective}"
    ));
    fs::create_dir_all(project.path("results/test")).expect("creates");
    for name in ["confirmation.json", "comparison.json", "notes.txt", "bundle.jsonl.gz"] {
        fs::write(project.path("results/test").join(name), "old").expect("writes");
    }
    project.suite();
    let results = project.results();
    let names: Vec<&str> = results.keys().map(String::as_str).collect();
    let expected =
        ["baseline.json", "bundle.jsonl.gz", "comparison.json", "identity.json", "notes.txt"];
    assert_eq!(names, expected);
    assert_eq!((&*results["notes.txt"], &*results["bundle.jsonl.gz"]), (&b"old"[..], &b"old"[..]));
    assert_ne!(&*results["comparison.json"], b"old");
}

/// What was measured in one project comes to another in a bundle, and becomes the same results.
#[test]
fn a_bundle_rebuilds_the_results_elsewhere() {
    let project = Project::new();
    project.suite();
    project.ok(&["bundle", "export", "trials.jsonl.gz", "--profile", "test"]);
    let bundle = fs::read(project.path("trials.jsonl.gz")).expect("reads");

    let elsewhere = Project::new();
    let offline = ["suite", "--profile", "test", "--offline"];
    let unknown = elsewhere.run(&offline);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(!elsewhere.path("artifacts").exists());
    fs::write(elsewhere.path("trials.jsonl.gz"), &bundle).expect("writes");
    let mut texts = String::from_utf8(unknown.stderr).expect("UTF-8");
    texts += &elsewhere.ok(&["bundle", "import", "trials.jsonl.gz"]);
    // Nothing can be measured there: no `bench`, and the trials are all there.
    elsewhere.ok(&offline);
    assert_eq!(without_page(elsewhere.results()), without_page(project.results()));
    assert_eq!(files_below(&elsewhere.path("artifacts/logs")), 0);

    elsewhere.ok(&["bundle", "export", "again.jsonl.gz", "--profile", "test"]);
    assert_eq!(fs::read(elsewhere.path("again.jsonl.gz")).expect("reads"), bundle);
    let trial = fs::read_dir(elsewhere.path("artifacts/actions/trial")).expect("reads").next();
    let folder = trial.expect("a trial").expect("an entry").path();
    let file = fs::read_dir(&folder).expect("reads").next().expect("a trial").expect("an entry");
    let (head, tail) = (folder.file_name().expect("a name"), file.file_name());
    let key = format!("{}{}", head.display(), tail.display());
    let explained = elsewhere.ok(&["explain", &key[..12], "--profile", "test"]);
    assert!(explained.contains("without its raw samples"), "{explained}");

    elsewhere.write_profile(&PROFILE.replace("values = [2, 4, 8]", "values = [2, 4, 16]"));
    let missing = elsewhere.run(&offline);
    assert_eq!(missing.status.code(), Some(1));
    let output = String::from_utf8(missing.stdout).expect("UTF-8");
    let from = output.find(" missing").expect("the trials are named");
    texts += &without_time(&output[from..]);
    insta::assert_snapshot!("offline", texts);
}

#[test]
fn a_published_bundle_is_imported_by_itself_and_a_damaged_one_changes_nothing() {
    let project = Project::without_pictures();
    project.suite();
    project.ok(&["bundle", "export", "results/test/bundle.jsonl.gz", "--profile", "test"]);
    let results = project.results();

    let elsewhere = Project::without_pictures();
    let path = elsewhere.path("results/test/bundle.jsonl.gz");
    fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
    let mut damaged = results["bundle.jsonl.gz"].clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&path, damaged).expect("writes");
    for args in [
        &["suite", "--profile", "test", "--offline"][..],
        &["bundle", "import", "results/test/bundle.jsonl.gz"],
    ] {
        let refused = elsewhere.run(args);
        assert_eq!(refused.status.code(), Some(2));
        let error = String::from_utf8(refused.stderr).expect("UTF-8").replace("\n  ", " ");
        assert!(error.contains("do not match their digest"), "{error}");
        assert_eq!(elsewhere.stored_trials(), 0);
    }
    fs::write(&path, &results["bundle.jsonl.gz"]).expect("writes");
    let plan = elsewhere.ok(&["suite", "--profile", "test", "--offline", "--dry-run"]);
    assert!(plan.contains("baseline              run"), "{plan}");
    elsewhere.ok(&["suite", "--profile", "test", "--offline"]);
    assert_eq!(without_page(elsewhere.results()), without_page(results));
}

/// As `nix run` starts it: no checkout, profiles and `bench` beside the program.
#[test]
fn an_installed_program_works_in_any_folder_and_writes_nothing_where_it_lies() {
    let project = Project::without_pictures();
    let installed = common::tempdir();
    let share = installed.path().join("share/vllm-tuning-bench");
    for name in ["bench/profiles/test.toml", "bench/models/tiny.json", "baselines/week2.json"] {
        let to = share.join(name);
        fs::create_dir_all(to.parent().expect("a folder")).expect("creates");
        fs::copy(project.path(name), to).expect("copies");
    }
    let program = PathBuf::from(xtask(installed.path(), &[]).get_program());
    let bin = installed.path().join("bin");
    fs::create_dir(&bin).expect("creates");
    for name in ["xtask", "bench"] {
        fs::copy(program.with_file_name(name), bin.join(name)).expect("copies");
    }
    let before = files_below(installed.path());

    let elsewhere = common::tempdir();
    let mut command = Command::new(bin.join("xtask"));
    command.args(["suite", "--profile", "test"]).current_dir(elsewhere.path()).env_remove("CARGO");
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(elsewhere.path().join("results/test/recommended.yaml").is_file());
    // Every command that it tells of is one that can be typed there.
    let mut told = String::from_utf8_lossy(&output.stdout).into_owned();
    let bare = common::tempdir();
    for (args, expected) in [
        (&["--help"][..], "Usage: xtask [OPTIONS]"),
        (&["stage", "--help"], "`xtask status` lists them"),
        (&["doctor", "--profile", "test"], "`xtask suite"),
        (&["compare", "test", "week2"], "`xtask suite --profile test`"),
        (&["compare", "test", "week2", "--message-format", "json"], "`xtask suite --profile test`"),
        (&["suit"], "Usage: xtask [OPTIONS]"),
    ] {
        let of = |by_cargo: bool| {
            let mut command = Command::new(bin.join("xtask"));
            command.args(args).current_dir(bare.path()).env_remove("CARGO");
            if by_cargo {
                command.env("CARGO", "cargo");
            }
            let output = command.output().expect("the program runs");
            let text = [output.stdout, output.stderr].concat();
            unfolded(&String::from_utf8(text).expect("UTF-8"))
        };
        let installed = of(false);
        assert!(installed.contains(expected), "{args:?}: {installed}");
        told += &installed;
        let by_cargo = expected.replace("xtask", "cargo xtask");
        assert!(of(true).contains(&by_cargo), "{args:?}");
    }
    assert!(!told.contains("cargo xtask"), "{told}");
    assert_eq!(files_below(installed.path()), before);
}
