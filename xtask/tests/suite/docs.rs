//! What the documents promise is run.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use crate::common::{copy, files_below, tempdir, xtask};
use profile::{Stage, stage::STAGES};

const SOURCES: [&str; 14] = [
    "baselines/week2.json",
    "bench/models/tiny.json",
    "bench/models/h100-qwen2.5-7b.json",
    "bench/models/h100-qwen2.5-7b-start.json",
    "bench/models/measured/h100-qwen2.5-7b-a.jsonl",
    "bench/models/measured/h100-qwen2.5-7b-b.jsonl",
    "bench/models/measured/h100-qwen2.5-7b-c.jsonl",
    "bench/profiles/sim.toml",
    "bench/profiles/vllm-cuda.toml",
    "bench/profiles/vllm-cuda.lock",
    "bench/profiles/data/trace.jsonl",
    "bench/profiles/data/prompts.jsonl",
    "bench/profiles/data/sharegpt.json",
    "bench/profiles/h100-fit.toml",
];

/// A small profile, so that the whole suite takes a second.
const SMALL: &str = r#"
[engine]
kind = "simulator"
model = "tiny"
[baseline]
starts = 1
[[load]]
name = "burst"
requests = 8
arrival = "all-at-once"
input_tokens = [8, 40]
output_tokens = [4, 24]
seed = 1
[sweep.chunked-prefill]
flag = "max-num-batched-tokens"
values = [64, 128]
[objective]
maximize = "output_tokens_per_s"
on = "burst"
"#;

fn project() -> tempfile::TempDir {
    let project = tempdir();
    copy(&SOURCES, project.path());
    project
}

fn run(project: &Path, args: &[&str]) -> Output {
    xtask(project, args).output().expect("the program runs")
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(path).expect("reads")
}

/// A result of `vllm bench serve`.
const OF_VLLM: &str =
    r#"{"model_id": "m", "completed": 2, "request_throughput": 1.5, "output_throughput": 20}"#;

/// What stands in a document for the same command on a small profile, in an order in which each has
/// what it needs.
const RUNS: [(&str, &str); 36] = [
    ("suite", "suite -p small"),
    ("suite --profile h100-qwen2.5-7b", "suite -p small"),
    ("suite --profile sim-answers", "suite -p small"),
    ("suite --profile sim-speculation", "suite -p small"),
    ("suite --profile sim-layouts", "suite -p small"),
    ("suite --profile h200-answers", "suite -p small"),
    ("suite --profile sim-h200x2-layouts", "suite -p small"),
    ("suite --profile h200x2-layouts", "suite -p small"),
    (
        "suite [--profile P] [--only A,B] [--without C,D] [--dry-run] [--fresh]",
        "suite -p small --only compare --fresh",
    ),
    ("suite --profile h100-qwen2.5-7b-week3", "suite -p small --without chunked-prefill"),
    ("suite --profile vllm-cuda --dry-run", "suite --profile vllm-cuda --dry-run"),
    ("stage chunked-prefill", "stage chunked-prefill -p small"),
    ("status", "status -p small"),
    ("explain STAGE\\|TRIAL", "explain baseline -p small"),
    ("graph", "graph -p small"),
    ("baseline save NAME", "baseline save kept -p small"),
    ("compare A B [--gate] [--format markdown]", "compare kept small --gate --format markdown"),
    ("compare A B", "compare kept small"),
    ("bundle export\\|import FILE", "bundle export results/small/bundle.jsonl.gz -p small"),
    ("bundle export sim.jsonl.gz", "bundle export small.jsonl.gz -p small"),
    ("bundle import FILE", "bundle import small.jsonl.gz"),
    ("suite --profile P --offline", "suite -p small --offline"),
    ("baseline import FILE NAME --load LOAD", "baseline import vllm.json imported --load burst"),
    ("doctor", "doctor -p small"),
    // Without a card it ends with 1, as it should.
    ("doctor --profile vllm-cuda", "status --profile vllm-cuda"),
    ("verify", "verify"),
    // A folder that has profiles is refused.
    ("init", "init --help"),
    ("gc", "gc"),
    ("launch PLAN.json", "launch PLAN --out launched"),
    ("completions bash", "completions bash"),
    (
        "stage calibrate-simulator --profile h100-fit",
        "stage calibrate-simulator --profile h100-fit --dry-run",
    ),
    (
        "stage calibrate-simulator --profile h200-qwen2.5-7b --offline",
        "stage calibrate-simulator --profile h100-fit --dry-run",
    ),
    ("suite --message-format json", "suite -p small --message-format json"),
    // On the simulator there are no nights.
    ("watch", "watch --help"),
    ("reference", "reference"),
    ("help", "help"),
];

#[test]
fn every_command_of_the_readme_and_its_pages_runs() {
    let project = project();
    let project = project.path();
    fs::write(project.join("bench/profiles/small.toml"), SMALL).expect("writes");
    fs::write(project.join("vllm.json"), OF_VLLM).expect("writes");

    let pages = ["README.md", "docs/commands.md", "docs/trust.md"].map(read).concat();
    let pages = pages.replace("\n  ", " ");
    let told = pages.split("cargo xtask ").skip(1).map(|rest| {
        let end = rest.find(['`', '#', '\n', ')']).unwrap_or(rest.len());
        rest[..end].trim()
    });
    let known: BTreeSet<&str> = RUNS.iter().map(|(told, _)| *told).collect();
    let unknown: Vec<&str> = told.filter(|command| !known.contains(command)).collect();
    assert!(
        unknown.is_empty(),
        "the pages have commands that nothing runs, add them to RUNS: {unknown:?}"
    );

    for (_, command) in RUNS {
        let plan = || {
            let logs = fs::read_dir(project.join("artifacts/logs")).expect("the suite has logs");
            let mut paths = logs.map(|log| log.expect("an entry").path());
            let plan = paths.find(|path| path.to_string_lossy().ends_with(".plan.json"));
            plan.expect("a launch had a plan").display().to_string()
        };
        let command = if command.contains("PLAN") {
            command.replace("PLAN", &plan())
        } else {
            command.to_owned()
        };
        let output = run(project, &command.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(files_below(&project.join("launched")) > 0, "a launch leaves its samples");
}

/// An installed program needs no checkout: `init` makes a folder one, with every file of git.
#[test]
fn an_installed_program_brings_its_profiles() {
    let folder = tempdir();
    let folder = folder.path();
    let error = run(folder, &["doctor"]);
    assert_eq!(error.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&error.stderr).contains("`xtask init`"), "{error:?}");
    assert!(run(folder, &["init"]).status.success());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut list = std::process::Command::new("git");
    list.args(["ls-files", "bench/profiles", "bench/models", "baselines"]).current_dir(&root);
    // A build from an archive has no git.
    let names = list.output().map(|output| output.stdout).unwrap_or_default();
    let names = String::from_utf8(names).expect("UTF-8");
    for name in names.lines().filter(|name| !name.contains("-ci.")) {
        let found = fs::read(folder.join(name));
        let found = found.unwrap_or_else(|_| panic!("xtask/src/main.rs lacks {name}"));
        assert!(found == fs::read(root.join(name)).expect("reads"), "{name}");
    }
    let doctor = run(folder, &["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(" → next"), "{doctor:?}");
    let dry = run(folder, &["suite", "--dry-run"]);
    assert!(dry.status.success(), "{dry:?}");
    assert_eq!(run(folder, &["init"]).status.code(), Some(2), "nothing is replaced");
}

/// Relative links lead to files, and the index for programs that read names every page.
#[test]
fn every_link_of_the_pages_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).expect("reads");
    let docs = docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().display()));
    let docs: Vec<String> = docs.filter(|name| name.ends_with(".md")).collect();
    let index = read("llms.txt");
    let left_out: Vec<&String> = docs.iter().filter(|page| !index.contains(*page)).collect();
    assert!(left_out.is_empty(), "llms.txt lacks {left_out:?}");

    let others = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "llms.txt"];
    let mut broken = Vec::new();
    for page in others.into_iter().chain(docs.iter().map(String::as_str)) {
        let folder = Path::new(page).parent().expect("a page has a folder");
        for link in read(page).split("](").skip(1) {
            let target = link.split([')', '#']).next().expect("a split has a first part");
            let is_elsewhere = target.is_empty() || target.contains("://");
            if !is_elsewhere && !root.join(folder).join(target).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// The blocks of TOML in the guides, each added to the profile that it names or to `sim`.
#[test]
fn every_table_of_the_guides_is_right() {
    let project = project();
    let project = project.path();
    let mut count = 0;
    for guide in ["docs/how-to.md", "docs/tutorial.md"] {
        let text = read(guide);
        for block in text.split("```toml").skip(1) {
            let (base, block) = block.split_once('\n').expect("a block has lines");
            let base = if base.trim().is_empty() { "sim" } else { base.trim() };
            let block = block.split("```").next().expect("a block has an end");
            let profile = read(&format!("bench/profiles/{base}.toml"));
            fs::write(project.join("bench/profiles/mine.toml"), profile + "\n" + block)
                .expect("writes");
            let output = run(project, &["suite", "--profile", "mine", "--dry-run"]);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{guide}:\n{block}\n{error}");
            count += 1;
        }
    }
    assert_eq!(count, 12, "the guides have blocks");
}

/// What a card will have to do is told before anything is installed.
#[test]
fn a_dry_run_needs_no_engine() {
    let project = project();
    let project = project.path();
    let output = run(project, &["suite", "--profile", "vllm-cuda", "--dry-run"]);
    let text = crate::common::unfolded(&String::from_utf8(output.stdout).expect("UTF-8"));
    let plan = text.lines().find(|line| line.starts_with(" plan")).expect("a plan");
    assert!(plan.contains("launches to run, about") && plan.contains(": 0 cached"), "{plan}");
    assert!(text.contains("until then nothing counts as measured"), "{text}");
    assert_eq!(files_below(&project.join("artifacts")), 0, "a dry run leaves nothing");
    let doctor = run(project, &["doctor", "--profile", "vllm-cuda"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains(" GPU ") && text.contains("vllm 0.22.1"), "{text}");
}

/// A sweep and a load are added as data: a table each, and nothing else changes.
#[test]
fn a_sweep_and_a_load_take_a_table_and_no_code() {
    let project = project();
    let project = project.path();
    let added = r#"
[[load]]
name = "mine"
requests = 4
arrival = { process = "constant", requests_per_second = 50 }
input_tokens = 16
output_tokens = 4
[sweep.my-seqs]
flag = "max-num-seqs"
values = [2, 4]
loads = ["mine"]
"#;
    fs::write(project.join("bench/profiles/mine.toml"), format!("{SMALL}{added}")).expect("writes");
    let output = run(project, &["suite", "-p", "mine"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = project.join("results/mine");
    let sweep = fs::read(results.join("my_seqs_optimization.json")).expect("the sweep's result");
    let sweep: serde_json::Value = serde_json::from_slice(&sweep).expect("JSON");
    let points = sweep["points"].as_array().expect("points");
    assert!(points.iter().any(|point| point["label"] == "4" && point["load"] == "mine"));
    assert!(results.join("sweep_my_seqs.svg").is_file(), "it has its plot");
    let report = fs::read_to_string(results.join("OPTIMIZATION_RESULTS.md")).expect("the report");
    assert!(report.contains("my-seqs"), "and its chapter");
}

/// The page of the architecture has the stages as their table has them.
#[test]
fn stages_are_as_the_architecture_says() {
    let list = |names: Vec<&str>| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let names = |stages: &[&'static Stage]| list(stages.iter().map(|stage| stage.name).collect());
    let mut table =
        "| Stage | needs | reads too, where it runs | writes |\n|---|---|---|---|\n".to_owned();
    for stage in STAGES {
        let (name, needs, reads) = (names(&[stage]), names(stage.needs), names(stage.reads));
        table += &format!("| {name} | {needs} | {reads} | {} |\n", list(stage.files.to_vec()));
    }
    println!("{table}");
    assert!(read("ARCHITECTURE.md").contains(&table), "ARCHITECTURE.md has other stages:\n{table}");
}

/// What stands for one of each kind, and the number of files that have it.
const ADDED: [(&str, &[&str], usize); 7] = [
    ("format of a data file", &["ShareGpt"], 3),
    ("metric", &["\"running_mean\""], 1),
    ("plot", &["throughput::draw", "throughput_optimization_comparison", "plots/throughput.rs"], 3),
    ("stage", &["CalibrateSimulator", "\"calibrate-simulator\"", "\"calibrated_model.json\""], 3),
    ("engine", &["EndpointConfig", "endpoint::Endpoint"], 5),
    ("place to run launches", &["SlurmConfig", "slurm::Slurm"], 6),
    ("flag's knowledge", &["\"stream-interval\""], 1),
];

/// What was added as code lies where the architecture's table says, and nowhere else.
#[test]
fn adding_touches_what_the_architecture_promises() {
    let architecture = read("ARCHITECTURE.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    let crates =
        ["analysis", "engines", "profile", "report"].map(|name| format!("xtask/{name}/src"));
    let folders = ["xtask/src", "bench/src", "bench/core/src"].map(str::to_owned);
    for folder in folders.iter().chain(&crates) {
        sources_below(&root, folder, &mut sources);
    }
    for (thing, words, count) in ADDED {
        let row = architecture.lines().find(|line| line.starts_with(&format!("| {thing} |")));
        let row = row.unwrap_or_else(|| panic!("no row `{thing}`"));
        let promised: Vec<&str> = row.split('`').filter(|part| part.contains('/')).collect();
        let has = |(name, text): &&(String, String)| {
            words.iter().any(|word| text.contains(word) || name.ends_with(word))
        };
        let touched: Vec<&str> = sources.iter().filter(has).map(|(name, _)| &**name).collect();
        assert_eq!(touched.len(), count, "{thing}: {touched:?}");
        for name in &touched {
            let foreseen = promised.iter().any(|path| name.starts_with(path));
            assert!(foreseen, "{thing}: {name} is not in the table");
        }
        for path in promised {
            let is_touched = touched.iter().any(|name| name.starts_with(path));
            assert!(is_touched, "{thing}: {path} has nothing of it");
        }
    }
}

/// Names and texts of the sources below a folder, those of tests left out.
fn sources_below(root: &Path, folder: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder of sources") {
        let entry = entry.expect("an entry");
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        let is_of_tests =
            ["tests", "fixture", "snapshots"].iter().any(|part| name.contains(&format!("/{part}")));
        if is_of_tests {
            continue;
        }
        if entry.path().is_dir() {
            sources_below(root, &name, found);
        } else if name.ends_with(".rs") || name.ends_with(".j2") {
            found.push((name, fs::read_to_string(entry.path()).expect("UTF-8")));
        }
    }
}

/// Results in git, those of every stage, are as `docs/schemas/result.json` says.
#[test]
fn results_are_as_their_schema_says() {
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("reads")).expect("JSON")
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut compiler = boon::Compiler::new();
    let schema = json(&root.join("docs/schemas/result.json"));
    compiler.add_resource("result.json", schema).expect("a schema");
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("result.json", &mut schemas).expect("compiles");
    let mut paths = vec![root.join("baselines/week2.json")];
    for folder in ["results/sim", "results/h100-qwen2.5-7b", "results/h200-answers"] {
        let entries = fs::read_dir(root.join(folder)).expect("results in git");
        paths.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| {
            path.extension().is_some_and(|e| e == "json")
                && !path.ends_with("calibrated_model.json")
        }));
    }
    assert!(paths.len() > 15, "{paths:?}");
    for path in paths {
        let mut result = json(&path);
        let found = schemas.validate(&result, index);
        found.unwrap_or_else(|mistake| panic!("{}: {mistake}", path.display()));
        result["verdict"] = true.into();
        assert!(schemas.validate(&result, index).is_err(), "an unknown key is a mistake");
    }
}

/// Commands that speak to programs as they do to people: of a launch one JSON event a line.
const NOT_DOCUMENTED: [&str; 1] = ["launch"];

#[test]
fn every_command_says_in_json_what_is_documented() {
    let project = project();
    let project = project.path();
    fs::write(project.join("bench/profiles/small.toml"), SMALL).expect("writes");
    fs::write(project.join("vllm.json"), OF_VLLM).expect("writes");
    assert!(run(project, &["suite", "-p", "small"]).status.success());
    let result = fs::read(project.join("results/small/baseline.json")).expect("a result");
    let result: serde_json::Value = serde_json::from_slice(&result).expect("JSON");
    let trial = result["points"][0]["trials"][0]["key"].as_str().expect("a key");
    let plans = fs::read_dir(project.join("artifacts/logs")).expect("the suite has logs");
    let plan = plans
        .map(|log| log.expect("an entry").path())
        .find(|path| path.to_string_lossy().ends_with(".plan.json"));
    let plan = plan.expect("a launch had a plan").display().to_string();
    let commands = [
        "suite -p small",
        "suite -p small --dry-run",
        "stage baseline -p small",
        "status -p small",
        "explain baseline -p small",
        &format!("explain {trial} -p small"),
        "graph -p small",
        "baseline save kept -p small",
        "baseline import vllm.json imported --load burst",
        "compare kept small",
        "watch -p small",
        "bundle export small.jsonl.gz -p small",
        "bundle import small.jsonl.gz",
        "init",
        "doctor -p small",
        "verify",
        "gc --keep-days 0",
        "completions bash",
        "reference",
        &format!("launch {plan} --out launched"),
    ];
    let documented = read("docs/messages.md");
    let bare = tempdir();
    for command in commands {
        let args: Vec<&str> = command.split(' ').chain(["--message-format", "json"]).collect();
        let folder = if command == "init" { bare.path() } else { project };
        let output = run(folder, &args);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        // One night is too few.
        let code = if command.starts_with("watch") { 3 } else { 0 };
        assert_eq!(output.status.code(), Some(code), "{command}: {text}");
        assert!(!text.is_empty(), "{command} says nothing");
        for line in text.lines() {
            let said: serde_json::Value = serde_json::from_str(line).expect(line);
            let event = said["event"].as_str().unwrap_or_else(|| panic!("{command}: {line}"));
            let is_documented = documented.contains(&format!("`{event}`"));
            let is_free = NOT_DOCUMENTED.iter().any(|name| command.starts_with(name));
            assert!(is_documented || is_free, "{command}: {line}");
        }
    }
    let help = String::from_utf8(run(project, &["help"]).stdout).expect("UTF-8");
    let (_, list) = help.split_once("Commands:\n").expect("a list of commands");
    let list = list.split("\n\n").next().unwrap_or_default();
    // What is folded stands further in.
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for name in names.filter(|name| !["", "help"].contains(name)) {
        let is_run = commands.iter().any(|command| command.split(' ').next() == Some(name));
        assert!(is_run, "{name} is not run here");
    }
}

#[test]
fn messages_are_one_json_object_a_line_as_documented() {
    let project = project();
    let project = project.path();
    fs::write(project.join("bench/profiles/small.toml"), SMALL).expect("writes");
    let output = run(project, &["suite", "-p", "small", "--message-format", "json"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: BTreeSet<&str> = events.iter().filter_map(|e| e["event"].as_str()).collect();
    let documented = read("docs/messages.md");
    for name in &names {
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
    assert!(["plan", "stage", "stored", "left", "end"].iter().all(|name| names.contains(name)));
    assert_eq!((&events[0]["event"], &events[0]["format"]), (&"plan".into(), &2.into()));
    let end = &events[events.len() - 1];
    assert_eq!(end["outcome"], "done");
    assert_eq!(end["recommended"], "results/small/recommended.yaml");
    assert!(project.join("results/small/recommended.yaml").is_file());
    let stored: Vec<_> = events.iter().filter(|e| e["event"] == "stored").collect();
    assert!(stored.iter().all(|e| e["done"].as_u64() <= e["all"].as_u64()), "{stored:?}");
    assert!(stored.iter().all(|e| e["trial_name"].is_string()), "{stored:?}");
}
