use serde::{Deserialize, Serialize};

/// One request as it went; all times in nanoseconds since the trial's start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestSample {
    /// Number of the request in the plan.
    pub id: u32,
    /// Index of its class in [`super::LoadSpec::classes`].
    pub class: u16,
    /// When the plan wanted it sent.
    pub intended_ns: u64,
    /// How long it then waited in the client for one of [`super::LoadSpec::max_concurrency`]
    /// places.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub queued_ns: u64,
    /// When its first byte was handed to the connection, or a connection for it was asked for.
    pub sent_ns: u64,
    /// When the first byte of the answer came.
    pub first_byte_ns: Option<u64>,
    /// When it ended, well or not.
    pub end_ns: u64,
    /// Arrival of output tokens: time and number of tokens of each event.
    pub tokens: Vec<(u64, u32)>,
    /// Prompt tokens, as the server counted them.
    pub input_tokens: u32,
    /// Output tokens, as the server counted them.
    pub output_tokens: u32,
    /// Whether the events held more tokens than the client could count, so that the server's total
    /// was spread over them.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub tokens_spread: bool,
    /// Whether it was sent once more, since a pooled connection was found closed.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub resent: bool,
    /// How it ended.
    pub status: RequestStatus,
    /// The first bytes of what the server said of a failure, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_text: Option<Box<str>>,
    /// The server's own account of where the time went, where it gives one for each request.
    pub phases: Option<Phases>,
}

impl RequestSample {
    /// When the first output token came.
    pub fn first_token_ns(&self) -> Option<u64> {
        self.tokens.first().map(|(at, _)| *at)
    }

    /// When the last output token came.
    pub fn last_token_ns(&self) -> Option<u64> {
        self.tokens.last().map(|(at, _)| *at)
    }
}

/// How a request ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestStatus {
    /// Whole and well formed.
    #[default]
    Completed,
    /// Failed; the text names the kind (`http_503`, `connection_reset`, …) and no content.
    Failed(String),
}

/// Where a request's time went inside the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// From first QUEUED to first SCHEDULED.
    pub queue_ns: u64,
    /// From first SCHEDULED to the first token.
    pub prefill_ns: u64,
    /// From the first to the last token, waiting after a preemption included.
    pub decode_ns: u64,
}

/// What the server's own counters and gauges said over one trial; `None` where it has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerObservation {
    /// `vllm:request_success_total`.
    pub requests_succeeded: Option<u64>,
    /// `vllm:prompt_tokens_total`.
    pub prompt_tokens: Option<u64>,
    /// `vllm:generation_tokens_total`.
    pub generation_tokens: Option<u64>,
    /// `vllm:num_preemptions_total`.
    pub preemptions: Option<u64>,
    /// `vllm:prefix_cache_queries_total`, in tokens.
    pub prefix_cache_queries: Option<u64>,
    /// `vllm:prefix_cache_hits_total`, in tokens.
    pub prefix_cache_hits: Option<u64>,
    /// `vllm:spec_decode_num_drafts_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drafts: Option<u64>,
    /// `vllm:spec_decode_num_accepted_tokens_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_draft_tokens: Option<u64>,
    /// Mean of `vllm:e2e_request_latency_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_mean_ms: Option<f64>,
    /// Mean of `vllm:request_queue_time_seconds`.
    pub queue_mean_ms: Option<f64>,
    /// Mean of `vllm:request_prefill_time_seconds`.
    pub prefill_mean_ms: Option<f64>,
    /// Mean of `vllm:request_decode_time_seconds`.
    pub decode_mean_ms: Option<f64>,
    /// Mean of `vllm:num_requests_running` over the trial; where it was seldom read, what the requests' times
    /// in prefill and decode make it (Little 1961).
    pub running_mean: Option<f64>,
    /// Mean of `vllm:num_requests_waiting` over the trial; likewise, by their times in the queue.
    pub waiting_mean: Option<f64>,
    /// How far running and waiting together may be from their means, since the gauges were read
    /// only now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_error: Option<f64>,
    /// Highest `vllm:kv_cache_usage_perc`, in percent.
    pub kv_cache_percent_max: Option<f64>,
    /// How often the gauges were read during the load; `None` where they are exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polls: Option<u64>,
    /// Energy and power of the server's cards, in the order of time; empty where nobody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<EnergyReading>,
}

/// A look at the energy counters of all cards of a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyReading {
    /// Since the trial's start.
    pub at_s: f64,
    /// What the counters show together; only differences mean something.
    pub counter_j: f64,
    /// Power of the cards together; `None` where one does not say.
    pub power_w: Option<f64>,
}
