//! The JSON files that stages write into `results/`: one type a stage.
//!
//! All begin with the same [`Header`], and what follows is the stage's own. The header is the one
//! `flatten` of the schema: a file is one object, and an unknown key in it is a mistake.

use serde::{Deserialize, Serialize};

use super::{
    AnswerRefusal, Candidate, Choice, Comparison, Decision, EngineLabel, FloorOutcome,
    JudgedAnswers, LayoutPoint, Point, Role, Speculation, Stopping, TargetOutcome, TrialRef,
};

/// What every result file begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Header {
    /// Version of the schema.
    pub format: u32,
    /// Name of the profile.
    pub profile: String,
    /// Stage that wrote the file.
    pub stage: String,
    /// What was measured.
    pub engine: EngineLabel,
}

/// Of `provision`: the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProvisionResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// The engine's identity, whole.
    pub identity: serde_json::Value,
}

/// Of `baseline`: the profile's settings to beat and the engine's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BaselineResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Measured points: one configuration under one load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
}

/// Of each sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SweepResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// The swept flag, or the stage's name where a value sets several.
    pub flag: String,
    /// Measured points: one configuration under one load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// The best value, where the defaults were measured beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    /// Findings in words, each drawn from the figures above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// Of `visualize`, where settings differ in their layout: the figures of its plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LayoutsResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Settings under loads, the layouts with fewer cards first.
    pub layouts: Vec<LayoutPoint>,
}

/// Of `tune`: the settings that were confirmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TuneResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Measured points: one configuration under one load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// The setting that the search recommends, and why.
    pub choice: Choice,
    /// Metrics side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Findings in words, each drawn from the figures above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// Of `answers`: the settings that may change answers, judged by them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswersResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Each set of such arguments.
    pub settings: Vec<JudgedAnswers>,
    /// Trials of the reference setting, one a start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<TrialRef>,
}

/// Of `choose`: the settings worth being judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChooseResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// The first candidate, or the defaults.
    pub choice: Choice,
    /// Settings to be judged, in the order in which they are; of the first one each flag was tested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// The first candidate as it was named, and without one flag after the other, on starts of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tested: Vec<Point>,
    /// Values that promise a gain and are not named for their answers, the greatest gain first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<AnswerRefusal>,
    /// Findings in words, each drawn from the figures above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// Of `comprehensive`: the candidates, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ComprehensiveResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Measured points: one configuration under one load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// The candidate that was settled on, or the defaults.
    pub choice: Choice,
    /// That candidate with the reason of each flag; `None` where the defaults are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// Candidates after the first without one flag after the other, on starts of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tested: Vec<Point>,
    /// After how many starts the comparison was stopped; `None` where their number was fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
}

/// Of `capacity`: the highest rates within the limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CapacityResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Measured points: one configuration under one load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// Metrics side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// What the profile's traffic takes, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Findings in words, each drawn from the figures above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// What a traffic takes, if it is spread evenly over servers that each sustain what one was measured to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// At its peak.
    pub requests_per_s: f64,
    /// Servers that are held in reserve; every number of servers has them in it.
    pub reserve_servers: u32,
    /// Each configuration that sustains some rate.
    pub fleets: Vec<Fleet>,
}

/// Servers of one configuration for a traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// Label of the configuration.
    pub label: String,
    /// Its role.
    pub role: Role,
    /// Cards of each server.
    pub cards_per_server: u32,
    /// By the mean rate that its starts sustained.
    pub servers: Servers,
    /// By the upper end of the 95 % interval of the next higher rates; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fewest: Option<Servers>,
    /// By the lower end of the 95 % prediction interval of one more server; `None` where it reaches zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<Servers>,
}

/// A number of servers, and what they cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// Servers.
    pub servers: u32,
    /// Their cards.
    pub cards: u32,
    /// Of these cards, where the profile says what one costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_hour: Option<f64>,
    /// At the peak; off it the same cards serve fewer tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_million_output_tokens: Option<f64>,
}

/// Of `compare`: baseline, defaults and candidate side by side, and the decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CompareResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// What to deploy.
    pub decision: Decision,
    /// Metrics side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// The profile's targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetOutcome>,
    /// The floor of each load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<FloorOutcome>,
    /// What each setting with speculative decoding does, load by load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speculation: Vec<Speculation>,
    /// Findings in words, each drawn from the figures above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// After how many starts the comparison was stopped; `None` where their number was fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
}

/// Of `confirm`: the start from `recommended.yaml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConfirmResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// The configuration, where the start confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    /// Why it is not confirmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// What `baseline save` and `baseline import` keep for `compare`, and figures of other systems.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SavedResult {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Measured points: one configuration under one load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
    /// Findings in words, each drawn from the figures above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// After how many starts the comparison of its tuned settings was stopped, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<Stopping>,
}

/// Of any result file what it says of configurations, for those who read files of several stages.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Figures {
    /// What every result file begins with.
    #[serde(flatten)]
    pub header: Header,
    /// Measured points; none of a stage that measures nothing.
    #[serde(default)]
    pub points: Vec<Point>,
    /// What the stage recommends, if it does.
    #[serde(default)]
    pub choice: Option<Choice>,
    /// After how many starts the comparison of its tuned settings was stopped, if it was.
    #[serde(default)]
    pub stopping: Option<Stopping>,
}

/// Files whose points stand side by side.
macro_rules! measured {
    ($($file:ident),*) => {$(
        impl $file {
            /// Stage and points.
            pub fn measured(&self) -> (&str, &[Point]) {
                (&self.header.stage, &self.points)
            }
        }
    )*};
}

measured!(BaselineResult, SweepResult, ComprehensiveResult);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_is_one_flat_object_and_an_unknown_key_is_a_mistake() {
        let engine = json!({"title": "a card", "simulated": true, "identity": "0".repeat(64)});
        let file = json!({"format": 1, "profile": "sim", "stage": "provision", "engine": engine,
                          "identity": {"engine": "simulator"}});
        let text = file.to_string();
        let read = |text: &str| serde_json::from_str::<ProvisionResult>(text);
        let result = read(&text).expect("a result");
        assert_eq!(result.header.stage, "provision");
        assert_eq!(serde_json::to_value(&result).expect("JSON"), file);
        for (from, to) in [
            ("\"profile\"", "\"points\": [], \"profile\""),
            ("\"simulated\"", "\"verdict\": 1, \"simulated\""),
            ("\"profile\"", "\"profiles\""),
            ("\"identity\":{", "\"identities\":{"),
        ] {
            assert!(text.contains(from), "{from} in {text}");
            assert!(read(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
