//! Environment variables and JSON-valued flags in sweeps.

use bench_core::schema::{ArgValue, Args};

use super::*;
use crate::flags;

const SWEEP: &str = "[sweep.max-num-seqs]\nvalues = [256, 512]";

/// A variable is swept like a flag, and one value may set variables, flags and JSON at once.
#[test]
fn a_variable_is_a_setting_of_a_sweep() {
    let sweeps = r#"[sweep.sampler]
env = "VLLM_USE_FLASHINFER_SAMPLER"
values = [0, 1]
[sweep.together]
values = [
    { max-num-seqs = 512, env = { VLLM_A = 1, VLLM_B = "it's" } },
    { label = "drafts", speculative-config = { method = "ngram", num_speculative_tokens = 3 } },
]"#;
    let source = edited(SWEEP, sweeps)
        .replace("[engine.args]", "env = { VLLM_B = \"0\", HOME = \"/root\" }\n[engine.args]");
    let profile = read(&source).expect("a profile");
    let [sampler, together] = &profile.sweeps[..] else { panic!("two sweeps") };
    let labels: Vec<_> = sampler.values.iter().map(|value| value.label.as_str()).collect();
    assert_eq!(labels, ["0", "1"]);
    assert_eq!(sampler.flag, flags::argument("VLLM_USE_FLASHINFER_SAMPLER"));
    assert_eq!(together.values[0].label, "VLLM_A=1 VLLM_B=it's max-num-seqs=512");

    let (args, env) = profile.started_with(&together.values[0].args);
    let int = ArgValue::Int;
    let expected = [("max-model-len", int(4096)), ("max-num-seqs", int(512))];
    assert_eq!(args, Args::from(expected.map(|(name, value)| (name.to_owned(), value))));
    let variables: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["HOME=/root", "VLLM_A=1", "VLLM_B=it's"], "the value's own goes before");
    let (args, env) = profile.started_with(&together.values[1].args);
    assert_eq!(env, profile.engine_env);
    assert_eq!(
        args["speculative-config"],
        ArgValue::Text(r#"{"method":"ngram","num_speculative_tokens":3}"#.to_owned())
    );
    let changing = profile.changes_answers(&sampler.values[0].args);
    assert_eq!(changing, sampler.values[0].args, "nothing is known of a variable");
}

#[test]
fn mistakes_of_variables() {
    let sweep = |text: &str| format!("[sweep.sampler]\n{text}");
    assert_text!(messages(&[
        (SWEEP, &sweep("env = \"VLLM-A\"\nvalues = [1]")),
        (SWEEP, &sweep("env = \"CUDA_VISIBLE_DEVICES\"\nvalues = [1]")),
        (SWEEP, &sweep("env = \"VLLM_A\"\nflag = \"seed\"\nvalues = [1]")),
        (SWEEP, &sweep("env = \"VLLM_A\"\nvalues = [true]")),
        (SWEEP, &sweep("env = \"VLLM_A\"\nvalues = [1, \"1\"]")),
        (SWEEP, &sweep("env = { VLLM_A = \"1\" }\nvalues = [1]")),
        (SWEEP, &sweep("values = [{ env = { \"A B\" = \"1\" } }]")),
        (SWEEP, &sweep("values = [{ env = \"VLLM_A\" }]")),
        ("max-model-len = 4096", "env = { VLLM_A = \"1\" }"),
    ]));
}

#[test]
fn the_simulator_reads_no_environment() {
    let engine = "kind = \"simulator\"\nmodel = \"tiny\"";
    let source = EXAMPLE
        .replace("kind = \"vllm\"\nversion = \"0.22.1\"\nmodel = \"dummy:qwen2.5-7b\"", engine)
        .replace("max-model-len = 4096", "max-model-len = 128");
    for sweep in ["env = \"A\"\nvalues = [1]", "values = [{ env = { A = \"1\" } }]"] {
        let source = source.replace(SWEEP, &format!("[sweep.sampler]\n{sweep}"));
        let message = read(&source).expect_err("a mistake").to_string();
        assert!(message.contains("kind = \"vllm\""), "{message}");
    }
}
