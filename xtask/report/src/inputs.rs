//! What a report is made of.

use bench_core::{
    canonical::Digest,
    schema::{
        BaselineResult, Calibration, CapacityResult, ChooseResult, CompareResult,
        ComprehensiveResult, ConfirmResult, ProvisionResult, SavedResult, SweepResult,
    },
};
use profile::Profile;

use crate::html::TrialView;

/// What the report is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The profile: objective, limits, loads, the engine's arguments.
    pub profile: &'a Profile,
    /// Digest of the profile as it is used.
    pub profile_digest: &'a Digest,
    /// `identity.json`, by `provision`.
    pub identity: &'a ProvisionResult,
    /// Baseline and defaults on all loads.
    pub baseline: &'a BaselineResult,
    /// One a sweep, in the order of the profile.
    pub sweeps: &'a [SweepResult],
    /// The combined choice, if that stage ran.
    pub choose: Option<&'a ChooseResult>,
    /// The chosen settings on all loads, if that stage ran.
    pub comprehensive: Option<&'a ComprehensiveResult>,
    /// Metrics side by side, and the targets.
    pub comparison: &'a CompareResult,
    /// What rates the settings sustain within the limits, if that stage ran.
    pub capacity: Option<&'a CapacityResult>,
    /// The start from `recommended.yaml`, if that stage ran.
    pub confirmation: Option<&'a ConfirmResult>,
    /// Figures of another system, of other hardware and load, where the profile names some.
    pub reference: Option<&'a SavedResult>,
    /// The load generator on the host that measured, where it measured over HTTP.
    pub calibration: Option<&'a Calibration>,
    /// Every trial of the stages above.
    pub trials: &'a [TrialView],
    /// Names of the plots that were drawn, without ending; they lie beside the report.
    pub plots: &'a [String],
}
