//! What the figures come to: limits, candidates, verdicts, the decision, the gate. Functions of
//! results and profile alone: no stage, no report, no words.

pub mod answers;
pub mod capacity;
pub mod choice;
pub mod comparison;
pub mod decision;
pub mod ending;
pub mod engine_time;
#[cfg(test)]
pub mod fixture;
pub mod fleet;
pub mod floors;
pub mod gate;
pub mod layouts;
pub mod lead;
pub mod lenders;
pub mod limits;
#[cfg(test)]
mod nothing_gained;
pub mod pareto;
pub mod pruning;
pub mod repeats;
pub mod shared;
pub mod speculation;
pub mod stopping;
pub mod targets;
pub mod watch;

use bench_core::schema::{Args, Estimate, LimitOutcome, LimitState, Point, SettingFailure};

use profile::Profile;

/// One configuration under every load of a result: its objective and its limits.
#[derive(Clone, Debug)]
pub struct Configuration<'a> {
    /// Label of its points.
    pub label: &'a str,
    /// What it sets, on top of the engine's arguments.
    pub args: &'a Args,
    /// Its point under the objective's load; `None` where there is none.
    pub point: Option<&'a Point>,
    /// The objective over the valid starts; `None` where there is none.
    pub objective: Option<&'a Estimate>,
    /// Every limit of the profile.
    pub limits: Vec<LimitOutcome>,
    /// Why it could not start, or failed under a load.
    pub failure: Option<&'a SettingFailure>,
}

impl<'a> Configuration<'a> {
    /// Of the points that pass the filter; `None` where none does.
    pub fn of(
        points: &'a [Point],
        profile: &Profile,
        is_own: impl Fn(&Point) -> bool,
    ) -> Option<Self> {
        let own: Vec<&Point> = points.iter().filter(|point| is_own(point)).collect();
        let first = own.first()?;
        let objective = &profile.objective;
        let point = own.iter().copied().find(|point| point.load == objective.load);
        Some(Self {
            label: &first.label,
            args: &first.args,
            point,
            objective: point.and_then(|point| point.metrics.get(&objective.metric)),
            limits: profile.slo.iter().map(|limit| limits::judge(limit, &own)).collect(),
            failure: own.iter().find_map(|point| point.failure.as_ref()),
        })
    }

    /// Every label among the points that pass the filter, in their order.
    pub fn all(
        points: &'a [Point],
        profile: &Profile,
        is_wanted: impl Fn(&Point) -> bool,
    ) -> Vec<Self> {
        let mut labels: Vec<&str> = Vec::new();
        for point in points.iter().filter(|point| is_wanted(point)) {
            if !labels.contains(&point.label.as_str()) {
                labels.push(&point.label);
            }
        }
        let of = |label: &str| {
            Self::of(points, profile, |point| is_wanted(point) && point.label == label)
        };
        labels.into_iter().filter_map(of).collect()
    }

    /// Whether it runs and gave a valid figure for the objective.
    pub fn is_measured(&self) -> bool {
        self.failure.is_none() && self.objective.is_some()
    }

    /// The worst of its limits; met where there is none.
    pub fn state(&self) -> LimitState {
        limits::worst(&self.limits)
    }
}

/// The objective, higher is better whichever way it points.
fn merit(profile: &Profile, value: &Estimate) -> f64 {
    if profile.objective.maximize { value.mean } else { -value.mean }
}
