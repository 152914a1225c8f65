//! Comparisons that go on until they are decided, and loads that a start repeats.

use std::{collections::BTreeSet, fs};

use bench_core::schema::{CompareResult, Figures, Point, Role, StopReason};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Project;

/// One flag on a noisy machine. `max-num-seqs` of 4 is far better than 1; of 9 it is about as good as 8.
fn profile(default: u32, value: u32, starts: &str, more: &str) -> String {
    format!(
        "stages = [\"provision\", \"baseline\", \"choose\", \"comprehensive\", \"compare\", \"document\"]\n\
         [engine]\nkind = \"simulator\"\nmodel = \"noisy\"\n\
         [engine.args]\nmax-num-seqs = {default}\n\
         [baseline]\nstarts = {starts}\n\
         [[load]]\nname = \"burst\"\nrequests = 24\narrival = \"all-at-once\"\ninput_tokens = [8, 40]\n\
         output_tokens = [4, 24]\nseed = 1\n{more}\
         [sweep.max-num-seqs]\nvalues = [{value}]\n\
         [objective]\nmaximize = \"output_tokens_per_s\"\n"
    )
}

fn project(profile: &str) -> Project {
    let project = Project::new();
    let tiny = include_str!("../../../bench/models/tiny.json");
    let mut model: Value = serde_json::from_str(tiny).expect("a model");
    model["noise"]["start_ppm"] = 60_000.into();
    fs::write(project.path("bench/models/noisy.json"), model.to_string()).expect("writes");
    project.write_profile(profile);
    project
}

fn read<T: DeserializeOwned>(project: &Project, file: &str) -> T {
    let text = fs::read(project.path("results/test").join(file)).expect("the stage ran");
    serde_json::from_slice(&text).expect("a result")
}

fn comparison(project: &Project) -> CompareResult {
    read(project, "comparison.json")
}

fn starts(points: &[Point], role: Role) -> BTreeSet<u32> {
    let point = points.iter().find(|point| point.role == role).expect("a point");
    point.trials.iter().map(|trial| trial.replicate).collect()
}

#[test]
fn a_large_change_is_decided_at_the_first_look() {
    let project = project(&profile(1, 4, "{ min = 3, max = 10 }", ""));
    project.suite();
    let found = comparison(&project);
    let stopping = found.stopping.expect("the number of starts is not fixed");
    assert_eq!((stopping.starts, stopping.reason), (3, StopReason::Decided), "{stopping:?}");
    assert_eq!(stopping.looks, [3, 5, 7, 10]);
    assert!(stopping.level < 0.05);
}

#[test]
fn what_is_not_decided_goes_on_in_blocks_on_fresh_starts() {
    let project = project(&profile(8, 9, "{ min = 2, max = 5 }", ""));
    project.suite();
    let found = comparison(&project);
    let stopping = found.stopping.expect("the number of starts is not fixed");
    assert_eq!((stopping.starts, stopping.reason), (5, StopReason::MostStarts), "{stopping:?}");
    let row = &found.comparisons[0];
    assert!(row.columns.values().filter(|figure| figure.starts.len() == 5).count() == 2);
    let judged = read::<Figures>(&project, "comprehensive_optimized_benchmark.json").points;
    let swept = read::<Figures>(&project, "max_num_seqs_optimization.json").points;
    for (role, of_sweep) in [(Role::Default, Role::Default), (Role::Tuned, Role::Sweep)] {
        let fresh = starts(&judged, role);
        assert!(fresh.is_disjoint(&starts(&swept, of_sweep)), "what chose does not judge");
        let point = judged.iter().find(|point| point.role == role).expect("a point");
        let blocks: Vec<_> = point.trials.iter().map(|trial| trial.block).collect();
        assert_eq!(blocks, [0, 1, 2, 3, 4].map(Some));
    }
    let report = fs::read_to_string(project.path("results/test/OPTIMIZATION_RESULTS.md"));
    let report = report.expect("a report");
    assert!(report.contains("Stopped after 5 starts a side"), "{report}");
    let trials = project.stored_trials();
    project.suite();
    assert_eq!(project.stored_trials(), trials, "a second run asks for nothing");
}

#[test]
fn the_budget_ends_a_comparison() {
    let budget = "[budget]\nengine_minutes = 1\n";
    let project = project(&profile(8, 9, "{ min = 2, max = 40 }", budget));
    project.suite();
    let stopping = comparison(&project).stopping.expect("the number of starts is not fixed");
    assert_eq!(stopping.reason, StopReason::Budget, "{stopping:?}");
    assert!(stopping.engine_minutes <= 1.0 && stopping.starts < 40, "{stopping:?}");
}

#[test]
fn a_load_is_repeated_within_a_start() {
    let project = project(&profile(1, 4, "3", "repeats = 3\n"));
    project.suite();
    let found = comparison(&project);
    for figure in found.comparisons[0].columns.values() {
        assert_eq!(figure.repeats.iter().map(Vec::len).collect::<Vec<_>>(), [3; 3]);
        let mean: f64 = figure.repeats[1].iter().sum::<f64>() / 3.0;
        assert!((figure.starts[1] / mean - 1.0).abs() < 1e-9);
        assert!(
            figure.repeats[0][0] != figure.repeats[0][1],
            "each repeat has requests of its own"
        );
    }
    let dry = project.ok(&["suite", "--profile", "test", "--dry-run"]);
    assert!(dry.contains("repeats  of burst: "), "{dry}");
}
