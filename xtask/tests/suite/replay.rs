//! How much faster a recorded trace may be replayed within the limits.

use std::{collections::BTreeMap, fs};

use bench_core::schema::{CapacityResult, Column};
use serde_json::Value;
use store::{Bundle, CarriedFile};

use super::Project;
use crate::common::paths_below;

/// Requests and the time of the last one, in ms: it comes in pairs, at 2 requests a second.
const ROWS: u64 = 121;
const LAST_MS: u64 = 60_000;

fn trace() -> String {
    let row = |i: u64| {
        let at_ms = i * 500 - if i % 2 == 1 { 400 } else { 0 };
        let (input, output) = (8 + 7 * i % 33, 4 + 5 * i % 21);
        format!(
            "{{\"timestamp\": {}, \"input_length\": {input}, \"output_length\": {output}, \
             \"hash_ids\": [{i}]}}\n",
            60_000 + at_ms
        )
    };
    (0..ROWS).map(row).collect()
}

const PROFILE: &str = r#"
stages = ["provision", "baseline"]
[engine]
kind = "simulator"
model = "tiny"
[baseline.args]
max-num-seqs = 2
[[load]]
name = "mine"
data = { file = "trace.jsonl", format = "mooncake" }
arrival = { process = "replay", speed_up = 1.5 }
[objective]
maximize = "output_tokens_per_s"
on = "mine"
[slo]
on = "mine"
e2e_p95_ms = 100
[capacity]
load = "mine"
precision_percent = 10
starts = 1
traffic_requests_per_second = 100
reserve_servers = 1
[cost]
cards = 2
card_dollars_per_hour = 3
"#;

/// What each stored trial offered: requests per second by the times at which they came.
fn offered(project: &Project) -> BTreeMap<String, f64> {
    let paths = paths_below(&project.path("artifacts/actions/trial"));
    let of_trial = |path: &std::path::PathBuf| {
        let action: Value = serde_json::from_slice(&fs::read(path).expect("reads")).expect("JSON");
        let arrival = &action["action"]["preimage"]["load"]["arrival"];
        let speed_up: f64 = arrival["speed_up"].as_str().expect("a decimal").parse().expect("one");
        let folder = path.parent().and_then(|p| p.file_name()).expect("a folder").to_string_lossy();
        let key = format!("{folder}{}", path.file_stem().expect("a name").to_string_lossy());
        (key, (ROWS - 1) as f64 / (LAST_MS as f64 / 1e3) * speed_up)
    };
    paths.iter().map(of_trial).collect()
}

#[test]
fn the_capacity_of_a_replay_is_the_rate_at_which_it_came() {
    let project = Project::new();
    project.write_profile(PROFILE);
    fs::write(project.path("bench/profiles/trace.jsonl"), trace()).expect("writes");
    project.suite();
    let offered = offered(&project);
    let read = |name: &str| {
        let path = project.path("results/test").join(name);
        let file: CapacityResult =
            serde_json::from_slice(&fs::read(path).expect("reads")).expect("a result");
        file
    };
    let capacity = read("capacity.json");
    for (label, column) in [("baseline", Column::Baseline), ("default", Column::Default)] {
        let points = capacity.points.iter().filter(|point| point.label == label);
        let rates: Vec<(f64, bool)> = points
            .map(|point| {
                let (_, told) = point.load.split_once('@').expect("the rate is in the name");
                let told: f64 = told.parse().expect("a number");
                let came = offered[&point.trials[0].key.to_string()];
                assert!((told / came - 1.0).abs() < 1e-4, "{label}: {told} is said, {came} came");
                let is_met = point.metrics["e2e_p95_ms"].mean <= 100.0 && !point.saturated;
                (came, is_met)
            })
            .collect();
        assert!(rates.iter().any(|(came, _)| (came - 3.0).abs() < 1e-9), "its own: {rates:?}");
        let met = rates.iter().filter(|(_, met)| *met).map(|(came, _)| *came).fold(0.0, f64::max);
        let violated = rates.iter().filter(|(_, met)| !met).map(|(came, _)| *came);
        let violated = violated.fold(f64::INFINITY, f64::min);
        assert!(met > 3.0 && met < violated && violated <= 1.11 * met, "{label}: {rates:?}");
        let found = &capacity.comparisons[0].columns[&column];
        assert!((found.mean / met - 1.0).abs() < 1e-4, "{label}: {found:?}, {rates:?}");
        let traffic = capacity.traffic.as_ref().expect("the profile names one");
        let fleet = traffic.fleets.iter().find(|fleet| fleet.label == label).expect("a fleet");
        let servers = |rate: f64| (100.0 / rate).ceil() as u32 + 1;
        assert_eq!(fleet.servers.servers, servers(met), "{label}: {met} of 100 requests/s");
        assert_eq!(fleet.fewest.map(|fewest| fewest.servers), Some(servers(violated)), "{label}");
        assert_eq!(fleet.servers.cards, 2 * servers(met), "{label}");
        assert_eq!(fleet.servers.dollars_per_hour, Some(f64::from(6 * servers(met))), "{label}");
        let tokens_per_hour: u64 = (0..ROWS).map(|i| 4 + 5 * i % 21).sum::<u64>() * 3_600 * 100;
        let dollars = 1e6 * f64::from(6 * servers(met)) * ROWS as f64 / tokens_per_hour as f64;
        let told = fleet.servers.dollars_per_million_output_tokens.expect("a price");
        assert!((told / dollars - 1.0).abs() < 1e-9, "{label}: {told} and not {dollars}");
        println!("{label}: {} requests/s sustained, {violated} violates; {rates:?}", found.mean);
    }
    let page = fs::read_to_string(project.path("results/test/capacity.md")).expect("a page");
    assert!(page.contains("The highest rate of `mine` that a server sustains"), "{page}");
    assert!(page.contains("## Servers for 100 requests/s"), "{page}");
    assert!(page.contains("rounded up, and 1 in reserve"), "{page}");
}

/// One bundle is all that another machine needs, and nothing there is written over.
#[test]
fn a_bundle_with_its_files_rebuilds_the_results_of_an_own_trace() {
    let project = Project::new();
    let profile = PROFILE.replace("file = \"trace", "file = \"data/trace");
    fs::write(project.path("bench/profiles/own.toml"), &profile).expect("writes");
    fs::create_dir_all(project.path("bench/profiles/data")).expect("creates");
    fs::write(project.path("bench/profiles/data/trace.jsonl"), trace()).expect("writes");
    project.ok(&["suite", "--profile", "own"]);
    let bare = project.ok(&["bundle", "export", "bare.jsonl.gz", "--profile", "own"]);
    assert!(
        bare.replace('\n', " ").contains("data/trace.jsonl; or export it --with-files"),
        "{bare}"
    );
    let told =
        project.ok(&["bundle", "export", "all.jsonl.gz", "--with-files", "--profile", "own"]);
    assert!(told.contains("with own.toml, data/trace.jsonl: give it only to those"), "{told}");
    let bytes = |name: &str| fs::read(project.path(name)).expect("reads");
    assert!(bytes("all.jsonl.gz").len() > bytes("bare.jsonl.gz").len());

    let elsewhere = Project::new();
    fs::write(elsewhere.path("all.jsonl.gz"), bytes("all.jsonl.gz")).expect("writes");
    fs::create_dir_all(elsewhere.path("bench/profiles/data")).expect("creates");
    let place = elsewhere.path("bench/profiles/data/trace.jsonl");
    fs::write(&place, "mine\n").expect("writes");
    let output = elsewhere.run(&["bundle", "import", "all.jsonl.gz"]);
    let error = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    assert!(!output.status.success() && error.contains("nothing was stored"), "{error}");
    assert_eq!(fs::read_to_string(&place).expect("reads"), "mine\n", "it stays");
    assert!(!elsewhere.path("bench/profiles/own.toml").exists());
    assert!(!elsewhere.path("artifacts/actions").exists(), "no trial came");

    fs::remove_file(&place).expect("removes");
    let told = elsewhere.ok(&["bundle", "import", "all.jsonl.gz"]);
    assert!(told.contains("wrote ") && !told.contains("cannot be rebuilt"), "{told}");
    elsewhere.ok(&["suite", "--profile", "own", "--offline"]);
    for name in ["baseline.json", "capacity.json", "capacity.md"] {
        let of =
            |project: &Project| fs::read(project.path("results/own").join(name)).expect("reads");
        assert_eq!(of(&project), of(&elsewhere), "{name}");
    }
    // What is there already is no other file.
    assert!(!elsewhere.ok(&["bundle", "import", "all.jsonl.gz"]).contains("wrote "));

    // A name that leads back in is one of the same file.
    let around = PROFILE.replace("file = \"trace", "file = \"../profiles/data/trace");
    fs::write(project.path("bench/profiles/own.toml"), around).expect("writes");
    let told =
        project.ok(&["bundle", "export", "all.jsonl.gz", "--with-files", "--profile", "own"]);
    assert!(told.contains("with own.toml, data/trace.jsonl: give"), "{told}");

    let mut bundle = Bundle::from_bytes(&bytes("all.jsonl.gz")).expect("a bundle");
    bundle.files.push(CarriedFile::new("sim.lock".to_owned(), "theirs".to_owned()));
    let empty = Project::new();
    let before = paths_below(&empty.path("")).len();
    fs::write(empty.path("all.jsonl.gz"), bundle.to_bytes().expect("is small")).expect("writes");
    let output = empty.run(&["bundle", "import", "all.jsonl.gz"]);
    let error = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    assert!(error.contains("own.toml names no file \"sim.lock\""), "{error}");
    assert_eq!(paths_below(&empty.path("")).len(), before + 1, "no trial and no file came");

    let outside = PROFILE.replace("file = \"trace", "file = \"../trace");
    fs::write(project.path("bench/trace.jsonl"), trace()).expect("writes");
    fs::write(project.path("bench/profiles/outside.toml"), outside).expect("writes");
    project.ok(&["suite", "--profile", "outside"]);
    let output =
        project.run(&["bundle", "export", "x.jsonl.gz", "--with-files", "--profile", "outside"]);
    let error = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    assert!(error.contains("lies outside") && error.contains("move it there"), "{error}");
    assert!(!project.path("x.jsonl.gz").exists());
}
