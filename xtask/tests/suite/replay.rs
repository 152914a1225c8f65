//! How much faster a recorded trace may be replayed within the limits.

use std::{collections::BTreeMap, fs};

use bench_core::schema::{CapacityResult, Column};
use serde_json::Value;

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
        println!("{label}: {} requests/s sustained, {violated} violates; {rates:?}", found.mean);
    }
    let page = fs::read_to_string(project.path("results/test/capacity.md")).expect("a page");
    assert!(page.contains("The highest rate of `mine` that a server sustains"), "{page}");
}
