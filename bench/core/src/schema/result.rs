//! What result files hold: points, comparisons, targets, floors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Anatomy, Args, Estimate, SettingFailure};
use crate::canonical::Digest;

/// A comparison that goes on until it is decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stopping {
    /// Server starts a side.
    pub starts: u32,
    /// After how many starts a side it may be looked at.
    pub looks: Vec<u32>,
    /// Level at which primary question and guardrails were tested at the last look.
    pub level: f64,
    /// Why it went no further.
    pub reason: StopReason,
    /// Engine minutes of everything that was measured until then.
    pub engine_minutes: f64,
}

/// Why a comparison went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The primary question and every guardrail have their verdicts.
    Decided,
    /// The next look would take more than `[budget]` allows.
    Budget,
    /// There were as many starts as there may be.
    MostStarts,
    /// The candidate fails, or gave no valid figure.
    NotComparable,
}

/// What was measured, for titles and provenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EngineLabel {
    /// Such as `simulated H100 80GB, Qwen2.5-7B`.
    pub title: String,
    /// Whether the figures are simulated; then every title says so.
    pub simulated: bool,
    /// Digest of the engine's identity.
    pub identity: Digest,
}

impl EngineLabel {
    /// The title, with the word "simulated" where it applies.
    pub fn shown(&self) -> String {
        if self.simulated && !self.title.contains("simulated") {
            format!("simulated {}", self.title)
        } else {
            self.title.clone()
        }
    }
}

/// What a setting gives a user and a card under a load, where settings differ in how cards share the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LayoutPoint {
    /// Such as `TP 2, DP 2`, or `one card`.
    pub layout: String,
    /// Cards that it takes.
    pub cards: u32,
    /// Short name of the setting.
    pub label: String,
    /// The part that the setting plays.
    pub role: Role,
    /// Name of the load.
    pub load: String,
    /// 1 / mean TPOT.
    pub tokens_per_s_per_user: Estimate,
    /// Output tokens/s over the cards.
    pub tokens_per_s_per_card: Estimate,
    /// Whether no other setting under any of the loads gives more of both.
    pub is_unbeaten: bool,
}

/// Part that a configuration plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The profile's settings to beat.
    Baseline,
    /// The engine's own defaults.
    Default,
    /// One value of a sweep.
    Sweep,
    /// The chosen settings.
    Tuned,
    /// Somebody else's figures: other hardware, other load.
    Reference,
}

/// One configuration under one load, over its server starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Short name: `baseline`, `default`, `tuned` or the swept value.
    pub label: String,
    /// The part it plays.
    pub role: Role,
    /// Arguments on top of the engine's.
    pub args: Args,
    /// Name of the load.
    pub load: String,
    /// Digest of the load point, by which loads of one name are told apart; `None` of figures that
    /// do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_digest: Option<Digest>,
    /// Part of the comprehensive benchmark that the load belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The trials behind the figures.
    pub trials: Vec<TrialRef>,
    /// Why the setting cannot run; then there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<SettingFailure>,
    /// Whether the load was above capacity in any start.
    pub saturated: bool,
    /// Figures by metric id ([`crate::metric`]), over the valid trials.
    pub metrics: BTreeMap<String, Estimate>,
    /// Where the mean request's time went, averaged over starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anatomy: Option<Anatomy>,
    /// Figures by class of the mix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassPoint>,
}

impl Point {
    /// Mean of a metric, where it was measured.
    pub fn mean(&self, metric: &str) -> Option<f64> {
        self.metrics.get(metric).map(|estimate| estimate.mean)
    }
}

/// Figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ClassPoint {
    /// Name of the class.
    pub name: String,
    /// Figures by metric id.
    pub metrics: BTreeMap<String, Estimate>,
}

/// A trial behind a figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrialRef {
    /// Its key.
    pub key: Digest,
    /// Which start of the configuration.
    pub replicate: u32,
    /// Which repeat of the load within the start, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repeat: u32,
    /// Which block of starts the start belongs to; `None` where starts were not made in blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u32>,
    /// When it was measured (RFC 3339, UTC); `None` of simulated trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<String>,
    /// Why it does not count; `None` when it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl TrialRef {
    /// A trial of a start outside of blocks.
    pub fn new(key: Digest, replicate: u32) -> Self {
        Self { key, replicate, repeat: 0, block: None, measured_at: None, invalid: None }
    }
}

/// What a stage recommends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Label of the chosen point.
    pub label: String,
    /// Arguments it sets, on top of the engine's.
    pub args: Args,
    /// Why, with the figures.
    pub reason: String,
}

/// A column of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// The seed's own figures: other hardware, other load.
    Week2,
    /// The profile's conservative settings.
    Baseline,
    /// The engine's defaults.
    Default,
    /// The chosen settings.
    Tuned,
}

/// One metric, before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Metric id.
    pub metric: String,
    /// Load it was measured on.
    pub load: String,
    /// Figures by column.
    pub columns: BTreeMap<Column, Estimate>,
    /// Tuned against defaults, in percent of the defaults' (percentage points for shares).
    pub change: Option<Estimate>,
    /// Tuned against defaults, in a word.
    pub verdict: Option<Verdict>,
    /// Why that verdict.
    pub reason: String,
    /// The smallest change, in percent or points, that so many starts would have shown with a
    /// probability of 90 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectable: Option<f64>,
    /// Starts a side that are likely to settle what is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_to_settle: Option<u32>,
    /// Whether a change for the worse beyond the margin is excluded.
    #[serde(default)]
    pub excludes_worse: bool,
    /// Of the objective and the limits: tuned against the profile's baseline, judged by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_baseline: Option<OverBaseline>,
}

/// Tuned settings against the profile's conservative ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OverBaseline {
    /// In percent of the baseline's (percentage points for shares).
    pub change: Option<Estimate>,
    /// In a word.
    pub verdict: Option<Verdict>,
    /// Why that verdict.
    pub reason: String,
}

/// Whether a change is real ([`crate::stats::judge`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// More than chance, for the better.
    Better,
    /// More than chance, for the worse.
    Worse,
    /// Within the margin of no change.
    Equivalent,
    /// None of these.
    Inconclusive,
}

/// One target of the profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TargetOutcome {
    /// Metric id.
    pub metric: String,
    /// Load it is measured on.
    pub load: String,
    /// `"max"` or `"min"`.
    pub bound: String,
    /// The limit: in the metric's unit, or a change in percent of the baseline's figure.
    pub limit: f64,
    /// Whether the limit is on the change from the baseline.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub over_baseline: bool,
    /// The metric's figures by column.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<Column, Estimate>,
    /// What is held to the limit: the figure of what is to be deployed; where nothing is, the candidate's or
    /// else the defaults'; `None` when that was not measured.
    #[serde(with = "super::reach::option")]
    #[cfg_attr(test, schemars(with = "Option<super::reach::Reached>"))]
    pub found: Option<f64>,
    /// How it came out.
    pub state: TargetState,
    /// The best figure that the load allows on this card, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
}

/// How a target came out, by the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// The limit is kept.
    Met,
    /// It is not, and nothing shows that it cannot be.
    Missed,
    /// It is not, and the floor lies beyond it: no scheduling flag can meet it on this card.
    OutOfReach,
    /// There is no figure.
    NotMeasured,
}

/// The best figure that a load allows on a card whatever the scheduler does: a least latency, or a
/// greatest rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The figure, in the metric's unit.
    pub value: f64,
    /// The largest of `parts`, or what holds back the load.
    pub set_by: FloorPart,
    /// Shares of the time that make up the floor, in percent; empty where the load sets it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<FloorPart, f64>,
    /// Whether the step of one request alone was measured here; else it is computed.
    pub is_measured: bool,
}

/// A load's floor beside what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FloorOutcome {
    /// Metric id.
    pub metric: String,
    /// Load it is measured on.
    pub load: String,
    /// The best figure that the load allows.
    pub floor: Floor,
    /// The metric's figures by column.
    pub columns: BTreeMap<Column, Estimate>,
}

/// What a floor is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FloorPart {
    /// Reading the weights from memory once a step.
    Weights,
    /// Reading keys and values from memory.
    Kv,
    /// Computing the tokens of prompts and answers.
    Compute,
    /// What a step takes beyond that: launches of kernels, memory that is not read at full speed.
    Step,
    /// The API server and the way to it and back.
    ApiServer,
    /// The load itself: it asks for no more.
    Load,
}
