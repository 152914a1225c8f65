//! How a suite ends, for its exit code.

use bench_core::schema::{Decision, LimitState, Recommendation};

use super::limits;

/// How a suite ended. A command line or profile that is wrong never gets so far: that is 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every stage that was asked for is done.
    Done,
    /// A stage failed, or nothing valid was measured.
    Failed,
    /// Every stage is done, and no setting meets the limits.
    NoneMeets,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Ending {
    /// From what became of the stages, and of the comparison where it was among them.
    pub fn of(is_interrupted: bool, has_failed: bool, decision: Option<&Decision>) -> Self {
        let none_meets = decision.is_some_and(|decision| match decision.recommendation {
            Recommendation::NoneMeets => true,
            Recommendation::Measured => limits::worst(&decision.limits) == LimitState::Violated,
            Recommendation::Change | Recommendation::Defaults => false,
        });
        match (has_failed, none_meets) {
            (true, _) if is_interrupted => Self::Interrupted,
            (true, _) => Self::Failed,
            (false, true) => Self::NoneMeets,
            (false, false) => Self::Done,
        }
    }

    /// Exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::NoneMeets => 4,
            Self::Interrupted => 130,
        }
    }

    /// Name in the messages for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NoneMeets => "none-meets",
            Self::Interrupted => "interrupted",
        }
    }
}
