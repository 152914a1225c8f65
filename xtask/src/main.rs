//! The program: all of it is in the library, so that fuzzing reaches it too. What `init` writes is here, so that an
//! edited profile compiles no more than this file again.

use std::process::ExitCode;

/// Files of the project, by their names in it.
macro_rules! given {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("../../", $name)).as_slice())),*]
    };
}

fn main() -> ExitCode {
    xtask::main(GIVEN)
}

const GIVEN: &xtask::Given = given! {
    "baselines/README.md"
    "baselines/week2.json"
    "bench/models/h100-made-up-power.json"
    "bench/models/h100-made-up-quantization.json"
    "bench/models/h100-qwen2.5-7b-start.json"
    "bench/models/h100-qwen2.5-7b.json"
    "bench/models/h100x8-qwen2.5-7b.json"
    "bench/models/h200x2-qwen2.5-7b.json"
    "bench/models/measured/README.md"
    "bench/models/measured/h100-qwen2.5-7b-a.jsonl"
    "bench/models/measured/h100-qwen2.5-7b-b.jsonl"
    "bench/models/measured/h100-qwen2.5-7b-c.jsonl"
    "bench/models/measured/h100-qwen2.5-7b-d.jsonl"
    "bench/models/measured/h100-qwen2.5-7b-e-forked.jsonl"
    "bench/models/measured/h100-qwen2.5-7b-e-unobserved.jsonl"
    "bench/models/measured/h100-qwen2.5-7b-e.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-a-forked.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-a.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-b-forked.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-b.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-c-forked.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-d-forked.jsonl"
    "bench/models/measured/h200-qwen2.5-7b-d.jsonl"
    "bench/models/tiny.json"
    "bench/profiles/data/chat-log.jsonl"
    "bench/profiles/data/prompts.jsonl"
    "bench/profiles/data/sharegpt.json"
    "bench/profiles/data/trace.jsonl"
    "bench/profiles/endpoint.toml"
    "bench/profiles/h100-answers.toml"
    "bench/profiles/h100-fit.toml"
    "bench/profiles/h100-qwen2.5-7b-week3.toml"
    "bench/profiles/h100-qwen2.5-7b.toml"
    "bench/profiles/h200-answers.toml"
    "bench/profiles/h200-qwen2.5-7b.toml"
    "bench/profiles/h200x2-layouts.toml"
    "bench/profiles/own-log.toml"
    "bench/profiles/sim-answers.toml"
    "bench/profiles/sim-energy.toml"
    "bench/profiles/sim-h200x2-layouts.toml"
    "bench/profiles/sim-layouts.toml"
    "bench/profiles/sim-speculation.toml"
    "bench/profiles/sim-tune.toml"
    "bench/profiles/sim.toml"
    "bench/profiles/vllm-cpu-chat.lock"
    "bench/profiles/vllm-cpu-chat.toml"
    "bench/profiles/vllm-cpu-tune.toml"
    "bench/profiles/vllm-cpu.lock"
    "bench/profiles/vllm-cpu.toml"
    "bench/profiles/vllm-cuda.lock"
    "bench/profiles/vllm-cuda.toml"
    "bench/profiles/workloads.toml"
};
