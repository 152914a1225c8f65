//! `[answers]`, and which settings need it.

use super::*;

fn has_stage(profile: &Profile) -> bool {
    profile.stages.iter().any(|stage| stage == "answers")
}

fn with(text: &str) -> Profile {
    read(&format!("{EXAMPLE}{text}")).unwrap_or_else(|error| panic!("{error}"))
}

/// What today's profiles sweep leaves answers as they are: nothing is added, and no digest changes.
#[test]
fn profiles_whose_settings_leave_answers_alone_have_no_such_stage() {
    for name in ["sim", "h100-qwen2.5-7b", "h100-qwen2.5-7b-week3", "vllm-cpu", "vllm-cpu-tune"] {
        let profile = load(name, &root()).unwrap_or_else(|error| panic!("{error}"));
        assert!(profile.answers.is_none() && !has_stage(&profile), "{name}");
        assert_eq!(profile.hashed().get("answers"), None, "{name}");
    }
}

#[test]
fn a_setting_that_may_change_answers_brings_the_stage_with_it() {
    let swept = with("[sweep.kv-cache-dtype]\nvalues = [\"auto\", \"fp8\"]\n");
    let config = swept.answers.as_ref().expect("by default");
    assert!(config.check && has_stage(&swept));
    assert_eq!(config.set.context_tokens, 4_096, "max-model-len");
    let load = config.load();
    let tried = swept.settings_that_change_answers();
    assert_eq!(tried.len(), 1, "auto is the default: {tried:?}");
    assert_eq!(load.spec.answers.as_ref(), Some(&config.set));
    assert_eq!(load.spec.requests_expected(), Some(config.prompts().len() as u64));
    // Of a plugin nothing is known, so it may.
    assert!(has_stage(&with("[sweep.my-plugin]\nvalues = [\"fast\"]\n")));
    let waived = with("[answers]\ncheck = false\n[sweep.quantization]\nvalues = [\"fp8\"]\n");
    assert!(!waived.checks_answers() && !has_stage(&waived));
    assert!(waived.answers_say_nothing().is_some(), "the weights are made up");
}

/// What every launch has is what others are held to.
#[test]
fn the_engines_own_arguments_are_the_reference() {
    let text = edited("max-model-len = 4096", "max-model-len = 4096\nquantization = \"fp8\"");
    let profile = read(&format!("{text}[sweep.quantization]\nvalues = [\"fp8\", \"awq\"]\n"));
    let tried = profile.unwrap_or_else(|error| panic!("{error}")).settings_that_change_answers();
    let methods: Vec<_> = tried.iter().map(|(args, _)| args["quantization"].to_string()).collect();
    assert_eq!(methods, ["awq"]);
}

#[test]
fn margins_and_own_prompts_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let own = "{\"prompt\": \"a\", \"continuation\": \" b\"}\n";
    std::fs::write(folder.path().join("mine.jsonl"), own).expect("writes");
    let table = "[answers]\nmax_nll_increase_percent = 0.5\nmin_exact_match_change_points = -2.5\n\
                 context_tokens = 512\nprompts = \"mine.jsonl\"\n[sweep.quantization]\nvalues = [\"fp8\"]\n";
    let path = folder.path().join("test.toml");
    let profile = parse("test", &path, &format!("{EXAMPLE}{table}"), &models());
    let config = profile.expect("a profile").answers.expect("a table");
    assert_eq!(config.nll_increase_percent_max.to_string(), "0.5");
    assert_eq!(config.exact_match_change_points_min.to_string(), "-2.5");
    assert_eq!((config.set.context_tokens, config.own.len()), (512, 1));
    assert_eq!(config.set.own, Some(bench_core::canonical::Digest::of(own.as_bytes())));
    assert_eq!(config.load().data_file, config.own_file);
}

#[test]
fn mistakes_in_the_table_are_shown() {
    let table = "[answers]\nmax_nll_increase_percent = 0\nmin_exact_match_change_points = 3\n\
                 context_tokens = 9000\nprompts = \"none.jsonl\"\nmargin = 1\n";
    let error = read(&format!("{EXAMPLE}{table}")).expect_err("mistakes");
    assert_text!(error.to_string());
}
