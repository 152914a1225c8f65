//! The fitted model of one engine on one machine.

use serde::{Deserialize, Serialize};

use crate::{
    decimal::Decimal,
    rng::Random,
    schema::{ArgValue, Args},
};

/// The flags that the simulator can model; a profile with another one is not for it.
pub const KNOWN_FLAGS: &[&str] = &[
    "api-server-count",
    "async-scheduling",
    "block-size",
    "enable-chunked-prefill",
    "enable-prefix-caching",
    "enforce-eager",
    "gpu-memory-utilization",
    "long-prefill-token-threshold",
    "max-model-len",
    "max-num-batched-tokens",
    "max-num-seqs",
    "num-gpu-blocks-override",
];

/// The flags of a model that says how its cards share the work.
pub const LAYOUT_FLAGS: &[&str] = &["data-parallel-size", "tensor-parallel-size"];

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
    /// What a card draws; without it nothing is said of energy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<Power>,
    /// How several cards share the work; `None` where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cards: Option<Cards>,
    /// What flags do of which the simulator knows nothing else: made up, to try what hangs on such flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
}

/// The cards of a machine and what it costs them to share a model's layers. Data-parallel engines share
/// nothing: each has whole copies of the model.
///
/// Tensor parallelism divides matrices and heads by the number of cards, and each layer sums its activations over
/// the cards twice, after attention and after the MLP (Shoeybi et al., "Megatron-LM", 2019). A ring moves
/// 2 (n − 1) / n of the bytes over each link (Patarasuk and Yuan, 2009).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cards {
    /// How many there are.
    pub count: u32,
    /// Layers of the model.
    pub layers: u32,
    /// Attention heads: each card has as many.
    pub attention_heads: u32,
    /// Heads of keys and values: more cards than these hold copies.
    pub kv_heads: u32,
    /// Starting one sum over the cards, whatever its size.
    pub all_reduce_ns: u64,
    /// The bytes of one token's activations over the bandwidth of a card's links in one direction.
    pub all_reduce_token_ps: u64,
    /// These two may be so many times as long or as short, in millionths ([`super::ASSUMPTIONS`]).
    pub all_reduce_within_ppm: u64,
}

impl Cards {
    /// Sums over the cards in a step whose layers are shared by `shards` of them: nanoseconds, and
    /// picoseconds for each token.
    pub(super) fn all_reduces(&self, shards: u32) -> (u64, u64) {
        if shards == 1 {
            return (0, 0);
        }
        let (n, sums) = (u64::from(shards), 2 * u64::from(self.layers));
        (sums * self.all_reduce_ns, sums * self.all_reduce_token_ps * 2 * (n - 1) / n)
    }

    /// Whether `shards` cards can share the layers, or vLLM's words for why not.
    pub fn refusal(&self, shards: u32) -> Option<String> {
        let (heads, kv_heads) = (self.attention_heads, self.kv_heads);
        if !heads.is_multiple_of(shards) {
            return Some(format!(
                "Total number of attention heads ({heads}) must be divisible by tensor parallel size \
                 ({shards})."
            ));
        }
        let is_even = kv_heads.is_multiple_of(shards) || shards.is_multiple_of(kv_heads);
        (!is_even).then(|| {
            format!(
                "{kv_heads} key-value heads can be neither divided by {shards} nor copied evenly"
            )
        })
    }
}

/// What one value of a flag does, made up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// Name of the flag.
    pub flag: String,
    /// Its value.
    pub value: ArgValue,
    /// Times of a step on the device, in millionths of those without it.
    pub device_ppm: u64,
    /// The same of the times that grow with tokens and sequences (matrix products, sampling), where they
    /// change otherwise: a draft that is tried costs a token, accepted or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_token_ppm: Option<u64>,
    /// By how much the negative log-likelihood of a text rises, in millionths.
    pub nll_increase_ppm: u64,
    /// Right answers that are lost, in millionths of them.
    pub right_lost_ppm: u64,
}

impl Effect {
    /// Whether these arguments have it.
    pub fn is_on(&self, args: &Args) -> bool {
        args.get(&self.flag) == Some(&self.value)
    }
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

/// Times of a step on the device and on the host, one thread that prepares and launches a step while
/// the device computes the one before it, and then takes that one's results.
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
    /// Launching a step of decoding alone: one CUDA graph.
    pub host_graph_ns: u64,
    /// Launching a step with prompts: graphs piece by piece, attention between them.
    pub host_piecewise_ns: u64,
    /// Launching compiled code kernel by kernel: beyond [`Defaults::graph_tokens_max`].
    pub host_compiled_ns: u64,
    /// Launching with `--enforce-eager`.
    pub host_eager_ns: u64,
    /// Scheduling and preparing each sequence in the batch.
    pub host_sequence_ns: u64,
    /// More for each sequence where no graph holds the whole step.
    pub host_kernels_sequence_ns: u64,
    /// Slows the host for each API server beyond the first, in millionths: they share memory and
    /// caches.
    pub host_api_server_ppm: u64,
    /// Taking a step's results.
    pub update_ns: u64,
    /// The same for each sequence.
    pub update_sequence_ns: u64,
}

/// Costs on the one thread of an API server: HTTP, tokenizer, detokenizer, server-sent events. The
/// thread is an event loop: in a pass it does one piece of work for everything that is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontEnd {
    /// Taking a request in.
    pub request_ns: u64,
    /// For each token of its prompt.
    pub input_token_ns: u64,
    /// Passes of the event loop over which that is spread.
    pub request_passes: u32,
    /// From client to engine, beside the work.
    pub request_latency_ns: u64,
    /// Sending an output token out.
    pub output_token_ns: u64,
    /// From engine to client, beside the work.
    pub output_latency_ns: u64,
}

impl Model {
    /// The same engine on a host whose processor takes `pace` millionths of the time.
    #[must_use]
    pub fn on_host(&self, pace: u64) -> Self {
        let mut model = self.clone();
        let (_, steps, api_servers) = model.times_mut();
        for ns in steps.into_iter().chain(api_servers) {
            *ns = scale(*ns, pace);
        }
        model
    }

    /// As a load finds it on a start with that pace; `seed` is that of start and load.
    pub(super) fn on_load(&self, start_pace: u64, seed: u64) -> Self {
        let noise = &self.noise.host;
        let mut random = Random::new(seed, 2);
        let pace = scale(noise.pace(&mut random, noise.load_ppm), start_pace);
        let mut found = self.on_host(pace);
        let latency = noise.pace(&mut random, noise.latency_ppm);
        for ns in [&mut found.front_end.request_latency_ns, &mut found.front_end.output_latency_ns]
        {
            *ns = scale(*ns, latency);
        }
        found
    }

    /// The same engine with what made-up flags among these arguments do to its steps.
    #[must_use]
    pub fn with_effects(&self, args: &Args) -> Self {
        let mut model = self.clone();
        for effect in self.effects.iter().filter(|effect| effect.is_on(args)) {
            let StepTime {
                weights_ns, prefill_pair_fs, kv_token_ps, token_ns, sequence_ns, ..
            } = &mut model.step;
            for time in [weights_ns, prefill_pair_fs, kv_token_ps] {
                *time = scale(*time, effect.device_ppm);
            }
            for time in [token_ns, sequence_ns] {
                *time = scale(*time, effect.device_token_ppm.unwrap_or(effect.device_ppm));
            }
        }
        model
    }

    /// Whether it says what a flag does, made-up effects aside.
    pub fn models(&self, flag: &str) -> bool {
        KNOWN_FLAGS.contains(&flag) || self.cards.is_some() && LAYOUT_FLAGS.contains(&flag)
    }

    /// One card's part of the model where `shards` of them share its layers.
    #[must_use]
    pub(super) fn shard(&self, shards: u32) -> Self {
        let mut model = self.clone();
        let Some(cards) = self.cards.as_ref().filter(|_| shards > 1) else { return model };
        let (n, kv) = (u64::from(shards), u64::from(shards.min(cards.kv_heads)));
        let Self { step, memory, .. } = &mut model;
        for whole in [
            &mut step.weights_ns,
            &mut step.token_ns,
            &mut step.prefill_pair_fs,
            &mut step.sequence_ns,
            &mut memory.weights_bytes,
        ] {
            *whole /= n;
        }
        step.kv_token_ps /= kv;
        memory.kv_token_bytes /= kv;
        model
    }

    /// The same engine without noise: what is expected of a start, without its luck.
    #[must_use]
    pub fn without_noise(&self) -> Self {
        Self { noise: Noise::default(), ..self.clone() }
    }

    /// Every coefficient of time: of the device and of API servers' effect on each other, then the
    /// times that hang on the host's processor, those of steps and those of API servers.
    pub(super) fn times_mut(&mut self) -> ([&mut u64; 6], [&mut u64; 8], [&mut u64; 5]) {
        let (step, front_end) = (&mut self.step, &mut self.front_end);
        let others = [
            &mut step.weights_ns,
            &mut step.token_ns,
            &mut step.prefill_pair_fs,
            &mut step.kv_token_ps,
            &mut step.sequence_ns,
            &mut step.host_api_server_ppm,
        ];
        let steps = [
            &mut step.host_graph_ns,
            &mut step.host_piecewise_ns,
            &mut step.host_compiled_ns,
            &mut step.host_eager_ns,
            &mut step.host_sequence_ns,
            &mut step.host_kernels_sequence_ns,
            &mut step.update_ns,
            &mut step.update_sequence_ns,
        ];
        let api_servers = [
            &mut front_end.request_ns,
            &mut front_end.input_token_ns,
            &mut front_end.request_latency_ns,
            &mut front_end.output_token_ns,
            &mut front_end.output_latency_ns,
        ];
        (others, steps, api_servers)
    }
}

/// Scales a time by a factor in millionths.
pub(super) fn scale(ns: u64, millionths: u64) -> u64 {
    (u128::from(ns) * u128::from(millionths) / 1_000_000) as u64
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

/// What a card draws: a floor, more while a step is computed, and the work for each token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// With nothing to do.
    pub idle_mw: u64,
    /// On top of that, while the device computes.
    pub step_mw: u64,
    /// Of a token that a step computes, of a prompt or an answer.
    pub token_uj: u64,
}

/// How much measurements vary: standard deviations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Between starts of one configuration: all of a start's times are scaled alike.
    pub start_ppm: u64,
    /// Between steps.
    pub step_ppm: u64,
    /// Of the host's processor alone.
    #[serde(default)]
    pub host: super::HostNoise,
}
