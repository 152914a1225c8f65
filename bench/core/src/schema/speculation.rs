//! What speculative decoding does, load by load.

use serde::{Deserialize, Serialize};

use super::{Args, Estimate, Verdict};

/// A setting with speculative decoding against vLLM's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Speculation {
    /// Label of the value.
    pub label: String,
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// The loads that both served, from few requests in flight to many.
    pub loads: Vec<SpeculationOnLoad>,
    /// What they come to.
    pub advice: SpeculationAdvice,
}

/// A setting with speculative decoding on one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SpeculationOnLoad {
    /// Name of the load.
    pub load: String,
    /// Requests/s that it asks for; `None` where the server's answers say when the next one is sent, or
    /// where the rate changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered_per_s: Option<f64>,
    /// Requests in flight with the defaults, on average: rate × mean E2E (Little's law).
    pub in_flight: f64,
    /// Change of the mean E2E, in percent of the defaults'.
    pub change: Option<Estimate>,
    /// Whether it pays (better) or costs (worse).
    pub verdict: Option<Verdict>,
    /// Why that verdict.
    pub reason: String,
}

/// Where speculative decoding pays. Loads are named as in the list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SpeculationAdvice {
    /// It stops to pay between two loads.
    StopsBetween {
        /// The heaviest load on which it pays.
        pays_up_to: String,
        /// The lightest load on which it costs.
        costs_from: String,
    },
    /// It pays on these, and no load shows that it costs.
    Pays {
        /// From the lightest load to the heaviest.
        on: Vec<String>,
    },
    /// It costs on these, and no load shows that it pays.
    Costs {
        /// From the lightest load to the heaviest.
        on: Vec<String>,
    },
    /// It pays on a load that is heavier than one on which it costs: something else than the load decides.
    Mixed {},
    /// No load decides.
    Undecided {},
}
