use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AnswerSet;
use crate::{canonical::Digest, decimal::Decimal};

/// A load point: what is asked of a server, when, and how much. Part of a trial's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// When requests are sent.
    pub arrival: Arrival,
    /// How many requests, or for how long.
    pub size: Size,
    /// The mix of requests; shares need not add up to one. Of a load from a file, one class that
    /// says between what its lengths lie.
    pub classes: Vec<Class>,
    /// Seed of lengths, classes, arrivals and prompts.
    pub seed: u64,
    /// How each request is put.
    pub request: RequestShape,
    /// The file that the requests come from, in place of lengths drawn from the classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSpec>,
    /// Requests are turns of conversations, and it is conversations that arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Conversation>,
    /// Most requests in flight, as in `vllm bench serve --max-concurrency`; others that are due
    /// wait in the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// What a request must keep to count as good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput: Option<Goodput>,
    /// How often `/metrics` is read during the load; [`LoadSpec::POLL_MS`] where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_ms: Option<u32>,
    /// Threads that send requests and read answers, each with connections of its own; 1 where it does not
    /// say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_threads: Option<u32>,
    /// Prompts that are asked for their answers in place of requests; of these, arrival and size say how
    /// many at once and how many in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerSet>,
}

impl LoadSpec {
    /// Reading `/metrics` takes the API server's time, so it is done seldom: counters are read before
    /// and after the load, and gauges are not needed more often.
    pub const POLL_MS: u32 = 5_000;

    /// Requests that are expected of a run; `None` where only its file or the server's answers tell.
    pub fn requests_expected(&self) -> Option<u64> {
        let duration_ms = match self.size {
            Size::Requests(requests) => return Some(requests.into()),
            Size::DurationMs(duration_ms) => duration_ms,
        };
        let per_second = match &self.arrival {
            Arrival::Poisson { requests_per_second }
            | Arrival::Gamma { requests_per_second, .. }
            | Arrival::Constant { requests_per_second } => requests_per_second.to_f64(),
            Arrival::Ramp { requests_per_second_start: start, requests_per_second_end: end } => {
                f64::midpoint(start.to_f64(), end.to_f64())
            }
            Arrival::AllAtOnce {} | Arrival::Replay { .. } | Arrival::ClosedLoop { .. } => {
                return None;
            }
        };
        Some(libm::floor(per_second * duration_ms as f64 / 1e3) as u64)
    }

    /// Single requests, drawn from classes, put in the default way and without a limit in flight.
    pub fn drawn(arrival: Arrival, size: Size, classes: Vec<Class>, seed: u64) -> Self {
        let request = RequestShape::default();
        let (data, conversation, max_concurrency, goodput) = (None, None, None, None);
        Self {
            arrival,
            size,
            classes,
            seed,
            request,
            data,
            conversation,
            max_concurrency,
            goodput,
            poll_ms: None,
            reader_threads: None,
            answers: None,
        }
    }
}

/// Limits in milliseconds on one request, each kept where it is given, as in `vllm bench serve
/// --goodput`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goodput {
    /// Longest time to the first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<Decimal>,
    /// Longest time per output token after the first; a request of one token keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpot_ms: Option<Decimal>,
    /// Longest end-to-end latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e2e_ms: Option<Decimal>,
}

impl Goodput {
    /// Whether a completed request with these latencies is good; without a first token it is not
    /// where one is asked for in time.
    pub fn keeps(&self, ttft_ns: Option<u64>, tpot_ns: Option<u64>, e2e_ns: u64) -> bool {
        let within = |ns: u64, limit: Option<Decimal>| {
            limit.is_none_or(|ms| i128::from(ns) <= i128::from(ms.millionths()))
        };
        ttft_ns.map_or(self.ttft_ms.is_none(), |ns| within(ns, self.ttft_ms))
            && tpot_ns.is_none_or(|ns| within(ns, self.tpot_ms))
            && within(e2e_ns, self.e2e_ms)
    }
}

/// A file of requests: the first ones of the load's size, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// What its rows are.
    pub format: DataFormat,
    /// Digest of its bytes; where it lies is nobody's key.
    pub digest: Digest,
    /// Output length, uniform, in place of the file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<TokenRange>,
    /// Longest time between the turns of a recorded conversation, where those of the file are longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think_ms_max: Option<u64>,
}

/// The shapes of files that are read ([`crate::dataset`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    /// Mooncake's trace: a JSON object a line, with `timestamp` in ms, `input_length`,
    /// `output_length` and `hash_ids`.
    Mooncake,
    /// The custom data set of `vllm bench serve`: a JSON object a line, with `prompt` and perhaps
    /// `output_tokens`.
    Custom,
    /// Sessions of coding agents as Weka's KV-cache tester records them: a JSON object a line, with
    /// `block_size` and `requests` of `t`, `in`, `out`, `hash_ids` and `think_time`.
    Weka,
    /// A log of OpenAI-style chat requests: a JSON object a line, with a time and `messages`.
    ChatLog,
    /// ShareGPT: a JSON list, or an object a line, with `conversations` of `from` and `value`.
    ShareGpt,
}

impl DataFormat {
    /// Whether the rows are texts; else they are lengths, for which prompts are drawn.
    pub fn is_text(self) -> bool {
        !matches!(self, Self::Mooncake | Self::Weka)
    }

    /// Whether rows are turns of recorded conversations, which arrive as wholes.
    pub fn has_conversations(self) -> bool {
        matches!(self, Self::Weka)
    }

    /// Whether the rows have times, which can be replayed.
    pub fn has_times(self) -> bool {
        matches!(self, Self::Mooncake | Self::ChatLog)
    }
}

/// Conversations: each turn after the first is sent a while after the answer before it has ended,
/// with the whole history before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// Fewest requests of a conversation, at least 1.
    pub turns_min: u32,
    /// Most requests; their number is uniform.
    pub turns_max: u32,
    /// Shortest time from the end of an answer to the next turn.
    pub think_ms_min: u64,
    /// Longest such time; it is uniform.
    pub think_ms_max: u64,
}

/// The arrival process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Arrival {
    /// All requests at time 0: a burst.
    AllAtOnce {},
    /// Open loop, exponential gaps.
    Poisson {
        /// Mean rate.
        requests_per_second: Decimal,
    },
    /// Open loop, gamma gaps as in `vllm bench serve --burstiness`.
    Gamma {
        /// Mean rate.
        requests_per_second: Decimal,
        /// Shape of the gamma distribution: 1 is Poisson, below 1 burstier.
        burstiness: Decimal,
    },
    /// Open loop, equal gaps.
    Constant {
        /// Rate.
        requests_per_second: Decimal,
    },
    /// Open loop, Poisson with a rate that rises linearly over the duration.
    Ramp {
        /// Rate at the start.
        requests_per_second_start: Decimal,
        /// Rate at the end.
        requests_per_second_end: Decimal,
    },
    /// Open loop, at the times of the load's file, which count from its first row.
    Replay {
        /// How many times faster than they were: 2 halves every gap.
        speed_up: Decimal,
    },
    /// Closed loop: this many requests in flight, the next sent when one ends.
    ClosedLoop {
        /// Requests in flight.
        concurrency: u32,
    },
}

impl Arrival {
    /// Whether arrivals are independent of answers and spread over time.
    pub fn is_open_loop(&self) -> bool {
        !matches!(self, Self::AllAtOnce {} | Self::ClosedLoop { .. })
    }
}

/// How much load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Size {
    /// A fixed number of requests.
    Requests(u32),
    /// Arrivals for this long.
    DurationMs(u64),
}

/// One kind of request in the mix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Name in tables, such as `500+`.
    pub name: String,
    /// Share of the requests, relative to the other classes'.
    pub share: Decimal,
    /// Prompt length, uniform.
    pub input_tokens: TokenRange,
    /// Output length, uniform.
    pub output_tokens: TokenRange,
    /// A prefix that requests share, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
}

/// An inclusive range of token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRange {
    /// At least 1.
    pub min: u32,
    /// At least `min`.
    pub max: u32,
}

/// A prefix shared by a group of requests; it comes on top of `input_tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    /// Number of distinct prefixes; each request draws one.
    pub groups: u32,
    /// Length of each.
    pub tokens: u32,
}

/// How a request is put to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestShape {
    /// Which route.
    pub api: Api,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the output has exactly the planned length.
    pub ignore_eos: bool,
    /// How a stream says how many tokens it has.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub usage: Usage,
    /// More fields of the body: name and value as JSON, since keys hold no floats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_body: BTreeMap<String, String>,
    /// More headers. They are no place for secrets: this is part of keys and records.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

impl Default for RequestShape {
    fn default() -> Self {
        Self {
            api: Api::Completions,
            stream: true,
            ignore_eos: true,
            usage: Usage::default(),
            extra_body: BTreeMap::new(),
            headers: BTreeMap::new(),
        }
    }
}

/// How often a stream says how many tokens it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usage {
    /// Once, at its end, as users ask for it. An event with text is a token; where the total says
    /// otherwise it is spread over the events.
    #[default]
    Final,
    /// With every event (`continuous_usage_stats`), which costs the API server time.
    Continuous,
}

/// A route of the OpenAI API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `/v1/completions` with a prompt of token ids.
    Completions,
    /// `/v1/completions` with a prompt of text.
    CompletionsText,
    /// `/v1/chat/completions` with a prompt of text.
    Chat,
}

impl Api {
    /// Path of the route, after the base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::Completions | Self::CompletionsText => "/v1/completions",
            Self::Chat => "/v1/chat/completions",
        }
    }
}
