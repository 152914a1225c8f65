//! Cases in which the advice was wrong once, as files in `tests/cases/`.

use std::fs;

use serde_json::Value;

use super::{NO_PICTURES, Project};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");

/// A case in a project of its own; `extra` comes before everything in the profile.
fn case(name: &str, extra: &str) -> Project {
    let project = Project::new();
    // The noise of a quiet host: what these cases are about is no matter of chance.
    // One that stays: what meets a limit hangs on it.
    let model = include_str!("../cases/model.json");
    let mut model: Value = serde_json::from_str(model).expect("a model");
    model["noise"] = serde_json::json!({ "start_ppm": 8_000, "step_ppm": 15_000 });
    let path = project.path("bench/models/h100-qwen2.5-7b.json");
    fs::write(path, model.to_string()).expect("writes");
    let profile = fs::read_to_string(format!("{CASES}/{name}.toml")).expect("the case is there");
    project.write_profile(&format!("{extra}{profile}"));
    let data = project.path("bench/profiles/data");
    fs::create_dir_all(&data).expect("creates");
    fs::copy(format!("{CASES}/data/mine.jsonl"), data.join("mine.jsonl")).expect("copies");
    project
}

fn run(project: &Project) -> (i32, String) {
    let output = project.run(&["suite", "--profile", "test"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    (output.status.code().expect("an exit code"), text)
}

fn recommended(project: &Project) -> Option<String> {
    fs::read_to_string(project.path("results/test/recommended.yaml")).ok()
}

#[test]
fn a_setting_that_meets_the_limit_goes_before_the_defaults_that_do_not() {
    let project = case("slo", NO_PICTURES);
    let (code, text) = run(&project);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Deploy max-num-seqs 128."), "{text}");
    assert!(text.contains("Limit: TPOT P95 ≤ 20 ms on burst is met: "), "{text}");
    let yaml = recommended(&project).expect("a recommendation");
    assert!(yaml.contains("\nmax-num-seqs: 128\n"), "{yaml}");
    // The same under a limit that nothing meets.
    let profile = fs::read_to_string(format!("{CASES}/slo.toml")).expect("reads");
    let strict = profile.replace("tpot_p95_ms = 20", "tpot_p95_ms = 5");
    project.write_profile(&format!("{NO_PICTURES}{strict}"));
    let (code, text) = run(&project);
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("No setting meets the limits: nothing is recommended."), "{text}");
    assert!(
        text.contains("Nearest: max-num-seqs 32, which violates TPOT P95 ≤ 5 ms on burst."),
        "{text}"
    );
    assert_eq!(recommended(&project), None, "what an earlier run recommended is gone");
    let report = fs::read_to_string(project.path("results/test/OPTIMIZATION_RESULTS.md"));
    assert!(report.expect("a report").contains("**No setting meets the limits"));
}

#[test]
fn a_search_goes_on_although_the_defaults_violate_the_limit() {
    let project = case("slotune", "");
    let output = project.run(&["suite", "--profile", "test", "--only", "compare,confirm"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{text}");
    // The other flag of the winner does nothing beside this one.
    assert!(text.contains("Deploy max-num-seqs 128."), "{text}");
    assert!(text.contains("Limit: TPOT P95 ≤ 20 ms on burst is met: "), "{text}");
}

#[test]
fn chance_is_not_recommended() {
    let project = case("aa", NO_PICTURES);
    let (code, text) = run(&project);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Keep vLLM's defaults."), "{text}");
    let yaml = recommended(&project).expect("the defaults");
    assert!(!yaml.contains("\nmax-num-seqs:"), "{yaml}");
}

#[test]
fn what_does_not_start_fails_and_recommends_nothing() {
    let project = case("no-memory", "");
    fs::create_dir_all(project.path("results/test")).expect("creates");
    fs::write(project.path("results/test/recommended.yaml"), "max-num-seqs: 7\n").expect("writes");
    let (code, text) = run(&project);
    assert_eq!(code, 1, "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("Does not count: default: KV cache memory"), "{text}");
    assert!(text.contains("Nothing is recommended"), "{text}");
    assert_eq!(recommended(&project), None);
}

/// `--fresh` measures the same again in the simulator: every stage says so all the same.
#[test]
fn fresh_says_of_each_stage_that_it_is_done() {
    let project = case("no-memory", "");
    let profile = fs::read_to_string(project.path("bench/profiles/test.toml")).expect("reads");
    let fits = profile.replace("gpu-memory-utilization = 0.01", "gpu-memory-utilization = 0.9");
    project.write_profile(&fits);
    project.suite();
    let text = project.ok(&["suite", "--profile", "test", "--fresh", "--message-format", "json"]);
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let stages = events.iter().filter(|event| event["event"] == "stage").count();
    assert_eq!(stages, 7, "{text}");
    let last = events.last().expect("an end");
    assert_eq!((&last["outcome"], &last["exit_code"]), (&"done".into(), &0.into()));
    let decided = events.iter().find(|event| event["event"] == "decision").expect("a decision");
    assert!(decided["command"].as_str().expect("a command").starts_with("vllm serve MODEL "));
}

#[test]
fn a_gate_tells_what_cannot_be_judged_from_a_regression() {
    let project = Project::without_pictures();
    project.suite();
    project.ok(&["baseline", "save", "before", "--profile", "test"]);
    let saved = fs::read(project.path("baselines/before.json")).expect("reads");
    // Nobody is asked, and nothing is replaced.
    let again = project.run(&["baseline", "save", "before", "--profile", "test"]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(fs::read(project.path("baselines/before.json")).expect("reads"), saved);
    project.ok(&["baseline", "save", "before", "--yes", "--profile", "test"]);

    let code = |before: &str, gate: &[&str]| {
        let args = [&["compare", before, "test"], gate].concat();
        project.run(&args).status.code().expect("an exit code")
    };
    assert_eq!(code("before", &["--gate"]), 0, "the same trials");
    fs::write(project.path("baselines/damaged.json"), &saved[..saved.len() / 2]).expect("writes");
    assert_eq!(code("damaged", &["--gate"]), 5);
    assert_eq!(code("damaged", &[]), 1);
    let error = |before: &str| {
        let output = project.run(&["compare", before, "test", "--gate"]);
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        (output.status.code().expect("an exit code"), error)
    };
    let (_, text) = error("damaged");
    for part in ["baselines/damaged.json is damaged (", "git checkout -- ", "baseline save"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What never was a baseline is a mistake of the command line.
    fs::write(project.path("Cargo.toml"), "[package]\nname = \"x\"\n").expect("writes");
    fs::write(project.path("package.json"), "{\"name\": \"x\"}").expect("writes");
    for file in ["Cargo.toml", "package.json", "results/test/report.html"] {
        let (code, text) = error(file);
        assert_eq!(code, 2, "{file}: {text}");
        let expected = format!("error: {file} is no baseline and no result: expected what");
        assert!(text.starts_with(&expected), "{text}");
    }
    fs::write(project.path("baselines/README.md"), "notes").expect("writes");
    fs::create_dir_all(project.path("results/empty")).expect("creates");
    let (_, text) = error("nothing-like-it");
    let expected =
        "no result or baseline `nothing-like-it`: there are before, damaged, test, week2";
    assert!(text.contains(expected), "{text}");
    let other = project.path("results/test/comparison.json");
    assert_eq!(code(other.to_str().expect("UTF-8"), &["--gate"]), 2, "it is no baseline");
    for sides in [["before#baseline", "test"], ["before", "test"]] {
        let all = project.ok(&["compare", sides[0], sides[1], "--all"]);
        assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
        assert!(all.contains(" E2E P99 on steady\n"), "{all}");
    }
}
