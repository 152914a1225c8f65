//! The fitted model of one engine on one machine.

use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;

/// A fitted model of one engine on one machine: a file in `bench/models/`.
///
/// It holds no floats, so that it has a digest; units are last in the names (`ps` is 10⁻¹² s,
/// `fs` 10⁻¹⁵ s, `ppm` millionths).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What is simulated, such as `H100 80GB, Qwen2.5-7B`.
    pub title: String,
    /// Version of vLLM whose figures it was fitted to.
    pub version: String,
    /// Name of the attention backend, as vLLM logs it.
    pub attention_backend: String,
    /// What vLLM resolves its arguments to on this machine.
    pub defaults: Defaults,
    /// How long a step takes.
    pub step: StepTime,
    /// How long the API server takes.
    pub front_end: FrontEnd,
    /// What takes memory.
    pub memory: Memory,
    /// How long a start takes.
    pub start: Start,
    /// How much measurements vary.
    pub noise: Noise,
}

/// Resolved defaults of the arguments that the simulator knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// `--max-num-seqs`.
    pub max_num_seqs: u32,
    /// `--max-num-batched-tokens`.
    pub max_num_batched_tokens: u32,
    /// `--max-model-len`.
    pub max_model_len: u32,
    /// The longest `--max-model-len` that the model allows (`max_position_embeddings`).
    pub max_model_len_max: u32,
    /// `--block-size`.
    pub block_size: u32,
    /// `--gpu-memory-utilization`.
    pub gpu_memory_utilization: Decimal,
    /// Largest batch for which a CUDA graph is captured.
    pub graph_tokens_max: u32,
}

/// Time of one step: the larger of the device's and the host's part, and a gap between steps.
///
/// The device's part is `max(weights, tokens) + context + KV + sequences`: matrix products take
/// the time of reading the weights or of computing the tokens, whichever is longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTime {
    /// Reading the weights once.
    pub weights_ns: u64,
    /// Matrix products of a token.
    pub token_ns: u64,
    /// Attention of one prompt token to one token before it.
    pub prefill_pair_fs: u64,
    /// Reading the keys and values of one token in decoding.
    pub kv_token_ps: u64,
    /// Logits and sampling of a sequence.
    pub sequence_ns: u64,
    /// The host's part where a CUDA graph is replayed.
    pub host_graph_ns: u64,
    /// The host's part where compiled code is launched kernel by kernel: beyond
    /// [`Defaults::graph_tokens_max`].
    pub host_compiled_ns: u64,
    /// The host's part with `--enforce-eager`.
    pub host_eager_ns: u64,
    /// The host's part for each sequence in the batch: scheduling, inputs, outputs.
    pub host_sequence_ns: u64,
    /// Between steps, when the device waits.
    pub gap_ns: u64,
    /// Between steps, for each sequence in the batch.
    pub gap_sequence_ns: u64,
}

/// Costs on the one thread of an API server: HTTP, tokenizer, detokenizer, server-sent events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontEnd {
    /// Taking a request in.
    pub request_ns: u64,
    /// For each token of its prompt.
    pub input_token_ns: u64,
    /// Sending an output token out.
    pub output_token_ns: u64,
}

/// What takes device memory, in bytes. vLLM profiles one step of the largest size, and gives
/// what `gpu_memory_utilization` leaves to the KV cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The device's memory.
    pub total_bytes: u64,
    /// What of it is free when the engine starts: less the driver's context.
    pub free_bytes: u64,
    /// The model's weights.
    pub weights_bytes: u64,
    /// Workspaces and whatever else does not depend on the settings.
    pub base_bytes: u64,
    /// Peak of activations, for each token of the budget, in compiled code.
    pub activation_token_bytes: u64,
    /// The same with `--enforce-eager`.
    pub activation_eager_token_bytes: u64,
    /// The sampler's warm-up, for each of `max_num_seqs`: logits in several forms.
    pub sampler_sequence_bytes: u64,
    /// What stays of the step while the sampler warms up, for each token of the budget.
    pub sampler_token_bytes: u64,
    /// What the second warm-up of the sampler, after the KV cache is there, needs on top of the
    /// first because memory is in pieces.
    pub sampler_spread_percent: u64,
    /// Estimate of a captured CUDA graph.
    pub graph_bytes: u64,
    /// Keys and values of a token.
    pub kv_token_bytes: u64,
}

/// How long a start takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Imports in two processes, loading, profiling.
    pub base_ms: u64,
    /// `torch.compile`, none with `--enforce-eager`.
    pub compile_ms: u64,
    /// Capturing one CUDA graph.
    pub graph_ms: u64,
}

/// How much measurements vary: standard deviations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Between starts of one configuration: all of a start's times are scaled alike.
    pub start_ppm: u64,
    /// Between steps.
    pub step_ppm: u64,
}
