//! Answers of a server to a fixed set of prompts, and what those of a setting come to against those of
//! the reference setting.

use serde::{Deserialize, Serialize};

use super::{Args, Estimate};
use crate::canonical::Digest;

/// Which prompts are asked in place of a load's requests. Part of a trial's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSet {
    /// Number of the prompt set ([`crate::answers::VERSION`]).
    pub version: u32,
    /// Tokens of the longest context.
    pub context_tokens: u32,
    /// Digest of the user's own file, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Digest>,
}

/// Kinds of prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AnswerGroup {
    /// English prose.
    Text,
    /// Source code.
    Code,
    /// Prose in other languages.
    Language,
    /// Facts with one right answer.
    Fact,
    /// Sums, differences and products.
    Arithmetic,
    /// A fact to find in a long context.
    Long,
    /// The user's own.
    Own,
}

impl AnswerGroup {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Text,
        Self::Code,
        Self::Language,
        Self::Fact,
        Self::Arithmetic,
        Self::Long,
        Self::Own,
    ];

    /// Its name in records and in the file of the set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Code => "code",
            Self::Language => "language",
            Self::Fact => "fact",
            Self::Arithmetic => "arithmetic",
            Self::Long => "long",
            Self::Own => "own",
        }
    }
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Of every prompt, in the order of the set.
    pub prompts: Vec<PromptAnswer>,
}

/// What a server answered to one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptAnswer {
    /// Name of the prompt.
    pub id: String,
    /// Its kind.
    pub group: AnswerGroup,
    /// Tokens of the reference continuation.
    pub tokens: u32,
    /// Negative log-likelihood of the reference continuation: the sum over its tokens, in nats.
    pub nll: f64,
    /// The most likely token at each of its places; empty of a user's own prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<u32>,
    /// Whether the greedy answer is the right one; `None` where others may be as good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<bool>,
    /// The greedy answer; `None` of a user's own prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Digest of the greedy answer to a user's own prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Whether the answers of a setting are as good as those of the reference setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AnswerState {
    /// Shown to be no worse than the margins allow.
    Passed,
    /// Neither shown to be no worse nor shown to be worse.
    Open,
    /// Shown to be worse than the margins allow.
    Failed,
    /// Nothing was asked, or nothing can be concluded.
    Unchecked,
}

/// The answers of a setting against those of the reference setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswerVerdict {
    /// What it comes to.
    pub state: AnswerState,
    /// Prompts that both answered.
    pub prompts: u32,
    /// Tokens of their reference continuations.
    pub tokens: u32,
    /// Mean negative log-likelihood a token of the reference setting, in nats.
    pub reference_nll: f64,
    /// Its change in percent, with the 95 % interval over prompts.
    pub nll_change_percent: Estimate,
    /// The same between two starts of the reference setting: the noise. `None` with one start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_percent: Option<Estimate>,
    /// The change by kind of prompt, each with an interval corrected for their number.
    pub groups: Vec<GroupChange>,
    /// Share of tokens at which another token is the most likely one, in percent; `None` where no record
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_changed_percent: Option<f64>,
    /// The same between two starts of the reference setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_noise_percent: Option<f64>,
    /// Greedy answers that differ, in percent of the prompts.
    pub differing_percent: f64,
    /// The same between two starts of the reference setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differing_noise_percent: Option<f64>,
    /// Median place of the first character that differs, in answers that do; `None` where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_difference_chars: Option<f64>,
    /// Questions with one right answer.
    pub right: RightAnswers,
    /// The same of facts to find in a long context alone.
    pub found: RightAnswers,
    /// Answers that got worse most, by the questions that show it best: two at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<AnswerExample>,
}

/// The change of one kind of prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GroupChange {
    /// The kind.
    pub group: AnswerGroup,
    /// Prompts.
    pub prompts: u32,
    /// Change of the negative log-likelihood a token, in percent of the reference setting's mean, its own
    /// or that over all prompts, whichever is larger.
    pub nll_change_percent: Estimate,
}

/// Questions with one right answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RightAnswers {
    /// How many were asked.
    pub asked: u32,
    /// Right answers of the reference setting, in percent.
    pub reference_percent: f64,
    /// Right answers of the setting, in percent.
    pub percent: f64,
    /// The change in points, with the 95 % interval over questions.
    pub change_points: Estimate,
}

/// An answer of both settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswerExample {
    /// Name of the prompt.
    pub id: String,
    /// How the prompt ends.
    pub prompt: String,
    /// What the reference setting answered.
    pub reference: String,
    /// What the setting answered.
    pub answer: String,
    /// The right answer, or how the text goes on.
    pub expected: String,
}

/// A setting that may change answers, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JudgedAnswers {
    /// The arguments by which answers may change; others do not matter.
    pub args: Args,
    /// Why they may.
    pub why: Vec<String>,
    /// What came of it.
    pub state: AnswerState,
    /// The figures, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<AnswerVerdict>,
    /// Why nothing is concluded, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A setting that is not to be recommended for its answers, though a sweep promised something of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnswerRefusal {
    /// What it sets, on top of the engine's arguments.
    pub args: Args,
    /// The arguments by which answers may change.
    pub changes_answers: Args,
    /// What came of its answers.
    pub state: AnswerState,
    /// What it changes of the objective, in percent of the defaults' figure (points for shares).
    pub gain: Estimate,
    /// Change of the negative log-likelihood a token in percent, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll_change_percent: Option<Estimate>,
}
