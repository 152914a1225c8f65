//! What to deploy, from what was measured to judge it.

use std::cmp::Ordering;

use bench_core::schema::{
    Args, Candidate, Column, Comparison, Decision, Effect, FlagReason, Grounds, LimitState,
    Recommendation, Verdict,
};

use super::{Configuration, comparison, limits, merit};
use profile::{Profile, role};

/// What is decided on: figures of starts that took no part in the choice.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// vLLM's defaults.
    pub default: Option<&'a Configuration<'a>>,
    /// The profile's settings to beat.
    pub baseline: Option<&'a Configuration<'a>>,
    /// The candidate and what it was named for; none where it is the defaults.
    pub candidate: Option<(&'a Candidate, &'a Configuration<'a>)>,
    /// Every metric, defaults against candidate.
    pub rows: &'a [Comparison],
    /// The goals, defaults against baseline, at [`comparison::BASELINE_LEVEL`].
    pub baseline_rows: &'a [Comparison],
    /// Whether the profile judges candidates at all.
    pub judges: bool,
}

/// The decision; `None` where the defaults run and gave no valid figure for the objective, or
/// nothing did: then there is nothing to decide by.
///
/// A change is carried by the objective's verdict, where every guard is shown to be no worse, or by limits
/// that it meets and the defaults are not known to meet. Whatever meets the limits goes before whatever
/// does not.
pub fn decide(profile: &Profile, judged: &Judged<'_>) -> Option<Decision> {
    let default = judged.default.filter(|default| default.is_measured());
    if profile.endpoint().is_some() {
        let grounds = Grounds::OneConfiguration;
        return default.map(|one| judged.decision(Recommendation::Measured, grounds, one));
    }
    if default.is_none() && judged.default.is_none_or(|default| default.failure.is_none()) {
        return None;
    }
    let others = others(judged);
    if default.is_none() && others.is_empty() {
        return None;
    }
    let better = |state| {
        let carried = by_verdict(profile, judged, state);
        carried
            .or_else(|| baseline_by_verdict(profile, judged, state))
            .map(|s| (s, Grounds::Better))
    };
    let keeping = |grounds| by_limits(profile, &others).map(|one| (one, grounds));
    let carried = match default.map(Configuration::state) {
        Some(LimitState::Met) => better(LimitState::Met),
        // Unknown for want of starts or figures: a verdict may carry what is unknown as well.
        Some(state) if state <= LimitState::NotMeasured => {
            keeping(Grounds::Limits).or_else(|| better(state))
        }
        Some(_) => keeping(Grounds::Limits),
        None => keeping(Grounds::DefaultsFail).or_else(|| {
            let other = others.iter().find(|other| !is_violated(other));
            other.map(|other| (*other, Grounds::DefaultsFail))
        }),
    };
    let decision = match (carried, default) {
        (Some((setting, grounds)), _) => judged.change(profile, setting, grounds),
        (None, Some(default)) if !is_violated(default) => judged.defaults(profile, default),
        (None, _) => judged.none_meets(&default.into_iter().chain(others).collect::<Vec<_>>()),
    };
    Some(decision)
}

fn is_violated(setting: &Configuration<'_>) -> bool {
    setting.state() == LimitState::Violated
}

/// What may take the place of the defaults: the candidate, then the baseline's settings.
fn others<'a>(judged: &Judged<'a>) -> Vec<&'a Configuration<'a>> {
    let candidate = judged.candidate.map(|(_, setting)| setting);
    let others = candidate.into_iter().chain(judged.baseline);
    others.filter(|setting| setting.is_measured() && !setting.args.is_empty()).collect()
}

/// The candidate, where the objective's verdict carries it and its limits are known as well as
/// those of the defaults.
fn by_verdict<'a>(
    profile: &Profile,
    judged: &Judged<'a>,
    default: LimitState,
) -> Option<&'a Configuration<'a>> {
    let (_, setting) = judged.candidate?;
    let is_kept = setting.is_measured() && setting.state() <= default;
    let is_better = is_better(profile, judged.primary(profile));
    (is_kept && is_better && is_guarded(judged.rows, profile)).then_some(setting)
}

/// The settings of `[baseline]`, likewise.
fn baseline_by_verdict<'a>(
    profile: &Profile,
    judged: &Judged<'a>,
    default: LimitState,
) -> Option<&'a Configuration<'a>> {
    let setting = judged.baseline.filter(|setting| !setting.args.is_empty())?;
    let is_kept = setting.is_measured() && setting.state() <= default;
    let is_better = is_better(profile, comparison::primary(judged.baseline_rows, profile));
    (is_kept && is_better && is_guarded(judged.baseline_rows, profile)).then_some(setting)
}

/// Whether every guard is shown to be no worse.
fn is_guarded(rows: &[Comparison], profile: &Profile) -> bool {
    let is_kept = |row: Option<&Comparison>| row.is_some_and(|row| row.excludes_worse);
    comparison::guards(rows, profile).all(|(_, row)| is_kept(row))
}

/// Better, and by more than nobody would care for.
pub fn is_better(profile: &Profile, primary: Option<&Comparison>) -> bool {
    primary.is_some_and(|row| {
        let change = row.change.as_ref().map_or(0.0, |change| change.mean.abs());
        row.verdict == Some(Verdict::Better) && change >= profile.objective.margin_percent()
    })
}

/// Of those that meet the limits the best by the objective.
fn by_limits<'a>(
    profile: &Profile,
    others: &[&'a Configuration<'a>],
) -> Option<&'a Configuration<'a>> {
    let met = others.iter().copied().filter(|other| other.state() == LimitState::Met);
    let merit = |setting: &Configuration<'_>| {
        setting.objective.map_or(f64::NEG_INFINITY, |value| merit(profile, value))
    };
    met.min_by(|a, b| merit(b).total_cmp(&merit(a)))
}

/// Which of some settings does best against the limits: by what is known, then by how far the
/// worst mean lies beyond its limit. The first of equals.
pub fn nearest<'a>(settings: &[&'a Configuration<'a>]) -> Option<&'a Configuration<'a>> {
    let order = |a: &Configuration<'_>, b: &Configuration<'_>| -> Ordering {
        let excess = |s: &Configuration<'_>| limits::excess(&s.limits).unwrap_or(f64::INFINITY);
        let fails = |s: &Configuration<'_>| !s.is_measured();
        let by_state = fails(a).cmp(&fails(b)).then_with(|| a.state().cmp(&b.state()));
        by_state.then_with(|| excess(a).total_cmp(&excess(b)))
    };
    settings.iter().copied().min_by(|a, b| order(a, b))
}

impl Judged<'_> {
    fn primary(&self, profile: &Profile) -> Option<&Comparison> {
        comparison::primary(self.rows, profile)
    }

    fn change(&self, profile: &Profile, setting: &Configuration<'_>, grounds: Grounds) -> Decision {
        let own = self.candidate.filter(|(_, candidate)| candidate.label == setting.label);
        let flags = match own {
            Some((candidate, _)) => self.own_flags(profile, candidate, setting, grounds),
            None => vec![self.of_baseline(profile, setting, grounds)],
        };
        debug_assert!(profile.slo.len() == setting.limits.len());
        let decision = self.decision(Recommendation::Change, grounds, setting);
        let deployed = Some(if own.is_some() { Column::Tuned } else { Column::Baseline });
        Decision { flags, deployed, ..self.without_candidate(decision, own.is_some()) }
    }

    /// Why the candidate's flags are to be deployed. What carries a single one is what judged it against
    /// the defaults, not what proposed it.
    fn own_flags(
        &self,
        profile: &Profile,
        candidate: &Candidate,
        setting: &Configuration<'_>,
        grounds: Grounds,
    ) -> Vec<FlagReason> {
        let [single] = candidate.flags.as_slice() else { return candidate.flags.clone() };
        if single.args.len() > 1 {
            return candidate.flags.clone();
        }
        let change = self.primary(profile).and_then(|row| row.change.clone());
        let effect = match (grounds, change) {
            (Grounds::Better, Some(change)) => Effect::Objective { change },
            (Grounds::DefaultsFail, _) => Effect::Needed { why: self.why_defaults_fail() },
            _ if setting.limits.is_empty() => single.effect.clone(),
            _ => Effect::Limit {
                limits: setting.limits.clone(),
                default_limits: self.default_limits(),
            },
        };
        let label = single.args.values().map(ToString::to_string).collect();
        vec![FlagReason { label, effect, ..single.clone() }]
    }

    fn why_defaults_fail(&self) -> String {
        let failure = self.default.and_then(|default| default.failure);
        failure.map_or_else(|| "no valid trial".to_owned(), |failure| failure.title())
    }

    /// Why the settings to beat are to be deployed.
    fn of_baseline(
        &self,
        profile: &Profile,
        setting: &Configuration<'_>,
        grounds: Grounds,
    ) -> FlagReason {
        let change = comparison::primary(self.baseline_rows, profile);
        let change = change.and_then(|row| row.change.clone());
        let effect = match (grounds, change) {
            (Grounds::Better, Some(change)) => Effect::Objective { change },
            _ => Effect::Limit {
                limits: setting.limits.clone(),
                default_limits: self.default_limits(),
            },
        };
        let single = setting.args.values().next().filter(|_| setting.args.len() == 1);
        FlagReason {
            from: role::BASELINE.to_owned(),
            label: single.map_or_else(|| setting.label.to_owned(), ToString::to_string),
            args: setting.args.clone(),
            others: Args::new(),
            effect,
        }
    }

    fn defaults(&self, profile: &Profile, default: &Configuration<'_>) -> Decision {
        let grounds = match self.candidate {
            None if self.judges => Grounds::NothingPromised,
            None => Grounds::NotJudged,
            Some((_, setting)) if !setting.is_measured() => Grounds::CandidateFails,
            Some((_, setting)) if setting.state() > default.state() => Grounds::CandidateLimits,
            Some((_, setting))
                if default.state() > LimitState::NotMeasured
                    && setting.state() > LimitState::Met =>
            {
                Grounds::CandidateLimits
            }
            Some(_) if is_better(profile, self.primary(profile)) => Grounds::Guard,
            Some(_) => match self.primary(profile).and_then(|row| row.verdict) {
                Some(Verdict::Worse) => Grounds::Worse,
                Some(Verdict::Better | Verdict::Equivalent) => Grounds::NoDifference,
                Some(Verdict::Inconclusive) => Grounds::NotProven,
                None => Grounds::NotJudged,
            },
        };
        self.decision(Recommendation::Defaults, grounds, default)
    }

    fn none_meets(&self, settings: &[&Configuration<'_>]) -> Decision {
        let nearest = nearest(settings).expect("something was measured");
        self.decision(Recommendation::NoneMeets, Grounds::NoneMeets, nearest)
    }

    fn decision(
        &self,
        recommendation: Recommendation,
        grounds: Grounds,
        setting: &Configuration<'_>,
    ) -> Decision {
        let candidate = self.candidate.map(|(_, candidate)| candidate);
        Decision {
            recommendation,
            grounds,
            label: setting.label.to_owned(),
            deployed: match recommendation {
                Recommendation::NoneMeets | Recommendation::Change => None,
                Recommendation::Defaults | Recommendation::Measured => Some(Column::Default),
            },
            args: setting.args.clone(),
            flags: Vec::new(),
            limits: setting.limits.clone(),
            default_limits: self.default_limits(),
            candidate: candidate.map(|candidate| candidate.args.clone()),
            candidate_limits: candidate.map(|c| c.limits.clone()).unwrap_or_default(),
            unchecked: Args::new(),
            refused: Vec::new(),
        }
    }

    /// A candidate that is recommended is not told of as one that is not.
    fn without_candidate(&self, decision: Decision, is_recommended: bool) -> Decision {
        if !is_recommended {
            return decision;
        }
        Decision { candidate: None, candidate_limits: Vec::new(), ..decision }
    }

    fn default_limits(&self) -> Vec<bench_core::schema::LimitOutcome> {
        let default = self.default.filter(|default| default.is_measured());
        default.map(|default| default.limits.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use bench_core::schema::{Estimate, FailureClass, Point, Role, SettingFailure};

    use super::*;
    use crate::fixture::{point, profile};

    const RATE: &str = "output_tokens_per_s";
    const TPOT: &str = "tpot_p95_ms";

    /// Three starts of a setting: its throughput, and its TPOT P95 in ms.
    fn of(role: Role, rate: f64, tpot_ms: f64) -> Point {
        let starts = |mean: f64| [mean * 0.999, mean, mean * 1.001];
        let (label, args): (_, &[_]) = match role {
            Role::Default => ("default", &[]),
            Role::Baseline => ("baseline", &[("max-num-seqs", 16)]),
            _ => ("tuned", &[("max-num-seqs", 128)]),
        };
        let figures: [(&str, &[f64]); 2] = [(RATE, &starts(rate)), (TPOT, &starts(tpot_ms))];
        Point { role, ..point(label, args, "burst", &figures) }
    }

    fn broken(role: Role) -> Point {
        let failure = SettingFailure {
            class: FailureClass::KvCacheMemory,
            evidence: Vec::new(),
            foreseen: None,
        };
        Point { failure: Some(failure), metrics: Default::default(), ..of(role, 1.0, 1.0) }
    }

    fn verdict(verdict: Verdict, percent: f64) -> Comparison {
        let change = Estimate { mean: percent, ..Estimate::default() };
        Comparison {
            metric: RATE.to_owned(),
            load: "burst".to_owned(),
            verdict: Some(verdict),
            change: Some(change),
            ..Comparison::default()
        }
    }

    /// The outcome with a limit of 20 ms: what is recommended, on which grounds, and the label.
    fn decided(
        points: &[Point],
        row: Option<&Comparison>,
    ) -> Option<(Recommendation, Grounds, String)> {
        decided_for(&profile(Some(20)), points, row.map_or(&[], std::slice::from_ref))
    }

    fn decided_for(
        profile: &Profile,
        points: &[Point],
        rows: &[Comparison],
    ) -> Option<(Recommendation, Grounds, String)> {
        let of = |role| Configuration::of(points, profile, |point| point.role == role);
        let (default, baseline, tuned) = (of(Role::Default), of(Role::Baseline), of(Role::Tuned));
        let candidate = tuned.as_ref().map(|tuned| Candidate {
            args: tuned.args.clone(),
            for_objective: true,
            flags: Vec::new(),
            dropped: Vec::new(),
        });
        let judged = Judged {
            default: default.as_ref(),
            baseline: baseline.as_ref(),
            candidate: candidate.as_ref().zip(tuned.as_ref()),
            rows,
            baseline_rows: &[],
            judges: true,
        };
        let decision = decide(profile, &judged)?;
        Some((decision.recommendation, decision.grounds, decision.label))
    }

    fn is(points: &[Point], row: Option<&Comparison>, expected: (Recommendation, Grounds, &str)) {
        let (recommendation, grounds, label) = decided(points, row).expect("a decision");
        assert_eq!((recommendation, grounds, label.as_str()), expected);
    }

    #[test]
    fn settings_of_the_baseline_that_are_better_are_not_thrown_away() {
        let points = [of(Role::Default, 100.0, 10.0), of(Role::Baseline, 130.0, 10.0)];
        let configuration = |role| {
            Configuration::of(&points, &profile(Some(20)), |point| point.role == role)
                .expect("it was measured")
        };
        let (default, baseline) = (configuration(Role::Default), configuration(Role::Baseline));
        let decided = |row: &Comparison| {
            let judged = Judged {
                default: Some(&default),
                baseline: Some(&baseline),
                candidate: None,
                rows: &[],
                baseline_rows: std::slice::from_ref(row),
                judges: true,
            };
            decide(&profile(Some(20)), &judged).expect("it was measured")
        };
        let better = decided(&verdict(Verdict::Better, 30.0));
        assert_eq!(
            (better.recommendation, better.grounds),
            (Recommendation::Change, Grounds::Better)
        );
        assert_eq!((better.deployed, better.args), (Some(Column::Baseline), baseline.args.clone()));
        assert!(matches!(better.flags[0].effect, Effect::Objective { .. }));
        let open = decided(&verdict(Verdict::Inconclusive, 30.0));
        assert_eq!(open.recommendation, Recommendation::Defaults);
    }

    #[test]
    fn a_change_is_carried_by_its_verdict() {
        use Recommendation::{Change, Defaults};
        let points = [of(Role::Default, 100.0, 10.0), of(Role::Tuned, 120.0, 10.0)];
        let row = |word, percent| Some(verdict(word, percent));
        is(&points, row(Verdict::Better, 20.0).as_ref(), (Change, Grounds::Better, "tuned"));
        is(
            &points,
            row(Verdict::Better, 0.5).as_ref(),
            (Defaults, Grounds::NoDifference, "default"),
        );
        is(
            &points,
            row(Verdict::Inconclusive, 20.0).as_ref(),
            (Defaults, Grounds::NotProven, "default"),
        );
        is(
            &points,
            row(Verdict::Equivalent, 0.1).as_ref(),
            (Defaults, Grounds::NoDifference, "default"),
        );
        is(&points, row(Verdict::Worse, -9.0).as_ref(), (Defaults, Grounds::Worse, "default"));
        is(&points[..1], None, (Defaults, Grounds::NothingPromised, "default"));
    }

    #[test]
    fn a_change_is_shown_to_make_nothing_worse_that_is_guarded() {
        let itl = "itl_p99_ms";
        let margin_percent = bench_core::decimal::Decimal::from_int(5).expect("a decimal");
        let guard =
            profile::Guard { metric: itl.to_owned(), load: "burst".to_owned(), margin_percent };
        let profile = Profile { guards: vec![guard], ..profile(Some(20)) };
        let points = [of(Role::Default, 100.0, 10.0), of(Role::Tuned, 120.0, 10.0)];
        let grounds = |excludes_worse| {
            let guarded = Comparison {
                metric: itl.to_owned(),
                excludes_worse,
                ..verdict(Verdict::Inconclusive, 1.0)
            };
            let rows = [verdict(Verdict::Better, 20.0), guarded];
            decided_for(&profile, &points, &rows).map(|(_, grounds, _)| grounds)
        };
        assert_eq!(grounds(true), Some(Grounds::Better));
        assert_eq!(grounds(false), Some(Grounds::Guard));
        let unmeasured = decided_for(&profile, &points, &[verdict(Verdict::Better, 20.0)]);
        assert_eq!(unmeasured.map(|(_, grounds, _)| grounds), Some(Grounds::Guard));
    }

    #[test]
    fn what_meets_the_limits_goes_before_what_does_not() {
        use Recommendation::{Change, Defaults, NoneMeets};
        let default = || of(Role::Default, 100.0, 130.0);
        let slower = verdict(Verdict::Worse, -10.0);
        let points = [default(), of(Role::Tuned, 90.0, 18.0), of(Role::Baseline, 10.0, 5.0)];
        is(&points, Some(&slower), (Change, Grounds::Limits, "tuned"));
        let points = [default(), of(Role::Tuned, 90.0, 28.0), of(Role::Baseline, 10.0, 5.0)];
        is(&points, Some(&slower), (Change, Grounds::Limits, "baseline"));
        let points = [default(), of(Role::Tuned, 90.0, 28.0), of(Role::Baseline, 10.0, 25.0)];
        is(&points, Some(&slower), (NoneMeets, Grounds::NoneMeets, "baseline"));
        // A faster one that breaks the limit that the defaults meet.
        let points = [of(Role::Default, 100.0, 10.0), of(Role::Tuned, 200.0, 28.0)];
        let faster = verdict(Verdict::Better, 100.0);
        is(&points, Some(&faster), (Defaults, Grounds::CandidateLimits, "default"));
    }

    #[test]
    fn what_does_not_run_is_not_recommended() {
        use Recommendation::{Change, Defaults, NoneMeets};
        let points = [of(Role::Default, 100.0, 10.0), broken(Role::Tuned)];
        is(&points, None, (Defaults, Grounds::CandidateFails, "default"));
        let points = [broken(Role::Default), of(Role::Tuned, 90.0, 18.0)];
        is(&points, None, (Change, Grounds::DefaultsFail, "tuned"));
        let points = [broken(Role::Default), of(Role::Tuned, 90.0, 28.0)];
        is(&points, None, (NoneMeets, Grounds::NoneMeets, "tuned"));
        assert_eq!(decided(&[broken(Role::Default), broken(Role::Tuned)], None), None);
        let mut invalid = of(Role::Default, 100.0, 10.0);
        invalid.metrics.clear();
        assert_eq!(decided(&[invalid, of(Role::Tuned, 90.0, 18.0)], None), None);
    }

    #[test]
    fn a_limit_seen_in_one_start_is_unknown() {
        use Recommendation::Defaults;
        let one = |role, rate, tpot_ms| {
            let mut point = of(role, rate, tpot_ms);
            for estimate in point.metrics.values_mut() {
                (estimate.low, estimate.high) = (None, None);
            }
            point
        };
        let points = [one(Role::Default, 100.0, 130.0), one(Role::Tuned, 90.0, 18.0)];
        let row = verdict(Verdict::Inconclusive, -10.0);
        is(&points, Some(&row), (Defaults, Grounds::NotProven, "default"));
        // What is known to meet it goes before what is not, however near that may be.
        let points = [one(Role::Default, 100.0, 10.0), of(Role::Tuned, 90.0, 18.0)];
        is(&points, Some(&row), (Recommendation::Change, Grounds::Limits, "tuned"));
        let points = [one(Role::Default, 100.0, 10.0), of(Role::Tuned, 90.0, 28.0)];
        is(&points, Some(&row), (Defaults, Grounds::CandidateLimits, "default"));
    }
}
