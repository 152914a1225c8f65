//! Layouts of several cards as what a suite sweeps and searches, on the simulator's eight.

use std::fs;

use bench_core::schema::{LayoutsResult, SweepResult};

use super::{Project, common::copy};

const PROFILE: &str = include_str!("../../../bench/profiles/sim-layouts.toml");

fn project() -> Project {
    let project = Project::new();
    copy(&["bench/models/h100x8-qwen2.5-7b.json"], project.0.path());
    project
}

/// What a card gives is what all give over their number, in the figures of the plot too.
#[test]
fn figures_of_a_card_are_shares_of_those_of_all() {
    let project = project();
    let few = |text: &str, requests: u32| {
        text.replace(&format!("requests = {requests}\n"), "requests = 100\n")
    };
    let short = [2_000, 800, 160].iter().fold(PROFILE.to_owned(), |text, n| few(&text, *n));
    let short =
        short.replace("starts = 3", "starts = 1").replace("duration_s = 30", "duration_s = 5");
    project.write_profile(&short);
    project.suite();
    let read = |name: &str| {
        fs::read(project.path(&format!("results/test/{name}"))).expect("it is written")
    };
    let layouts: LayoutsResult = serde_json::from_slice(&read("layouts.json")).expect("layouts");
    let swept: SweepResult =
        serde_json::from_slice(&read("layout_optimization.json")).expect("the sweep");
    let of = |layout: &str, load: &str| {
        let point = layouts.layouts.iter().find(|p| p.layout == layout && p.load == load);
        point.unwrap_or_else(|| panic!("{layout} on {load}"))
    };
    assert_eq!((of("TP 2, DP 2", "burst").cards, of("one card", "users-8").cards), (4, 1));
    let a_card = of("TP 2, DP 2", "burst").tokens_per_s_per_card.mean;
    let of_all = swept.points.iter().find(|p| p.load == "burst" && p.label == "TP 2, DP 2");
    let of_all = of_all.expect("it was swept").metrics["output_tokens_per_s"].mean;
    assert!((4.0 * a_card / of_all - 1.0).abs() < 1e-6, "{a_card} of {of_all}");
    assert!(layouts.layouts.iter().all(|point| point.load != "production"), "its rate is given");
    let user = |layout: &str| of(layout, "latency-1").tokens_per_s_per_user.mean;
    assert!(user("TP 4") > 1.5 * user("DP 4"));
    let report = String::from_utf8(read("OPTIMIZATION_RESULTS.md")).expect("UTF-8");
    assert!(report.contains("![Layouts](layouts.svg)"));
}

/// The search tries layouts before the rest, says between what a predicted one lies, and knows figures of a card.
#[test]
fn a_search_over_layouts_begins_with_the_layout() {
    let project = project();
    let (before, _) = PROFILE.split_once("[sweep.layout]").expect("a sweep");
    let before = before
        .replace(
            "\"baseline\", \"choose\", \"comprehensive\", \"compare\", \"visualize\", \"document\"",
            "\"choose\"",
        )
        .replace("requests = 2000", "requests = 200");
    project.write_profile(&format!(
        "{before}
[tune]
budget_engine_minutes = 40
model = \"h100x8-qwen2.5-7b\"
[tune.flags]
tensor-parallel-size = [1, 2, 4]
data-parallel-size = [1, 2, 4]
max-num-seqs = [256, 1024]
[objective]
maximize = \"output_tokens_per_s_per_card\"
on = \"burst\"
[cost]
"
    ));
    project.suite();
    let page = fs::read_to_string(project.path("results/test/tuning.md")).expect("the page");
    assert!(page.contains("of 8 layouts were started"), "{page}");
    let predicted = page.lines().find(|line| line.starts_with("| 2 |")).expect("a start");
    assert!(predicted.contains('('), "{predicted}");
}
