//! What a suite decided: typed, so that terminal, report and programs say the same of it.

use serde::{Deserialize, Serialize};

use super::{AnswerRefusal, Args, Column, Estimate};

/// Whether a setting meets a limit, by the 95 % interval of the figure over server starts; the
/// better the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitState {
    /// The whole interval lies within the limit.
    Met,
    /// Unknown: a single start says nothing of the spread between starts.
    OneStart,
    /// Unknown: no valid trial tells the metric.
    NotMeasured,
    /// Unknown: the interval holds the limit.
    Open,
    /// The whole interval lies beyond the limit, or the load was above capacity.
    Violated,
}

/// One limit of the profile and a setting's figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitOutcome {
    /// Metric id.
    pub metric: String,
    /// Load on which it is measured.
    pub load: String,
    /// `"max"` or `"min"`.
    pub bound: String,
    /// The limit, in the metric's unit.
    pub limit: f64,
    /// The figure over starts; `None` when it was not measured.
    pub found: Option<Estimate>,
    /// Whether the load was above capacity in any start: then the figure grows with the trial.
    #[serde(default)]
    pub saturated: bool,
    /// Whether the limit is met.
    pub state: LimitState,
}

/// Why a flag is part of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FlagReason {
    /// The sweep (or `tune`, or `baseline`) that proposed it.
    pub from: String,
    /// Label of the value there.
    pub label: String,
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// The other flags that were in place with it and without it when its effect was measured; empty where
    /// it was measured by itself.
    #[serde(default, skip_serializing_if = "Args::is_empty")]
    pub others: Args,
    /// What it does.
    pub effect: Effect,
}

/// What a value does, against the setting without it: vLLM's defaults, or the other flags alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// It improves the objective.
    Objective {
        /// Change of the objective, in percent of the figure without it (points for shares).
        change: Estimate,
    },
    /// It meets limits that the setting without it does not, or comes nearer to them.
    Limit {
        /// Every limit with the figure of the value.
        limits: Vec<LimitOutcome>,
        /// The same without it; empty where that does not run.
        default_limits: Vec<LimitOutcome>,
    },
    /// The other flags do not start, or serve, without it.
    Needed {
        /// What is wrong without it.
        why: String,
    },
}

/// A setting that `choose` names to be judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// Whether it is named for the objective; else for the limits alone.
    pub for_objective: bool,
    /// Each part of it with its reason.
    pub flags: Vec<FlagReason>,
    /// Flags that were part of it and made no difference beside the others, in the order in which they were
    /// left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<FlagReason>,
}

/// What came of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Recommendation {
    /// Deploy other settings than vLLM's defaults.
    Change,
    /// vLLM's defaults stay.
    Defaults,
    /// No setting meets the limits: nothing is recommended.
    NoneMeets,
    /// A server that runs already was measured: its settings are its owner's.
    Measured,
}

/// What carries the recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Grounds {
    /// The objective's verdict: better.
    Better,
    /// The limits: the setting meets them, and the defaults are not known to.
    Limits,
    /// vLLM's defaults do not run here.
    DefaultsFail,
    /// No value tried promised anything.
    NothingPromised,
    /// The profile names no candidate or does not measure one again.
    NotJudged,
    /// The candidate is not proven better.
    NotProven,
    /// The candidate makes no difference worth having.
    NoDifference,
    /// The candidate is worse.
    Worse,
    /// The candidate is not known to meet the limits.
    CandidateLimits,
    /// The candidate is better, and not shown to be no worse in what the profile guards.
    Guard,
    /// The candidate does not run, or gave no valid trial.
    CandidateFails,
    /// Every setting is known to violate a limit, or is not known to meet one that the defaults
    /// violate.
    NoneMeets,
    /// There is one configuration, and nothing to compare it with.
    OneConfiguration,
}

impl Decision {
    /// Whether the candidate is what is to be deployed.
    pub fn deploys_candidate(&self) -> bool {
        self.deployed == Some(Column::Tuned)
    }
}

/// What to deploy, and what carries it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What came out.
    pub recommendation: Recommendation,
    /// What carries it.
    pub grounds: Grounds,
    /// Label of the setting: `tuned`, `default`, `baseline`, or the profile's name for a server that
    /// runs already; where none meets the limits, of the nearest one.
    pub label: String,
    /// The column of the comparison that shows what is to be deployed; `None` where nothing is.
    pub deployed: Option<Column>,
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// Reason of each flag that it sets.
    pub flags: Vec<FlagReason>,
    /// The limits with that setting's figures.
    pub limits: Vec<LimitOutcome>,
    /// The limits with the defaults' figures; empty where they do not run.
    pub default_limits: Vec<LimitOutcome>,
    /// The candidate that was judged and is not recommended, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Args>,
    /// The limits with that candidate's figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidate_limits: Vec<LimitOutcome>,
    /// Arguments of the setting that may change answers and were not checked, since the profile says so.
    #[serde(default, skip_serializing_if = "Args::is_empty")]
    pub unchecked: Args,
    /// Settings that promised a gain and were refused for their answers, the greatest gain first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<AnswerRefusal>,
}
