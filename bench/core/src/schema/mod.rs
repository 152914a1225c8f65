//! The versioned types that cross a process or a disk.
//!
//! No `untagged`, and no `flatten` but for the header of result files: a reader knows from a tag or a
//! key what it reads. What is part of a key (arguments, load points) holds no floats; summaries may.

mod answers;
mod args;
mod calibration;
mod contact;
mod decision;
mod estimate;
mod event;
#[cfg(test)]
mod json_schema;
mod launch;
mod load;
mod machine;
mod quantiles;
mod reach;
mod record;
mod remote;
mod result;
mod sample;
mod speculation;
mod stages;

pub use answers::{
    AnswerExample, AnswerGroup, AnswerRefusal, AnswerSet, AnswerState, AnswerVerdict, Answers,
    GroupChange, JudgedAnswers, PromptAnswer, RightAnswers,
};
pub use args::{ArgValue, Args};
pub use calibration::{Accuracy, Calibration, Ceiling, Host, Pair, Synchronised};
pub use contact::{Contact, Fault};
pub use decision::{
    Candidate, Decision, Effect, FlagReason, Grounds, LimitOutcome, LimitState, Recommendation,
};
pub use estimate::Estimate;
pub use event::{Event, Progress};
pub use launch::{Engine, LaunchPlan, PlannedTrial, ServerEngine, StartWay, VllmEngine};
pub use load::{
    Api, Arrival, Class, Conversation, DataFormat, DataSpec, Goodput, LoadSpec, Prefix,
    RequestShape, Size, TokenRange, Usage,
};
pub use machine::{GpuUse, MachineUse};
pub use quantiles::Quantiles;
pub use record::{
    Anatomy, Check, ClassSummary, CompileCache, ConversationTotals, Cost, Counts, Energy,
    FailureClass, Measured, MixedPrompts, Observed, Outcome, ServerStart, ServerTotals,
    SettingFailure, StartPart, SteadyState, SteadyWindow, Summary,
};
pub use remote::{RemoteAsk, RemoteObject, RemoteOutcome, RemoteReply, RemoteRequest};
pub use result::{
    Choice, ClassPoint, Column, Comparison, EngineLabel, Floor, FloorOutcome, FloorPart,
    LayoutPoint, OverBaseline, Point, Role, StopReason, Stopping, TargetOutcome, TargetState,
    TrialRef, Verdict,
};
pub use sample::{EnergyReading, Phases, RequestSample, RequestStatus, ServerObservation};
pub use speculation::{Speculation, SpeculationAdvice, SpeculationOnLoad};
pub use stages::{
    AnswersResult, BaselineResult, CapacityResult, ChooseResult, CompareResult,
    ComprehensiveResult, ConfirmResult, Figures, Fleet, Header, LayoutsResult, ProvisionResult,
    SavedResult, Servers, SweepResult, Traffic, TuneResult,
};

/// Version of every type in this module. A reader refuses a version that it does not know.
pub const FORMAT: u32 = 1;

/// What is not written, so that records without a client queue keep their bytes.
fn is_zero<T: Default + PartialEq>(n: &T) -> bool {
    *n == T::default()
}
