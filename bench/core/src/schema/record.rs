use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answers, MachineUse, Quantiles};
use crate::{canonical::Digest, warm_up::WarmUp};

/// What is stored of a trial.
#[expect(clippy::large_enum_variant, reason = "few, short-lived, and nearly all are measured")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The load point ran.
    Measured(Measured),
    /// The setting cannot run: a result too.
    Refused(SettingFailure),
}

/// A load point that ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// [`super::FORMAT`].
    pub format: u32,
    /// The server start that served it ([`super::LaunchPlan::launch`]).
    pub launch: String,
    /// When it ran (RFC 3339, UTC); a simulated trial has no date.
    pub measured_at: Option<String>,
    /// Digest of the planned requests.
    pub plan: Digest,
    /// What the server resolved its settings to.
    pub observed: Observed,
    /// The figures.
    pub summary: Summary,
    /// The trial's proof of itself.
    pub checks: Vec<Check>,
    /// Offered above capacity: no steady state, latency grows with the length of the trial. A
    /// finding, not an error.
    pub saturated: bool,
    /// What was answered, of a trial that asks for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
}

impl Measured {
    /// Whether every check passed. No stage picks a trial that is invalid.
    pub fn is_valid(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// What a server resolved its settings to; `None` where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// The server's version.
    pub version: Option<String>,
    /// From the start of the process to the first token.
    pub start_s: Option<f64>,
    /// Tokens that the KV caches of all engines hold.
    pub kv_cache_tokens: Option<u64>,
    /// Their blocks.
    pub kv_cache_blocks: Option<u64>,
    /// Tokens a block.
    pub block_size: Option<u64>,
    /// Resolved token budget of a step.
    pub max_num_batched_tokens: Option<u64>,
    /// Name of the attention backend.
    pub attention_backend: Option<String>,
    /// How the server came up; of servers that were started here alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<ServerStart>,
    /// What the trial took of the machine; of measured trials alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineUse>,
    /// How the server was warmed up; of measured trials alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
    /// What it costs, where the profile says so: no record has it, whoever reads one with a profile adds it.
    #[serde(skip)]
    pub cost: Option<Cost>,
}

/// What a server costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Cards that it takes.
    pub cards: u32,
    /// Of one of them; `None` where nobody says.
    pub card_dollars_per_hour: Option<f64>,
}

/// What an ordinary start imports besides a fork: in the API server, and in the engine's process.
const IMPORTS_OF_A_START: f64 = 2.0;

impl Observed {
    /// How long the start took, or is estimated to take the ordinary way where the server is a fork:
    /// with imports of its own.
    pub fn ordinary_start_s(&self) -> Option<f64> {
        let import_s = self.start.as_ref().and_then(|start| start.launcher_import_s);
        Some(self.start_s? + IMPORTS_OF_A_START * import_s.unwrap_or(0.0))
    }
}

/// How a server came up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerStart {
    /// How long the process took to import vLLM that the server is a fork of; `None` where it
    /// was started as a process of its own, which imports by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher_import_s: Option<f64>,
    /// Where compiled graphs came from; `None` where none were needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_cache: Option<CompileCache>,
    /// Seconds by part, which add up to [`Observed::start_s`]. A part that the server's log does not
    /// tell of is in the one after it.
    pub parts_s: BTreeMap<StartPart, f64>,
}

/// Where compiled graphs came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompileCache {
    /// They were compiled.
    Cold,
    /// They were read from the cache.
    Warm,
}

/// Parts of a start, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartPart {
    /// Imports of the API server, up to its first line.
    Imports,
    /// Arguments resolved, the engine's process started with its imports.
    EngineProcess,
    /// The device and its groups made ready.
    Device,
    /// Weights loaded, or made up.
    Weights,
    /// Graphs compiled, or read from the cache.
    Compile,
    /// Memory profiled, the KV cache made.
    KvCache,
    /// CUDA graphs captured.
    GraphCapture,
    /// The rest of the engine's warm-up.
    WarmUp,
    /// The API server made ready, up to the first token.
    ApiServer,
}

impl StartPart {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Imports,
        Self::EngineProcess,
        Self::Device,
        Self::Weights,
        Self::Compile,
        Self::KvCache,
        Self::GraphCapture,
        Self::WarmUp,
        Self::ApiServer,
    ];

    /// A few words for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Imports => "imports",
            Self::EngineProcess => "engine process",
            Self::Device => "device",
            Self::Weights => "weights",
            Self::Compile => "compile",
            Self::KvCache => "KV cache",
            Self::GraphCapture => "graph capture",
            Self::WarmUp => "warm-up",
            Self::ApiServer => "API server",
        }
    }
}

/// Why a setting cannot run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SettingFailure {
    /// The kind.
    pub class: FailureClass,
    /// The lines of the log that prove it.
    pub evidence: Vec<String>,
    /// Why it was not started: which setting failed that needs no more than this one does. Class
    /// and evidence are that setting's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreseen: Option<String>,
}

impl SettingFailure {
    /// A few words for tables.
    pub fn title(&self) -> String {
        let not_tried = if self.foreseen.is_some() { ", not tried" } else { "" };
        format!("{}{not_tried}", self.class.title())
    }
}

/// Kinds of failure that belong to the setting. Those of the environment are never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// No memory left for the KV cache, or not enough for one request.
    KvCacheMemory,
    /// The model itself does not fit.
    ModelMemory,
    /// `max-model-len` beyond the model's.
    MaxModelLen,
    /// Out of memory when warming up the sampler.
    SamplerWarmUp,
    /// Out of memory when capturing graphs.
    GraphCapture,
    /// Out of memory under load.
    OutOfMemory,
    /// Arguments that the server refuses together.
    BadCombination,
}

impl FailureClass {
    /// A few words for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::KvCacheMemory => "KV cache memory",
            Self::ModelMemory => "model memory",
            Self::MaxModelLen => "max-model-len",
            Self::SamplerWarmUp => "sampler warm-up",
            Self::GraphCapture => "graph capture",
            Self::OutOfMemory => "out of memory under load",
            Self::BadCombination => "bad combination",
        }
    }

    /// Whether a start failed for want of memory; then one that needs still more fails too.
    pub fn is_memory_of_start(self) -> bool {
        !matches!(self, Self::MaxModelLen | Self::BadCombination | Self::OutOfMemory)
    }
}

/// The figures of a trial. Latencies count from the intended time of sending. Failed requests rank
/// behind all completed ones in TTFT, TPOT and E2E; means are those of completed requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Requests by outcome.
    pub counts: Counts,
    /// What the server said of the first failure of each kind, secrets masked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failure_texts: BTreeMap<String, String>,
    /// Requests whose events held more tokens than events: the server's total was spread over them.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub tokens_spread: u64,
    /// From the trial's start to the last end.
    pub duration_s: f64,
    /// Prompt tokens of completed requests.
    pub input_tokens: u64,
    /// Output tokens of completed requests.
    pub output_tokens: u64,
    /// Completed requests over the duration.
    pub requests_per_s: f64,
    /// Output tokens of completed requests over the duration.
    pub output_tokens_per_s: f64,
    /// The rates without warm-up and drain; `None` in records from before they were looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steady_state: Option<SteadyState>,
    /// Energy of the server's cards in the steady window, where their counters were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    /// Completed requests that kept every limit of the load's `goodput`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<u64>,
    /// Mean over requests of end-to-end latency over output tokens (Yu et al., "Orca", OSDI 2022);
    /// `None` in records from before, and without output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalized_latency_mean_ms: Option<f64>,
    /// Waited in the client for one of `max_concurrency` places, where the load has such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_queue: Option<Quantiles>,
    /// Sent minus intended, less the wait for a place.
    pub send_lag: Quantiles,
    /// Time to first token.
    pub ttft: Quantiles,
    /// Time per output token after the first, a request's mean.
    pub tpot: Quantiles,
    /// Gaps between tokens; those of one event came together.
    pub itl: Quantiles,
    /// Gaps between events with tokens, where some held several tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inter_chunk: Option<Quantiles>,
    /// End-to-end latency.
    pub e2e: Quantiles,
    /// Where the mean request's time went; `None` where the server does not say.
    pub anatomy: Option<Anatomy>,
    /// The same by class, in the order of the load's classes.
    pub classes: Vec<ClassSummary>,
    /// Conversations as units, where the load has such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversations: Option<ConversationTotals>,
    /// What a prefix cache without end finds of this plan's prompts, in percent of their tokens, where
    /// the plan repeats any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_cache_hit_percent_planned: Option<f64>,
    /// Short and long prompts apart, of loads that have both; `None` in records from before too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed_prompts: Option<MixedPrompts>,
    /// The server's own totals.
    pub server: ServerTotals,
}

/// Conversations as units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConversationTotals {
    /// Those of which a turn was sent.
    pub begun: u64,
    /// Those of which every turn kept every limit of the load's `goodput`, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<u64>,
    /// From the first turn's intended time to the last one's end, think times included; those with a
    /// failed turn rank behind all others.
    pub latency: Quantiles,
}

/// Whether a trial settled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SteadyState {
    /// No window of more than half of the trial has a steady rate.
    NotFound,
    /// It did.
    Found(SteadyWindow),
}

/// The part of a trial between warm-up and drain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteadyWindow {
    /// Since the trial's start.
    pub from_s: f64,
    /// Since the trial's start.
    pub to_s: f64,
    /// Output tokens that came in the window over its length.
    pub output_tokens_per_s: f64,
    /// Requests that were completed in the window over its length.
    pub requests_per_s: f64,
}

/// Energy of the server's cards in the steady window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Energy {
    /// By the cards' counters.
    pub joules: f64,
    /// By their power, summed up over time; `None` where it was not read.
    pub integrated_joules: Option<f64>,
}

/// Requests by outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Requests of the plan.
    pub planned: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests completed.
    pub completed: u64,
    /// Failed requests by kind.
    pub failed: BTreeMap<String, u64>,
    /// Requests that found their pooled connection closed before the first byte, and were sent once
    /// more on a new one.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub resent: u64,
}

impl Counts {
    /// Failed requests of all kinds.
    pub fn failed_total(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Where the mean request's end-to-end time went, in milliseconds. The parts add up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Anatomy {
    /// In our client: sent later than intended, the wait for one of `max_concurrency` places
    /// included.
    pub send_lag_ms: f64,
    /// In the server's front end and on the wire: end-to-end less all others.
    pub front_end_ms: f64,
    /// In the scheduler's queue.
    pub queue_ms: f64,
    /// From first scheduled to the first token.
    pub prefill_ms: f64,
    /// From the first to the last token.
    pub decode_ms: f64,
}

impl Anatomy {
    /// The parts in the order of a request's life, with their names.
    pub fn parts(&self) -> [(&'static str, f64); 5] {
        [
            ("send lag", self.send_lag_ms),
            ("front end", self.front_end_ms),
            ("queue", self.queue_ms),
            ("prefill", self.prefill_ms),
            ("decode", self.decode_ms),
        ]
    }

    /// The sum of the parts: mean end-to-end latency.
    pub fn e2e_ms(&self) -> f64 {
        self.parts().iter().map(|(_, ms)| ms).sum()
    }
}

/// Figures of one class of the mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSummary {
    /// Name of the class.
    pub name: String,
    /// Completed requests.
    pub completed: u64,
    /// Time to first token.
    pub ttft: Quantiles,
    /// Time per output token after the first.
    pub tpot: Quantiles,
    /// End-to-end latency.
    pub e2e: Quantiles,
}

/// What short and long prompts do to each other; a prompt is long from
/// [`crate::summarize::LONG_PROMPT_TOKENS`] on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedPrompts {
    /// Time to first token of short prompts.
    pub short_ttft: Quantiles,
    /// Time to first token of long prompts.
    pub long_ttft: Quantiles,
    /// Gaps between tokens of requests that were decoding while a long prompt waited for its first
    /// token.
    pub stall: Quantiles,
}

/// The server's own totals over the trial; `None` where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTotals {
    /// Preemptions.
    pub preemptions: Option<u64>,
    /// Highest use of the KV cache, in percent.
    pub kv_cache_percent_max: Option<f64>,
    /// Prefix-cache hits over queries, in percent.
    pub prefix_cache_hit_percent: Option<f64>,
    /// Mean requests running.
    pub running_mean: Option<f64>,
    /// Mean requests waiting.
    pub waiting_mean: Option<f64>,
    /// Mean tokens a step of speculative decoding: one and the accepted drafts; where there were
    /// drafts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_length_mean: Option<f64>,
    /// How often `/metrics` was read during the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polls: Option<u64>,
}

/// One check that a trial makes of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Name, such as `tokens-match`.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// What was expected and found, and when it failed what to do.
    pub detail: String,
}
