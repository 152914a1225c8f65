use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::quantiles::Quantiles;

/// What a trial took of the machine that the load generator runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineUse {
    /// Cores that the busiest thread took which sends requests and reads answers; it has at most 1.
    pub client_thread_cores: f64,
    /// Cores that the whole load generator took.
    pub client_cores: f64,
    /// How late such a thread, the latest of them, came back to a timer, sampled four times a second:
    /// with everything else it is as late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_loop_lag: Option<Quantiles>,
    /// Share of the machine's CPU time that was busy, whoever took it; `None` where the system does
    /// not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_busy_share: Option<f64>,
    /// The GPUs in use, where the server runs on the same machine and NVML is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuUse>,
}

/// One GPU over a trial, looked at as often as the server's gauges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuUse {
    /// Its UUID.
    pub uuid: String,
    /// How often it was looked at.
    pub looks: u64,
    /// Mean share of the time in which a kernel ran, in percent.
    pub busy_percent_mean: f64,
    /// Most memory in use.
    pub memory_mib_max: u64,
    /// Mean power; `None` where the GPU does not say, as below.
    pub power_w_mean: Option<f64>,
    /// Mean clock of the multiprocessors.
    pub sm_clock_mhz_mean: Option<f64>,
    /// Lowest clock of the multiprocessors.
    pub sm_clock_mhz_min: Option<u64>,
    /// Share of the looks that found the clocks held down, by NVML's name of the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub throttled_share: BTreeMap<String, f64>,
}
