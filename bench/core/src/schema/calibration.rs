use serde::{Deserialize, Serialize};

/// What `bench calibrate` found: how fast and how exact the load generator is on one host. A
/// report quotes it beside what was measured there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// [`super::FORMAT`].
    pub format: u32,
    /// [`crate::INSTRUMENT_EPOCH`].
    pub instrument_epoch: u32,
    /// When it ran (RFC 3339, UTC).
    pub measured_at: String,
    /// Where it ran.
    pub host: Host,
    /// Most tokens that the client takes, closed loop, with every token's time recorded.
    pub ceilings: Vec<Ceiling>,
    /// How far the client's figures are from the server's, open loop, by rate.
    pub accuracy: Vec<Accuracy>,
    /// How late the client says tokens came that a server writes to all streams at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub synchronised: Vec<Synchronised>,
    /// Largest resident set of the client, in MiB; `None` where the system does not say.
    pub memory_mib_max: Option<f64>,
}

/// What tells one host from another, as far as a client's speed goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Model name of the processor.
    pub cpu: String,
    /// Logical processors.
    pub cpus: u32,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Version of the load generator.
    pub bench: String,
}

/// A closed loop as fast as it goes; medians of the repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// Streams at once.
    pub streams: u32,
    /// Most events that the server puts into one write.
    pub events_per_write: u16,
    /// Output tokens a second.
    pub tokens_per_s: f64,
    /// Output tokens a second of the client's CPU time, samples written and all.
    pub tokens_per_cpu_s: f64,
    /// Share of a core that the client took.
    pub client_cpu_share: f64,
    /// Share of a core that the server took; `None` where the system does not say.
    pub server_cpu_share: Option<f64>,
}

/// One rate of an open loop against a server with an exact schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// Mean rate of the Poisson arrivals.
    pub requests_per_second: u32,
    /// Requests of the plan.
    pub planned: u64,
    /// Requests that the server read.
    pub arrived: u64,
    /// Requests that the client saw complete.
    pub completed: u64,
    /// Median TTFT: the client's and the server's.
    pub ttft_p50_ms: Pair,
    /// 99th percentile of TTFT.
    pub ttft_p99_ms: Pair,
    /// Mean gap between tokens.
    pub itl_mean_ms: Pair,
    /// 99th percentile of sent minus intended.
    pub send_lag_p99_ms: f64,
}

/// Streams that are written to at once, as a step of an engine does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Synchronised {
    /// Streams at once.
    pub streams: u32,
    /// Median time after the moment at which a token was due: its arrival by the client, its write by
    /// the server.
    pub late_p50_ms: Pair,
    /// 99th percentile of it.
    pub late_p99_ms: Pair,
    /// The last of all.
    pub late_max_ms: Pair,
}

/// One figure in two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// The client's, which counts from the intended time.
    pub client: f64,
    /// The server's, which counts from the arrival.
    pub server: f64,
}

impl Accuracy {
    /// Largest error of the median TTFT.
    pub const TTFT_P50_MS_MAX: f64 = 1.0;
    /// Largest error of the 99th percentile of TTFT.
    pub const TTFT_P99_MS_MAX: f64 = 3.0;
    /// Largest error of the mean gap, as a share of it.
    pub const ITL_SHARE_MAX: f64 = 0.01;
    /// Largest 99th percentile of the send lag.
    pub const SEND_LAG_P99_MS_MAX: f64 = 2.0;

    /// Whether every request arrived and every figure is as exact as promised.
    pub fn is_exact(&self) -> bool {
        self.arrived == self.planned
            && self.completed == self.planned
            && self.ttft_p50_ms.error().abs() <= Self::TTFT_P50_MS_MAX
            && self.ttft_p99_ms.error().abs() <= Self::TTFT_P99_MS_MAX
            && self.itl_mean_ms.error().abs() <= Self::ITL_SHARE_MAX * self.itl_mean_ms.server
            && self.send_lag_p99_ms <= Self::SEND_LAG_P99_MS_MAX
    }
}

impl Pair {
    /// What the client says more than the server.
    pub fn error(self) -> f64 {
        self.client - self.server
    }
}
