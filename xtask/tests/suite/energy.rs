//! Energy and money as the aim of a suite, on the simulator's made-up power.

use std::fs;

use bench_core::schema::BaselineResult;

use super::{Project, common::copy};

const PROFILE: &str = include_str!("../../../bench/profiles/sim-energy.toml");

/// Energy is the objective, a price is a target, and another price is for the same trials.
#[test]
fn a_price_changes_figures_and_measures_nothing() {
    let project = Project::new();
    copy(&["bench/models/h100-made-up-power.json"], project.0.path());
    let short =
        PROFILE.replace("duration_s = 60", "duration_s = 20").replace("\"visualize\", ", "");
    project.write_profile(&short);
    let text = project.suite();
    assert!(text.contains("Energy of a million output tokens, J on busy (objective)"), "{text}");
    let figure = |metric: &str| {
        let path = project.path("results/test/baseline.json");
        let result: BaselineResult =
            serde_json::from_slice(&fs::read(path).expect("a result")).expect("JSON");
        let of = |point: &&bench_core::schema::Point| point.load == "busy";
        result.points.iter().rfind(of).expect("the defaults").metrics[metric].mean
    };
    let (joules, dollars) =
        (figure("joules_per_million_output_tokens"), figure("dollars_per_million_output_tokens"));
    // Between what tokens cost alone, with as many of prompts, and a card that is busy at one token a step.
    assert!((18_000.0..200_000.0).contains(&joules), "{joules}");
    project.write_profile(&short.replace("= 2.5 ", "= 5.0 "));
    let again = project.suite();
    assert!(!again.contains("trials measured") || again.contains("0 trials measured"), "{again}");
    assert!((figure("dollars_per_million_output_tokens") / dollars - 2.0).abs() < 1e-6);
    assert_eq!(figure("joules_per_million_output_tokens"), joules);
}
