//! How answers are judged, as a profile says it.

use std::path::PathBuf;

use bench_core::{
    answers::{self, Prompt},
    decimal::Decimal,
    schema::AnswerSet,
};
use serde::Serialize;

/// Fewer right answers by so many points may be chance of some 66 questions.
const RIGHT_CHANGE_POINTS: i64 = -5_000_000;
const CONTEXT_TOKENS: u32 = 2_048;

/// How answers are judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswersConfig {
    /// Whether they are; if not, what may change them may be recommended, and the report says so.
    pub check: bool,
    /// By how much the negative log-likelihood a token may rise, in percent.
    pub nll_increase_percent_max: Decimal,
    /// By how much the share of right answers may change, in points: 0 or below.
    pub exact_match_change_points_min: Decimal,
    /// Which prompts are asked.
    pub set: AnswerSet,
    /// Where the user's own prompts lie; their digest is in the set.
    #[serde(skip)]
    pub own_file: Option<PathBuf>,
    /// The user's own prompts.
    #[serde(skip)]
    pub own: Vec<Prompt>,
}

impl AnswersConfig {
    /// What holds where a profile has no such table; `longest` is its `max-model-len`, if it has one.
    pub(crate) fn new(longest: Option<u32>) -> Self {
        Self {
            check: true,
            nll_increase_percent_max: Decimal::from_millionths(1_000_000),
            exact_match_change_points_min: Decimal::from_millionths(RIGHT_CHANGE_POINTS),
            set: AnswerSet {
                version: answers::VERSION,
                context_tokens: longest.unwrap_or(CONTEXT_TOKENS),
                own: None,
            },
            own_file: None,
            own: Vec::new(),
        }
    }

    /// Every prompt that is asked.
    pub fn prompts(&self) -> Vec<Prompt> {
        let mut prompts = answers::prompts(self.set.context_tokens);
        prompts.extend(self.own.iter().cloned());
        prompts
    }
}
