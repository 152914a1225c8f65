//! Settings that may change answers: refused where these are worse, whatever they gain.

use std::fs;

use bench_core::schema::{
    AnswerState, AnswersResult, Args, ChooseResult, CompareResult, Effect, Recommendation,
    SpeculationAdvice, Verdict,
};

use super::{Project, common::copy};

const PROFILE: &str = include_str!("../../../bench/profiles/sim-answers.toml");

fn project(profile: &str) -> Project {
    let project = Project::new();
    copy(&["bench/models/h100-made-up-quantization.json"], project.0.path());
    project.write_profile(profile);
    project
}

fn result<T: serde::de::DeserializeOwned>(project: &Project, file: &str) -> T {
    let text = fs::read_to_string(project.path(&format!("results/test/{file}"))).expect(file);
    serde_json::from_str(&text).expect(file)
}

fn report(project: &Project) -> String {
    let path = project.path("results/test/OPTIMIZATION_RESULTS.md");
    let text = fs::read_to_string(path).expect("a report");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn state(answers: &AnswersResult, flags: &[(&str, &str)]) -> AnswerState {
    let args: Args = flags.iter().map(|(flag, v)| ((*flag).to_owned(), super::text(v))).collect();
    let found = answers.settings.iter().find(|setting| setting.args == args);
    found.expect("the setting was judged").state
}

/// The fastest setting gives worse answers: the fastest whose answers are as good is recommended.
#[test]
fn the_fastest_setting_whose_answers_pass_is_recommended() {
    let project = project(PROFILE);
    let text = project.suite();
    let answers: AnswersResult = result(&project, "answers.json");
    let both = [("kv-cache-dtype", "fp8"), ("quantization", "fp8")];
    assert_eq!(state(&answers, &[("quantization", "awq")]), AnswerState::Failed);
    assert_eq!(state(&answers, &both[1..]), AnswerState::Passed);
    assert_eq!(state(&answers, &both), AnswerState::Passed);
    assert_eq!(answers.settings.len(), 4);
    // No start was made for it: the reference's two and the first of each value have one load more.
    assert_eq!(answers.reference.len(), 2);

    let chosen: ChooseResult = result(&project, "recommendation.json");
    assert_eq!(chosen.refused[0].args, [("quantization".to_owned(), super::text("awq"))].into());
    let compared: CompareResult = result(&project, "comparison.json");
    let decision = &compared.decision;
    assert_eq!(decision.recommendation, Recommendation::Change);
    assert_eq!(decision.args, both.map(|(f, v)| (f.to_owned(), super::text(v))).into());
    assert!(decision.unchecked.is_empty());

    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let refused = "quantization awq changes E2E P95 on";
    assert!(plain.contains(refused) && plain.contains("its answers are worse (NLL"), "{text}");
    let report = report(&project);
    let refused = "`quantization awq` changes E2E P95 on";
    assert!(report.contains(refused), "the report says what was refused");
    let awq = report.split("### `quantization awq`").nth(1).expect("a chapter");
    let awq = awq.split("###").next().unwrap_or_default();
    let examples = awq.split("This setting answers").nth(1).expect("examples");
    assert_eq!(examples.matches("| `").count(), 2 * 4, "two answers of four cells: {awq}");
    // Answers are stored as other trials are.
    let status = project.ok(&["status", "--profile", "test"]);
    assert_eq!(status.matches("up to date").count(), status.lines().count(), "{status}");
}

/// The profile may waive the check; then the first lines say so.
#[test]
fn unchecked_answers_are_recommended_only_where_the_profile_says_so() {
    let waived = PROFILE.replace("# check = false ", "check = false ");
    let project = project(&waived);
    project.suite();
    assert!(!project.path("results/test/answers.json").exists(), "nothing was asked");
    let compared: CompareResult = result(&project, "comparison.json");
    let awq: Args = [("quantization".to_owned(), super::text("awq"))].into();
    assert_eq!(compared.decision.unchecked["quantization"], awq["quantization"]);
    let report = report(&project);
    let first = report.split("- **Objective.**").next().expect("first lines");
    assert!(first.contains("Its answers were not checked"), "{first}");
}

/// Without the table, what may change answers is checked by the defaults of the table.
#[test]
fn a_profile_without_the_table_checks_answers_all_the_same() {
    let table = PROFILE.find("[answers]").expect("the table");
    let after = PROFILE.find("[objective]").expect("the next one");
    let project = project(&format!("{}{}", &PROFILE[..table], &PROFILE[after..]));
    project.suite();
    let answers: AnswersResult = result(&project, "answers.json");
    assert_eq!(state(&answers, &[("quantization", "awq")]), AnswerState::Failed);
}

/// What answers like noise says nothing: nothing that may change answers is recommended.
#[test]
fn where_answers_say_nothing_no_setting_that_may_change_them_is_recommended() {
    let project = project(PROFILE);
    let path = project.path("bench/models/h100-made-up-quantization.json");
    let model = fs::read_to_string(&path).expect("reads");
    // Half the prompts suffer so much that no interval says what it comes to.
    fs::write(&path, model.replace("\"nll_increase_ppm\": 2000", "\"nll_increase_ppm\": 9500"))
        .expect("writes");
    project.suite();
    let answers: AnswersResult = result(&project, "answers.json");
    assert_eq!(state(&answers, &[("quantization", "fp8")]), AnswerState::Open);
    let compared: CompareResult = result(&project, "comparison.json");
    assert!(!compared.decision.args.contains_key("quantization"), "{:?}", compared.decision);
}

/// A search takes no setting whose answers did not pass.
#[test]
fn a_search_proposes_nothing_whose_answers_are_worse() {
    let tune = "[tune]\nbudget_engine_minutes = 40\n[tune.flags]\nquantization = [\"fp8\", \"awq\"]\n\
                max-num-seqs = [128, 1024]\n\n[objective]";
    let sweeps = PROFILE.find("# Each value is asked").expect("the sweeps");
    let table = PROFILE.find("[answers]").expect("the table");
    let profile = format!("{}{}", &PROFILE[..sweeps], &PROFILE[table..]);
    let project = project(&profile.replacen("[objective]", tune, 1));
    project.suite();
    let answers: AnswersResult = result(&project, "answers.json");
    assert_eq!(state(&answers, &[("quantization", "awq")]), AnswerState::Failed);
    let compared: CompareResult = result(&project, "comparison.json");
    let decision = &compared.decision;
    let proposed = decision.candidate.as_ref().unwrap_or(&decision.args);
    assert_eq!(proposed["quantization"], super::text("fp8"), "{decision:?}");
    let tuned = fs::read_to_string(project.path("results/test/tune.json")).expect("reads");
    let tuned: serde_json::Value = serde_json::from_str(&tuned).expect("JSON");
    assert_ne!(tuned["choice"]["args"]["quantization"], "awq", "{}", tuned["choice"]);
}

/// Two flags that passed together were not judged apart: none of them is left out, whatever it does.
#[test]
fn what_is_left_of_a_setting_that_passed_is_not_deployed_unjudged() {
    let from = PROFILE.find("[sweep.quantization]").expect("the sweeps");
    let together = PROFILE.find("# The two together").expect("the last of them");
    let project = project(&format!("{}{}", &PROFILE[..from], &PROFILE[together..]));
    // An fp8 KV cache that does nothing beside fp8 weights.
    let path = project.path("bench/models/h100-made-up-quantization.json");
    let model = fs::read_to_string(&path).expect("reads");
    fs::write(&path, model.replace("\"device_ppm\": 960000", "\"device_ppm\": 1000000"))
        .expect("writes");
    project.suite();
    let compared: CompareResult = result(&project, "comparison.json");
    let decision = &compared.decision;
    assert_eq!(decision.recommendation, Recommendation::Change);
    assert_eq!(decision.args.len(), 2, "{decision:?}");
    assert_eq!(decision.flags.len(), 2, "{decision:?}");
    for reason in &decision.flags {
        let Effect::Needed { why } = &reason.effect else { panic!("{reason:?}") };
        assert!(why.starts_with("the answers of ") && why.ends_with(" were not judged"), "{why}");
    }
}

const SPECULATION: &str = include_str!("../../../bench/profiles/sim-speculation.toml");

/// The rates between which speculation stops to pay are found from the loads, and told.
#[test]
fn speculation_is_advised_by_load() {
    let project = project(SPECULATION);
    project.suite();
    let compared: CompareResult = result(&project, "comparison.json");
    let [found] = compared.speculation.as_slice() else { panic!("{:?}", compared.speculation) };
    let rates: Vec<_> = found.loads.iter().map(|load| load.offered_per_s).collect();
    assert_eq!(rates, [2.0, 8.0, 16.0, 24.0].map(Some));
    assert_eq!(found.loads[0].verdict, Some(Verdict::Better), "{:?}", found.loads[0]);
    let SpeculationAdvice::StopsBetween { pays_up_to, costs_from } = &found.advice else {
        panic!("{found:?}")
    };
    assert_eq!((pays_up_to.as_str(), costs_from.as_str()), ("production-16", "production-24"));
    let report = report(&project);
    let said = "`n-gram 3` stops to pay between 16 and 24 requests/s: it pays on";
    assert_eq!(report.matches(said).count(), 2, "on the first page and in its section: {report}");
    assert!(report.contains("## Where speculation pays"));
}
