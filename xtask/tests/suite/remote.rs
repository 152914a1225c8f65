//! A remote store in a folder; `s3.rs` has the same on a real S3 server.

use std::{fs, process::Output};

use super::*;

/// Stages whose trials depend on answers.
const ADAPTIVE: &str = r#"
[capacity]
load = "steady"
[tune]
budget_engine_minutes = 30
model = "tiny"
[tune.flags]
max-num-seqs = [2, 4, 8]
max-num-batched-tokens = [64, 256]
"#;

/// A fresh clone that shares its trials, and a program that counts what it measures.
pub struct Clone {
    pub project: Project,
    program: PathBuf,
    pub url: String,
    /// What else its environment holds.
    pub env: Vec<(String, String)>,
}

impl Clone {
    pub fn new(url: &str) -> Self {
        let project = Project::without_pictures();
        let program = counting(&project);
        Self { project, program, url: url.to_owned(), env: Vec::new() }
    }

    /// One whose stages ask for trials by the answers of others.
    pub fn adaptive(url: &str) -> Self {
        let clone = Self::new(url);
        clone.project.write_profile(&format!("{NO_PICTURES}{PROFILE}{ADAPTIVE}"));
        clone
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.project.command(args);
        let mut counted = Command::new(&self.program);
        counted.args(args).current_dir(self.project.path("."));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => counted.env(name, value),
                None => counted.env_remove(name),
            };
        }
        command = counted;
        command.env("BENCH_REMOTE", &self.url).envs(self.env.iter().cloned());
        command
    }

    /// Runs the suite, by a person or by CI, to its good end.
    pub fn suite(&self, is_ci: bool) -> String {
        let mut command = self.command(&["suite", "--profile", "test"]);
        if is_ci {
            command.env("CI", "true");
        }
        text(&command.output().expect("the program runs"))
    }

    pub fn ok(&self, args: &[&str]) -> String {
        text(&self.command(args).output().expect("the program runs"))
    }

    pub fn measured(&self) -> usize {
        measured(&self.project).len()
    }
}

/// What a program that ended well has said, unfolded.
pub fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && error.is_empty(), "{text}\n{error}");
    common::unfolded(&text)
}

pub fn warnings(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.contains("warning")).collect()
}

/// The one warning of a run.
pub fn warning(output: &str) -> &str {
    let all = warnings(output);
    assert_eq!(all.len(), 1, "{output}");
    all[0]
}

/// What was fetched and written, by a run's own account.
pub fn moved(output: &str) -> (usize, usize) {
    let line = output.lines().find(|line| line.starts_with(" remote")).expect("it has a remote");
    let numbers: Vec<usize> =
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// The folder of a team, and its URL.
fn team() -> (tempfile::TempDir, String) {
    let folder = common::tempdir();
    let url = format!("file://{}", folder.path().display());
    (folder, url)
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| (path.clone(), fs::read(&path).expect("reads"));
    paths_below(folder).into_iter().map(read).collect()
}

#[test]
fn a_fresh_clone_fetches_every_trial_and_measures_nothing() {
    let (folder, url) = team();
    let first = Clone::adaptive(&url);
    let output = first.suite(true);
    assert!(warnings(&output).is_empty(), "{output}");
    let trials = first.project.stored_trials();
    assert_eq!((moved(&output), first.measured()), ((0, trials), trials));
    let written = files(folder.path());
    assert_eq!(files_below(&folder.path().join("actions/trial")), trials);

    let second = Clone::adaptive(&url);
    let plan = second.ok(&["suite", "--profile", "test", "--dry-run"]);
    assert!(plan.contains("need not be measured: they are in file://"), "{plan}");
    let status = second.ok(&["status", "--profile", "test"]);
    assert!(status.contains("0 trials to measure and 6 in the remote store"), "{status}");
    let key = plan_key(&written);
    let explained = second.ok(&["explain", &key, "--profile", "test"]);
    assert!(explained.contains("not measured here, but in the remote store"), "{explained}");
    assert!(!second.project.path("artifacts").exists(), "nothing was changed");

    let output = second.suite(false);
    assert!(warnings(&output).is_empty(), "{output}");
    assert!(output.contains("0 trials on 0 launches to run"), "{output}");
    assert_eq!((moved(&output), second.measured()), ((trials, 0), 0));
    assert_eq!(second.project.results(), first.project.results());
    assert_eq!(files(folder.path()), written);
    assert!(second.suite(false).contains("all cached"));
    // Afresh is afresh, and does not replace what is there.
    second.ok(&["suite", "--profile", "test", "--fresh", "--remote-write", "true"]);
    assert_eq!(second.measured(), trials);
    assert_eq!(files(folder.path()), written);
}

/// Some trial that every plan of the profile knows.
fn plan_key(written: &BTreeMap<PathBuf, Vec<u8>>) -> String {
    let is_of_baseline = |text: &[u8]| {
        let record: serde_json::Value = serde_json::from_slice(text).expect("JSON");
        let made_of = &record["action"]["preimage"];
        let has_defaults = made_of["args"] == json!({}) && made_of.get("config_file").is_none();
        has_defaults && made_of["replicate"] == 0 && made_of["load"]["seed"] == 1
    };
    let mut records =
        written.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "json"));
    let (path, _) =
        records.find(|(_, text)| is_of_baseline(text)).expect("the defaults' are there");
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    name(path.parent().expect("a folder")) + &name(path)
}

#[test]
fn people_read_and_ci_writes_unless_they_say_otherwise() {
    let (folder, url) = team();
    let profile = |write: &str| format!("{PROFILE}\n[remote]\nurl = \"{url}\"\n{write}");
    let only = ["suite", "--profile", "test", "--only", "baseline"];
    let written = |profile: &str, env: &[(&str, &str)], more: &[&str]| {
        let project = Project::new();
        project.write_profile(profile);
        let mut command = project.command(&[&only[..], more].concat());
        let output = text(&command.envs(env.iter().copied()).output().expect("the program runs"));
        let count = files_below(folder.path());
        for entry in fs::read_dir(folder.path()).expect("reads").flatten() {
            fs::remove_dir_all(entry.path()).expect("removes");
        }
        (output, count > 0)
    };
    let ci = &[("CI", "true")];
    assert!(!written(&profile(""), &[], &[]).1);
    assert!(written(&profile(""), ci, &[]).1);
    assert!(!written(&profile(""), &[("CI", "false")], &[]).1);
    assert!(!written(&profile("write = false"), ci, &[]).1);
    assert!(written(&profile("write = true"), &[], &[]).1);
    assert!(!written(&profile("write = true"), ci, &["--remote-write", "false"]).1);
    assert!(written(&profile("write = false"), &[("BENCH_REMOTE_WRITE", "true")], &[]).1);
    let (output, has_written) = written(&profile(""), ci, &["--remote", "none"]);
    assert!(!has_written && !output.contains(" remote"), "{output}");
    let (output, _) = written(&profile(""), &[("BENCH_REMOTE", "")], &[]);
    assert!(output.contains(&url), "an empty variable says nothing: {output}");
    let elsewhere = [("BENCH_REMOTE", "file:///nowhere/at/all")];
    let (output, has_written) = written(&profile(""), &elsewhere, &["--remote-write", "true"]);
    assert!(!has_written && warning(&output).contains("/nowhere/at/all: make it"), "{output}");
}

#[test]
fn what_is_damaged_there_is_measured_here() {
    let (folder, url) = team();
    let first = Clone::new(&url);
    first.suite(true);
    let trials = first.project.stored_trials();
    let mut whole = files(folder.path());
    let path = |of: &str, n: usize| {
        let of = folder.path().join(of);
        whole.keys().filter(|path| path.starts_with(&of)).nth(n).expect("so many").clone()
    };
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, PathBuf, Damage); 5] = [
        ("a flipped bit in a record", path("actions", 1), |bytes| bytes[90] ^= 1),
        ("a truncated record", path("actions", 2), |bytes| bytes.truncate(40)),
        ("a flipped bit in content", path("blobs", 3), |bytes| bytes[9] ^= 1),
        ("truncated content", path("blobs", 4), |bytes| bytes.truncate(1)),
        ("empty content", path("blobs", 5), Vec::clear),
    ];
    for (what, path, damage) in cases {
        let bytes = whole.get_mut(&path).expect("it is there");
        let right = bytes.clone();
        damage(bytes);
        fs::write(&path, &*bytes).expect("writes");
        let clone = Clone::new(&url);
        let output = clone.suite(true);
        let said = warning(&output);
        let name = path.strip_prefix(folder.path()).expect("it is below").display().to_string();
        assert!(said.contains(&name) && said.contains("damaged"), "{what}: {said}");
        // Trials of the same content share it.
        let measured = clone.measured();
        assert!((1..=2).contains(&measured), "{what}: {measured}");
        assert_eq!(moved(&output), (trials - measured, 0), "{what}");
        assert_eq!(clone.project.results(), first.project.results(), "{what}");
        assert_eq!(files(folder.path()), whole, "{what}: what is there is not replaced");
        // What it says to remove is made again.
        let parts = said.split_once("remove it").expect("what to do").1;
        let record = parts.split_whitespace().find(|word| word.starts_with("actions/"));
        let record = record.map(|name| folder.path().join(name.trim_end_matches(',')));
        fs::remove_file(&path).expect("removes");
        record.into_iter().for_each(|path| fs::remove_file(path).expect("removes"));
        *whole.get_mut(&path).expect("it is there") = right;
        let (fetched, made) = moved(&Clone::new(&url).suite(true));
        assert_eq!((fetched + measured, made), (trials, 1), "{what}");
        assert_eq!(files(folder.path()), whole, "{what}");
    }
}

#[test]
fn content_that_is_gone_there_and_a_record_of_another_trial_count_as_not_there() {
    let (folder, url) = team();
    let first = Clone::new(&url);
    first.suite(true);
    let records = paths_below(&folder.path().join("actions"));
    fs::copy(&records[0], &records[1]).expect("copies");
    fs::remove_file(&paths_below(&folder.path().join("blobs"))[0]).expect("removes");
    let clone = Clone::new(&url);
    let output = clone.suite(false);
    assert!(warning(&output).contains("damaged"), "{output}");
    assert!((2..=3).contains(&clone.measured()), "{}", clone.measured());
    assert_eq!(clone.project.results(), first.project.results());
}

#[test]
fn two_that_write_at_once_leave_what_one_would() {
    let (folder, url) = team();
    let clones = [Clone::new(&url), Clone::new(&url)];
    let mut running = Vec::new();
    for clone in &clones {
        let mut command = clone.command(&["suite", "--profile", "test"]);
        command.env("CI", "true").stdout(Stdio::piped()).stderr(Stdio::piped());
        running.push(command.spawn().expect("the program runs"));
    }
    for child in running {
        let output = text(&child.wait_with_output().expect("it ends"));
        assert!(warnings(&output).is_empty(), "{output}");
    }
    let third = Clone::new(&url);
    third.suite(false);
    assert_eq!(third.measured(), 0);
    for clone in &clones {
        assert_eq!(clone.project.results(), third.project.results());
    }
    let odd =
        paths_below(folder.path()).into_iter().find(|p| p.display().to_string().contains('#'));
    assert_eq!(odd, None, "a file that was begun is left");
}

/// Answers three requests and ends.
const DYING_BENCH: &str = r#"#!/bin/sh
if [ "$1" != remote ]; then exec BENCH "$@"; fi
head -n 3 | BENCH "$@"
"#;

#[test]
fn a_bench_that_dies_is_warned_of_once_and_the_suite_ends() {
    let (_folder, url) = team();
    let first = Clone::new(&url);
    first.suite(true);
    let clone = Clone::new(&url);
    let bench = PathBuf::from(clone.project.command(&[]).get_program()).with_file_name("bench");
    let dying = DYING_BENCH.replace("BENCH", &bench.to_string_lossy());
    fs::write(clone.project.path("dying"), dying).expect("writes");
    install(&clone.project.path("dying"), &clone.project.path("bin/bench"));
    let output = clone.suite(true);
    assert!(warning(&output).contains("`bench remote` has ended"), "{output}");
    assert_eq!(clone.project.results(), first.project.results());
}

#[test]
fn trials_of_a_bundle_are_not_shared_without_their_samples() {
    let (folder, url) = team();
    let first = Project::without_pictures();
    first.suite();
    first.ok(&["bundle", "export", "all.jsonl.gz", "--profile", "test"]);
    let second = Project::without_pictures();
    fs::copy(first.path("all.jsonl.gz"), second.path("all.jsonl.gz")).expect("copies");
    second.ok(&["bundle", "import", "all.jsonl.gz"]);
    let args = ["suite", "--profile", "test", "--remote", &url, "--remote-write", "true"];
    // Of a setting that did not start there are none.
    let (fetched, refused) = moved(&second.ok(&args));
    let trials = first.stored_trials();
    assert!(fetched == 0 && refused < trials / 4, "{refused} of {trials}");
    for (path, record) in files(&folder.path().join("actions")) {
        assert!(!String::from_utf8_lossy(&record).contains("left_out"), "{}", path.display());
    }
    // What was measured before there was a remote store is shared by the next run.
    assert_eq!(moved(&first.ok(&args)), (0, trials - refused));
}

#[test]
fn what_is_no_url_of_a_store_changes_nothing_and_is_not_quoted() {
    let project = Project::new();
    for url in ["gs://team/trials", "s3://user:planted-password@team/trials", "/srv/trials"] {
        let output = project.run(&["suite", "--profile", "test", "--remote", url]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("no URL of a remote store") && !error.contains(url), "{error}");
        assert!(!project.path("artifacts").exists());
    }
}
