//! What is kept of many latencies.

use serde::{Deserialize, Serialize};

/// Mean and quantiles of a latency in milliseconds; quantiles to three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// Number of values; when 0 the mean is 0 and means nothing.
    pub count: u64,
    /// Requests that failed and have no value. They rank behind every value: a quantile among them is
    /// infinite, "not reached".
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub failed: u64,
    /// Exact mean of the values.
    pub mean_ms: f64,
    /// Median.
    #[serde(with = "super::reach")]
    pub p50_ms: f64,
    /// 90th percentile.
    #[serde(with = "super::reach")]
    pub p90_ms: f64,
    /// 95th percentile.
    #[serde(with = "super::reach")]
    pub p95_ms: f64,
    /// 99th percentile.
    #[serde(with = "super::reach")]
    pub p99_ms: f64,
    /// Largest value.
    #[serde(with = "super::reach")]
    pub max_ms: f64,
}
