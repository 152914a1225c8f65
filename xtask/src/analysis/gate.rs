//! Whether a change may pass: by the profile's objective and limits, and by nothing else.

use bench_core::schema::{Comparison, LimitOutcome, LimitState, Verdict};
use serde::Serialize;

use super::{comparison::Compared, limits};
use crate::config::Profile;

/// Whether a comparison lets a change pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// No goal got worse beyond its margin, and no limit is broken that was not before.
    Passed,
    /// Nothing is proven to be worse, and of some goal or limit it is not excluded.
    Inconclusive,
    /// A goal or a limit has no figure on one of the sides, or no profile says what counts.
    NotJudged,
    /// A goal got worse, a limit is broken that was not, or a load does not run any more.
    Regression,
}

impl Gate {
    /// Exit code of `compare --gate`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Regression => 1,
            Self::Inconclusive => 3,
            Self::NotJudged => 5,
        }
    }
}

/// The objective or a limit, and how it fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Metric id.
    pub metric: String,
    /// Load.
    pub load: String,
    /// The limit with the figures before and after; `None` of the objective.
    pub limit: Option<(LimitOutcome, LimitOutcome)>,
    /// What the gate says of it.
    pub gate: Gate,
}

/// Every goal of the profile, the objective first.
pub fn goals(compared: &Compared<'_>, profile: &Profile) -> Vec<Goal> {
    let row = |metric: &str, load: &str| {
        compared.rows.iter().find(|row| row.metric == metric && row.load == load)
    };
    let objective = &profile.objective;
    let first = Goal {
        metric: objective.metric.clone(),
        load: objective.load.clone(),
        limit: None,
        gate: of_row(row(&objective.metric, &objective.load)),
    };
    let limits = profile.slo.iter().map(|limit| {
        let [before, after] = [compared.before, compared.after]
            .map(|points| limits::judge(limit, &points.iter().collect::<Vec<_>>()));
        Goal {
            metric: limit.metric.clone(),
            load: limit.load.clone(),
            gate: of_limit(&before, &after, row(&limit.metric, &limit.load)),
            limit: Some((before, after)),
        }
    });
    std::iter::once(first).chain(limits).collect()
}

/// The gate over all goals; of what does not run any more nothing passes.
pub fn gate(compared: &Compared<'_>, profile: Option<&Profile>) -> Gate {
    if !compared.broken.is_empty() {
        return Gate::Regression;
    }
    let Some(profile) = profile else { return Gate::NotJudged };
    let goals = goals(compared, profile);
    goals.iter().map(|goal| goal.gate).max().unwrap_or(Gate::NotJudged)
}

fn of_row(row: Option<&Comparison>) -> Gate {
    match row {
        None | Some(Comparison { verdict: None, .. }) => Gate::NotJudged,
        Some(row) if row.verdict == Some(Verdict::Worse) => Gate::Regression,
        Some(row) if row.excludes_worse => Gate::Passed,
        Some(_) => Gate::Inconclusive,
    }
}

/// A limit that is met is met, however much nearer the figure came to it.
fn of_limit(before: &LimitOutcome, after: &LimitOutcome, row: Option<&Comparison>) -> Gate {
    match (before.state, after.state) {
        (_, LimitState::Met) => Gate::Passed,
        (LimitState::Violated, _) => of_row(row),
        (_, LimitState::Violated) => Gate::Regression,
        (_, LimitState::NotMeasured) => Gate::NotJudged,
        _ => of_row(row),
    }
}
