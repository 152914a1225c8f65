use bench_core::{
    answers::prompts,
    schema::{AnswerGroup, Args, EngineLabel, GroupChange, Header, Recommendation},
};

use super::*;
use crate::fixture::Fixture;

fn text(value: &str) -> bench_core::schema::ArgValue {
    bench_core::schema::ArgValue::Text(value.to_owned())
}

fn args(flag: &str, value: &str) -> Args {
    [(flag.to_owned(), text(value))].into()
}

fn estimate(mean: f64, half: f64) -> Estimate {
    Estimate { mean, low: Some(mean - half), high: Some(mean + half), ..Estimate::default() }
}

fn verdict() -> AnswerVerdict {
    let right = |asked, reference_percent, percent| RightAnswers {
        asked,
        reference_percent,
        percent,
        change_points: estimate(percent - reference_percent, 4.0),
    };
    AnswerVerdict {
        state: AnswerState::Failed,
        prompts: 108,
        tokens: 2_345,
        reference_nll: 2.1,
        nll_change_percent: estimate(4.2, 0.6),
        noise_percent: Some(estimate(0.01, 0.02)),
        groups: vec![GroupChange {
            group: AnswerGroup::Long,
            prompts: 18,
            nll_change_percent: estimate(12.0, 3.0),
        }],
        top_changed_percent: Some(7.5),
        top_noise_percent: Some(0.4),
        differing_percent: 41.0,
        differing_noise_percent: Some(2.0),
        first_difference_chars: Some(12.0),
        right: right(66, 81.2, 70.5),
        found: right(18, 94.4, 66.7),
        examples: vec![AnswerExample {
            id: "arithmetic-3".to_owned(),
            prompt: "12 + 26 =".to_owned(),
            reference: " 38\n2 | 3".to_owned(),
            answer: String::new(),
            expected: " 38".to_owned(),
        }],
    }
}

fn result() -> AnswersResult {
    let engine = EngineLabel {
        title: "an engine".to_owned(),
        simulated: true,
        identity: bench_core::canonical::Digest::of(b"engine"),
    };
    let judged =
        |args: Args, verdict: Option<AnswerVerdict>, problem: Option<&str>| JudgedAnswers {
            why: vec![format!("{}: rounded", args.keys().next().expect("a flag"))],
            state: verdict.as_ref().map_or(AnswerState::Unchecked, |verdict| verdict.state),
            args,
            verdict,
            problem: problem.map(str::to_owned),
        };
    AnswersResult {
        header: Header {
            format: 1,
            profile: "test".to_owned(),
            stage: "answers".to_owned(),
            engine,
        },
        settings: vec![
            judged(args("quantization", "awq"), Some(verdict()), None),
            judged(args("kv-cache-dtype", "fp8"), None, Some("it does not run: model memory")),
        ],
        reference: Vec::new(),
    }
}

fn page(nothing: Option<&str>) -> String {
    let document = "[engine]\nkind = \"vllm\"\nversion = \"0.32.0\"\nmodel = \"dummy:tiny\"\n\
                    [[load]]\nname = \"burst\"\nrequests = 1\narrival = \"all-at-once\"\n\
                    input_tokens = 8\noutput_tokens = 8\n[answers]\n[sweep.quantization]\n\
                    values = [\"awq\"]\n[objective]\nmaximize = \"output_tokens_per_s\"\n";
    let models = profile::ModelFolder(std::path::PathBuf::new());
    let profile = profile::parse("test", std::path::Path::new("test.toml"), document, &models);
    let config = profile.expect("a profile").answers.expect("a table");
    let (prompts, result) = (prompts(2_048), result());
    AnswersPage { config: &config, prompts: &prompts, result: &result, nothing }.markdown()
}

#[test]
fn the_page_says_what_became_of_each_setting() {
    insta::assert_snapshot!(page(None));
}

#[test]
fn with_made_up_weights_it_says_what_to_do_before_deploying() {
    insta::assert_snapshot!(page(Some("the weights are made up")));
}

#[test]
fn a_decision_names_what_was_refused_and_what_was_not_checked() {
    let fixture = Fixture::full();
    let mut decision = fixture.comparison.decision.clone();
    assert_eq!(of_decision(&decision, &fixture.profile), "");
    let refused = |state, nll: Option<Estimate>| AnswerRefusal {
        args: args("quantization", "awq"),
        changes_answers: args("quantization", "awq"),
        state,
        gain: estimate(50.0, 1.0),
        nll_change_percent: nll,
    };
    decision.refused = vec![
        refused(AnswerState::Failed, Some(estimate(4.2, 0.6))),
        refused(AnswerState::Unchecked, None),
    ];
    decision.unchecked = args("kv-cache-dtype", "fp8");
    assert_eq!(decision.recommendation, Recommendation::Change);
    insta::assert_snapshot!(of_decision(&decision, &fixture.profile));
}
