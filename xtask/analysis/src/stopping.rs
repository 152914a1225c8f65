//! Whether a comparison goes on: it is looked at after some starts, and more are made until it is
//! decided, the budget is spent, or there are as many as there may be.

use std::collections::{BTreeMap, BTreeSet};

use bench_core::{
    canonical::Digest,
    schema::{Comparison, LimitState, Outcome, Point, Role, StopReason, Verdict},
};

use profile::{Profile, Trial};

use super::{
    Configuration,
    comparison::{guards, primary},
    limits,
};

/// What trials took of the engine.
#[derive(Clone, Debug, Default)]
pub struct Spent {
    /// Seconds by server start.
    starts: BTreeMap<Digest, f64>,
    trials: BTreeSet<Digest>,
    seconds: f64,
    /// The same of the starts by which settings are compared, and how many these are.
    compared: (f64, u32),
}

impl Spent {
    /// Adds a trial, once.
    pub fn add(&mut self, trial: &Trial, outcome: &Outcome) {
        let Ok(key) = trial.key() else { return };
        if !self.trials.insert(key) {
            return;
        }
        let Outcome::Measured(measured) = outcome else { return };
        let start = Digest::of_json(&trial.start()).expect("the trial has a key");
        let is_new = !self.starts.contains_key(&start);
        let start_s = measured.observed.start_s.filter(|_| is_new).unwrap_or(0.0);
        let seconds = start_s + measured.summary.duration_s;
        *self.starts.entry(start).or_default() += seconds;
        self.seconds += seconds;
        if trial.block.is_some() {
            self.compared.0 += seconds;
            self.compared.1 += u32::from(is_new);
        }
    }

    /// Of everything.
    pub fn minutes(&self) -> f64 {
        self.seconds / 60.0
    }

    /// Of so many further starts, by all that were made.
    pub fn minutes_of_any(&self, starts: u32) -> f64 {
        self.minutes() / self.starts.len().max(1) as f64 * f64::from(starts)
    }

    /// Of so many further starts by which settings are compared, by those that were made.
    fn minutes_of(&self, starts: u32) -> f64 {
        let (seconds, made) = self.compared;
        seconds / f64::from(made.max(1)) * f64::from(starts) / 60.0
    }
}

/// Why a comparison of defaults and candidate goes no further; `None` where it does. `more`: starts a
/// side until the next look, if there is one.
pub fn reason(
    profile: &Profile,
    points: &[Point],
    rows: &[Comparison],
    more: Option<u32>,
    spent: &Spent,
    budget_minutes: Option<f64>,
) -> Option<StopReason> {
    let of = |role| Configuration::of(points, profile, |point: &Point| point.role == role);
    let is_measured = |role| of(role).is_some_and(|configuration| configuration.is_measured());
    if !is_measured(Role::Default) || !is_measured(Role::Tuned) {
        return Some(StopReason::NotComparable);
    }
    if is_decided(profile, points, rows) {
        return Some(StopReason::Decided);
    }
    let Some(more) = more else { return Some(StopReason::MostStarts) };
    let is_over = |budget| spent.minutes() + spent.minutes_of(2 * more) > budget;
    budget_minutes.is_some_and(is_over).then_some(StopReason::Budget)
}

/// Whether no more starts are needed: the primary question has a verdict; of each limit it is known
/// whether the candidate meets it, or whether it is worse there; of each guard whether it is worse.
/// What more starts cannot judge does not keep a comparison open.
fn is_decided(profile: &Profile, points: &[Point], rows: &[Comparison]) -> bool {
    let is_open = |row: &Comparison| row.verdict == Some(Verdict::Inconclusive);
    let tuned: Vec<&Point> = points.iter().filter(|point| point.role == Role::Tuned).collect();
    let is_limit_known = |limit| {
        matches!(limits::judge(limit, &tuned).state, LimitState::Met | LimitState::Violated)
    };
    let row =
        |metric: &str, load: &str| rows.iter().find(|row| row.metric == metric && row.load == load);
    !primary(rows, profile).is_some_and(is_open)
        && profile.slo.iter().all(|limit| {
            is_limit_known(limit)
                || row(&limit.metric, &limit.load)
                    .is_none_or(|row| row.excludes_worse || !is_open(row))
        })
        && guards(rows, profile)
            .all(|(_, row)| row.is_none_or(|row| row.excludes_worse || !is_open(row)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        comparison::comparisons,
        fixture::{point, profile},
        lenders::Lenders,
    };

    /// Three starts a side: throughput and TPOT P95 under a limit of 20 ms.
    fn reason_of(
        tuned: [f64; 3],
        tpot_ms: [f64; 3],
        more: Option<u32>,
        spent: &Spent,
    ) -> Option<StopReason> {
        let profile = profile(Some(20));
        let side = |role, rate: &[f64], tpot_ms: &[f64]| {
            let figures = [("output_tokens_per_s", rate), ("tpot_p95_ms", tpot_ms)];
            Point { role, ..point(&format!("{role:?}"), &[], "burst", &figures) }
        };
        let points = [
            side(Role::Default, &[100.0, 101.0, 99.0], &[15.0, 15.1, 14.9]),
            side(Role::Tuned, &tuned, &tpot_ms),
        ];
        let rows = comparisons(&points, &Lenders::default(), &[], &profile, 0.01);
        reason(&profile, &points, &rows, more, spent, Some(60.0))
    }

    #[test]
    fn a_comparison_goes_on_until_it_is_decided_or_the_budget_is_spent() {
        let (met, open) = ([15.0, 15.1, 14.9], [17.0, 22.0, 21.0]);
        let (better, unclear) = ([150.0, 151.0, 149.0], [104.0, 110.0, 99.0]);
        let none = Spent::default();
        assert_eq!(reason_of(better, met, Some(2), &none), Some(StopReason::Decided));
        assert_eq!(reason_of(unclear, met, Some(2), &none), None);
        assert_eq!(reason_of(better, open, Some(2), &none), None, "a limit is unknown");
        assert_eq!(reason_of(unclear, met, None, &none), Some(StopReason::MostStarts));
        // Six starts took half an hour; four more take twenty minutes.
        let spent = |minutes: f64| Spent {
            seconds: minutes * 60.0,
            compared: (1800.0, 6),
            ..Spent::default()
        };
        assert_eq!(reason_of(unclear, met, Some(2), &spent(39.0)), None);
        assert_eq!(reason_of(unclear, met, Some(2), &spent(41.0)), Some(StopReason::Budget));
    }
}
