//! Whether a change may pass: by the profile's objective and limits, and by nothing else.

use bench_core::schema::{Comparison, LimitOutcome, LimitState, Point, Verdict};
use serde::Serialize;

use super::{comparison::Compared, limits};
use profile::Profile;

/// Whether a comparison lets a change pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// No goal got worse beyond its margin, and no limit is broken that was not before; or the limits
    /// are met that were violated before, whatever that costs.
    Passed,
    /// Nothing is proven to be worse, and of some goal or limit it is not excluded.
    Inconclusive,
    /// A goal or a limit has no figure on one of the sides, or no profile says what counts.
    NotJudged,
    /// A goal got worse and no limit is gained by it, a limit is broken that was not, or a load does not
    /// run any more.
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

/// The objective, a limit or a guard, and how it fares.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Metric id.
    pub metric: String,
    /// Load.
    pub load: String,
    /// The limit with the figures before and after; `None` of objective and guards.
    pub limit: Option<(LimitOutcome, LimitOutcome)>,
    /// What the gate says of it.
    pub gate: Gate,
    /// Whether it may get worse since limits that were violated are met, and does.
    pub is_price: bool,
}

/// Every goal of the profile, the objective first.
///
/// Limits go first, as they do where it is decided what to deploy ([`super::decision::decide`]): where they
/// are met that one of them was violated before, objective and guards may get worse.
pub fn goals(compared: &Compared<'_>, profile: &Profile) -> Vec<Goal> {
    let row = |metric: &str, load: &str| {
        compared.rows.iter().find(|row| row.metric == metric && row.load == load)
    };
    let judged = |points: &[Point]| -> Vec<LimitOutcome> {
        let points: Vec<&Point> = points.iter().collect();
        profile.slo.iter().map(|limit| limits::judge(limit, &points)).collect()
    };
    let (before, after) = (judged(compared.before), judged(compared.after));
    let gains_limits =
        limits::worst(&before) == LimitState::Violated && limits::worst(&after) == LimitState::Met;
    let of_figure = |metric: &str, load: &str| {
        let gate = of_row(row(metric, load));
        let is_price = gains_limits && matches!(gate, Gate::Regression | Gate::Inconclusive);
        Goal {
            metric: metric.to_owned(),
            load: load.to_owned(),
            limit: None,
            gate: if is_price { Gate::Passed } else { gate },
            is_price,
        }
    };
    let first = of_figure(&profile.objective.metric, &profile.objective.load);
    let limits = before.into_iter().zip(after).map(|(before, after)| Goal {
        metric: after.metric.clone(),
        load: after.load.clone(),
        gate: of_limit(&before, &after, row(&after.metric, &after.load)),
        limit: Some((before, after)),
        is_price: false,
    });
    let guards = profile.guards.iter().map(|guard| of_figure(&guard.metric, &guard.load));
    std::iter::once(first).chain(limits).chain(guards).collect()
}

/// The gate over all goals, none where no profile says what counts; of what does not run any more nothing
/// passes.
pub fn gate(compared: &Compared<'_>, goals: &[Goal]) -> Gate {
    if !compared.broken.is_empty() {
        return Gate::Regression;
    }
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

#[cfg(test)]
mod tests {
    use bench_core::stats::LEVEL;

    use super::*;
    use crate::{
        comparison::any_two,
        fixture::{point, profile},
        lenders::Lenders,
    };

    /// A side: output throughput, TPOT P95 and queue share, one value a start.
    fn side(rate: &[f64], tpot_ms: &[f64], queue_share: &[f64]) -> Vec<Point> {
        let figures =
            [("output_tokens_per_s", rate), ("tpot_p95_ms", tpot_ms), ("queue_share", queue_share)];
        let key = format!("{rate:?}");
        vec![point(&key, &[], "burst", &figures)]
    }

    fn two<'a>(before: &'a [Point], after: &'a [Point], profile: &Profile) -> Compared<'a> {
        any_two(before, after, Some(profile), &Lenders::default(), LEVEL)
    }

    fn gate_of(before: &[Point], after: &[Point], limit_ms: Option<i64>) -> Gate {
        of_goals(&two(before, after, &profile(limit_ms)), &profile(limit_ms))
    }

    fn of_goals(compared: &Compared<'_>, profile: &Profile) -> Gate {
        gate(compared, &goals(compared, profile))
    }

    /// Figures of an H100, 2026-11-24: +36 % in throughput, while the queue share trebles.
    #[test]
    fn a_gain_passes_although_the_queue_share_rises() {
        let before =
            side(&[6_528.0, 7_595.0, 6_341.0], &[137.2, 121.7, 137.1], &[0.147, 0.173, 0.137]);
        let after = side(&[9_002.0, 9_004.0, 9_808.0], &[49.5, 49.1, 47.7], &[0.436, 0.439, 0.440]);
        let profile = profile(Some(50));
        let compared = two(&before, &after, &profile);
        let share = compared.rows.iter().find(|row| row.metric == "queue_share");
        let change = share.and_then(|row| row.change.as_ref()).expect("measured");
        assert!(change.low > Some(20.0), "it rises, which the row shows: {change:?}");
        assert_eq!(share.and_then(|row| row.verdict), None, "and which judges nothing");
        assert_eq!(gate_of(&before, &after, None), Gate::Passed);
        assert_eq!(gate_of(&after, &before, None), Gate::Regression);
    }

    #[test]
    fn a_limit_that_holds_is_no_regression_and_one_that_breaks_is() {
        let rate = [100.0, 101.0, 99.0];
        let at = |tpot_ms: f64| {
            side(
                &rate.map(|r| r + tpot_ms / 1e3),
                &[tpot_ms, tpot_ms + 0.1, tpot_ms - 0.1],
                &[0.1; 3],
            )
        };
        assert_eq!(gate_of(&at(10.0), &at(15.0), Some(20)), Gate::Passed, "half as much again");
        assert_eq!(gate_of(&at(10.0), &at(25.0), Some(20)), Gate::Regression);
        assert_eq!(gate_of(&at(25.0), &at(25.05), Some(20)), Gate::Passed, "no worse than before");
        assert_eq!(gate_of(&at(25.0), &at(35.0), Some(20)), Gate::Regression);
        assert_eq!(gate_of(&at(10.0), &at(20.0), Some(20)), Gate::Regression, "worse, and unknown");
    }

    /// Limits go first where it is decided what to deploy, and so they do here.
    #[test]
    fn what_gains_the_limits_may_cost_throughput() {
        let starts = |mean: f64| [mean, mean * 1.01, mean * 0.99];
        let of = |rate: f64, tpot_ms: f64| side(&starts(rate), &starts(tpot_ms), &[0.1; 3]);
        assert_eq!(gate_of(&of(100.0, 130.0), &of(80.0, 15.0), Some(20)), Gate::Passed);
        assert_eq!(gate_of(&of(80.0, 15.0), &of(100.0, 130.0), Some(20)), Gate::Regression);
        let unless = "the limit is neither violated for certain before nor met for certain after";
        assert_eq!(
            gate_of(&of(100.0, 20.0), &of(80.0, 15.0), Some(20)),
            Gate::Regression,
            "{unless}"
        );
        assert_eq!(
            gate_of(&of(100.0, 130.0), &of(80.0, 20.0), Some(20)),
            Gate::Regression,
            "{unless}"
        );
        assert_eq!(
            gate_of(&of(100.0, 130.0), &of(80.0, 60.0), Some(20)),
            Gate::Regression,
            "{unless}"
        );
        let (before, after) = (of(100.0, 130.0), of(80.0, 15.0));
        let profile = profile(Some(20));
        let compared = two(&before, &after, &profile);
        let price = |goal: &Goal| goal.is_price;
        assert_eq!(goals(&compared, &profile).iter().map(price).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_guard_that_gets_worse_is_a_regression() {
        let rate = [100.0, 101.0, 99.0];
        let [before, after] = [10.0, 15.0].map(|tpot_ms| {
            side(
                &rate.map(|r| r + tpot_ms / 1e3),
                &[tpot_ms, tpot_ms + 0.1, tpot_ms - 0.1],
                &[0.1; 3],
            )
        });
        let margin_percent = bench_core::decimal::Decimal::from_int(10).expect("a decimal");
        let (metric, load) = ("tpot_p95_ms".to_owned(), "burst".to_owned());
        let guards = vec![profile::Guard { metric, load, margin_percent }];
        let guarded = Profile { guards, ..profile(None) };
        let of =
            |before: &[Point], after: &[Point]| of_goals(&two(before, after, &guarded), &guarded);
        assert_eq!(of(&before, &after), Gate::Regression);
        assert_eq!(of(&after, &before), Gate::Passed);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let full = side(&[100.0, 101.0, 99.0], &[10.0, 10.1, 9.9], &[0.1; 3]);
        let mut bare = side(&[100.5, 101.0, 99.0], &[10.0, 10.1, 9.9], &[0.1; 3]);
        bare[0].metrics.remove("output_tokens_per_s");
        assert_eq!(gate_of(&full, &bare, None), Gate::NotJudged);
        assert_eq!(
            gate(&any_two(&full, &full, None, &Lenders::default(), LEVEL), &[]),
            Gate::NotJudged,
            "no profile"
        );
        assert_eq!(gate_of(&full, &full, Some(20)), Gate::Passed, "the same trials");
        let one = side(&[100.0], &[10.0], &[0.1]);
        assert_eq!(gate_of(&full, &one, None), Gate::Inconclusive);
    }

    /// A side whose starts are told apart by their rates.
    fn rates(rates: &[f64]) -> Vec<Point> {
        let ms: Vec<f64> = rates.iter().map(|rate| 1e3 / rate).collect();
        let mut side = side(rates, &ms, &vec![0.1; rates.len()]);
        for (trial, rate) in side[0].trials.iter_mut().zip(rates) {
            trial.key = bench_core::canonical::Digest::of(rate.to_string().as_bytes());
        }
        side
    }

    /// No regression hides behind a trial that both have.
    #[test]
    fn a_trial_of_both_sides_does_not_make_them_the_same() {
        let slow = [66.0, 66.5, 66.2];
        let of = |before: &[f64], after: &[f64]| gate_of(&rates(before), &rates(after), None);
        let with = |first: f64| [&[first][..], &slow].concat();
        assert_eq!(of(&[100.0, 100.4, 99.7], &with(100.0)), Gate::Regression, "three of their own");
        assert_eq!(of(&[100.0, 100.4], &with(100.0)), Gate::Inconclusive, "one of its own");
        assert_eq!(of(&[100.0], &with(100.0)), Gate::Inconclusive, "the first is a single start");
    }

    /// What was measured further is held against its own first starts: it passes, unless it is proven to
    /// have got worse.
    #[test]
    fn a_setting_that_was_measured_further_is_one_setting() {
        let of = |before: &[f64], after: &[f64]| gate_of(&rates(before), &rates(after), None);
        let first = [100.0, 103.0, 98.0];
        let with = |more: &[f64]| [&first[..], more].concat();
        let grown = with(&[99.0, 102.0]);
        assert_eq!(of(&first, &grown), Gate::Passed);
        assert_eq!(of(&grown, &first), Gate::Passed);
        assert_eq!(of(&first, &with(&[66.0, 66.5])), Gate::Regression, "the machine got slower");
        assert_eq!(of(&with(&[66.0, 66.5]), &first), Gate::Passed, "nor is it a gain of anything");
        assert_eq!(of(&first, &with(&[99.0])), Gate::Inconclusive, "one further start");
        let (before, after) = (rates(&first), rates(&grown));
        let profile = profile(None);
        let row = two(&before, &after, &profile).rows.remove(0);
        assert_eq!(row.verdict, Some(Verdict::Equivalent));
        assert!(row.reason.starts_with("one setting, and no change is shown ("), "{}", row.reason);
        // The owner of an endpoint may have changed the server between its starts.
        let endpoint = Profile { engine: crate::fixture::endpoint(), ..profile };
        assert_eq!(of_goals(&two(&before, &after, &endpoint), &endpoint), Gate::Inconclusive);
    }

    #[test]
    fn a_load_without_figures_is_told_with_the_cause() {
        let full = side(&[100.0, 101.0, 99.0], &[10.0, 10.1, 9.9], &[0.1; 3]);
        let mut none = full.clone();
        none[0].metrics.clear();
        none[0].trials.iter_mut().for_each(|trial| trial.invalid = Some("half failed".to_owned()));
        let profile = profile(Some(20));
        let lost = two(&full, &none, &profile);
        assert_eq!(lost.broken, [("burst".to_owned(), "no trial counts: half failed".to_owned())]);
        assert_eq!(of_goals(&lost, &profile), Gate::Regression);
        for after in [&full, &none] {
            let unknown = two(&none, after, &profile);
            assert!(unknown.broken.is_empty() && unknown.unknown.len() == 1);
            assert_eq!(of_goals(&unknown, &profile), Gate::NotJudged);
        }
    }

    #[test]
    fn exit_codes_are_stable() {
        let codes = [Gate::Passed, Gate::Regression, Gate::Inconclusive, Gate::NotJudged];
        assert_eq!(codes.map(Gate::exit_code), [0, 1, 3, 5]);
    }
}
