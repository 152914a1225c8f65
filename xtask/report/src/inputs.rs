//! What a report is made of.

use bench_core::{
    canonical::Digest,
    metric,
    schema::{
        BaselineResult, Calibration, CapacityResult, ChooseResult, Column, CompareResult,
        ComprehensiveResult, ConfirmResult, Estimate, ProvisionResult, Role, SavedResult,
        SweepResult,
    },
};

use analysis::{comparison, lead::Lead, lenders::Lenders};
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
    /// The value that leads a sweep and that nothing judges.
    pub lead: Option<&'a Lead>,
    /// What rates the settings sustain within the limits, if that stage ran.
    pub capacity: Option<&'a CapacityResult>,
    /// The start from `recommended.yaml`, if that stage ran.
    pub confirmation: Option<&'a ConfirmResult>,
    /// Figures of another system, of other hardware and load, where the profile names some.
    pub reference: Option<&'a SavedResult>,
    /// The load generator on the host that measured, where it measured over HTTP.
    pub calibration: Option<&'a Calibration>,
    /// The settings that say how much starts differ.
    pub lenders: &'a Lenders,
    /// Every trial of the stages above.
    pub trials: &'a [TrialView],
    /// Names of the plots that were drawn, without ending; they lie beside the report.
    pub plots: &'a [String],
}

impl Inputs<'_> {
    /// What a column changes over the baseline; `None` where one of them was not measured.
    pub fn over_baseline(&self, metric: &str, load: &str, column: Column) -> Option<Estimate> {
        if matches!(column, Column::Baseline | Column::Week2) {
            return None;
        }
        let judged = self.comprehensive.into_iter().flat_map(|file| &file.points);
        let points = self.baseline.points.iter().chain(judged);
        let find = |role| points.clone().find(|point| point.role == role && point.load == load);
        self.lenders.change(
            metric::find(metric)?,
            find(Role::Baseline)?,
            find(comparison::role(column))?,
        )
    }
}
