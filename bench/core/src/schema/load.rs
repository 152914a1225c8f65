use serde::{Deserialize, Serialize};

use crate::decimal::Decimal;

/// A load point: what is asked of a server, when, and how much. Part of a trial's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// When requests are sent.
    pub arrival: Arrival,
    /// How many requests, or for how long.
    pub size: Size,
    /// The mix of requests; shares need not add up to one.
    pub classes: Vec<Class>,
    /// Seed of lengths, classes, arrivals and prompts.
    pub seed: u64,
    /// How each request is put.
    pub request: RequestShape,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestShape {
    /// Which route.
    pub api: Api,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Whether the output has exactly the planned length.
    pub ignore_eos: bool,
}

impl Default for RequestShape {
    fn default() -> Self {
        Self { api: Api::Completions, stream: true, ignore_eos: true }
    }
}

/// A route of the OpenAI API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `/v1/completions` with a prompt of token ids.
    Completions,
    /// `/v1/chat/completions` with a prompt of text.
    Chat,
}
