//! What to deploy, from what was measured to judge it.

use std::cmp::Ordering;

use bench_core::schema::{
    Args, Candidate, Comparison, Decision, Effect, FlagReason, Grounds, LimitState, Recommendation,
    Verdict,
};

use super::{Configuration, limits, merit};
use crate::config::Profile;

/// What is decided on: figures of starts that took no part in the choice.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// vLLM's defaults.
    pub default: Option<&'a Configuration<'a>>,
    /// The profile's settings to beat.
    pub baseline: Option<&'a Configuration<'a>>,
    /// The candidate and what it was named for; none where it is the defaults.
    pub candidate: Option<(&'a Candidate, &'a Configuration<'a>)>,
    /// The objective, defaults against candidate.
    pub primary: Option<&'a Comparison>,
    /// Whether the profile judges candidates at all.
    pub judges: bool,
}

/// The decision; `None` where the defaults run and gave no valid figure for the objective, or
/// nothing did: then there is nothing to decide by.
///
/// A change is carried by the objective's verdict, or by limits that it meets and the defaults are
/// not known to meet. Whatever meets the limits goes before whatever does not.
pub fn decide(profile: &Profile, judged: &Judged<'_>) -> Option<Decision> {
    let default = judged.default.filter(|default| default.is_measured());
    if default.is_none() && !judged.default.is_some_and(|default| default.fails) {
        return None;
    }
    let others = others(judged);
    if default.is_none() && others.is_empty() {
        return None;
    }
    let default_state = default.map(Configuration::state);
    let carried = match default_state {
        // Unknown for want of starts or figures is no reason to leave the defaults.
        Some(state) if state <= LimitState::NotMeasured => by_verdict(profile, judged, state),
        Some(_) => by_limits(profile, &others),
        None => by_limits(profile, &others)
            .or_else(|| others.iter().find(|other| !is_violated(other)).copied()),
    };
    let decision = match (carried, default) {
        (Some(setting), Some(_)) if default_state <= Some(LimitState::NotMeasured) => {
            judged.change(profile, setting, Grounds::Better)
        }
        (Some(setting), Some(_)) => judged.change(profile, setting, Grounds::Limits),
        (Some(setting), None) => judged.change(profile, setting, Grounds::DefaultsFail),
        (None, Some(default)) if !is_violated(default) => judged.defaults(profile, default),
        (None, _) => judged.none_meets(default.into_iter().chain(others).collect()),
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
    (is_kept && is_better(profile, judged.primary)).then_some(setting)
}

/// Better, and by more than nobody would care for.
fn is_better(profile: &Profile, primary: Option<&Comparison>) -> bool {
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
    fn change(&self, profile: &Profile, setting: &Configuration<'_>, grounds: Grounds) -> Decision {
        let own = self.candidate.filter(|(_, candidate)| candidate.label == setting.label);
        let flags = match own {
            Some((candidate, _)) => candidate.flags.clone(),
            None => vec![self.of_baseline(setting)],
        };
        debug_assert!(profile.slo.len() == setting.limits.len());
        let decision = self.decision(Recommendation::Change, grounds, setting);
        Decision { flags, ..self.without_candidate(decision, own.is_some()) }
    }

    /// Why the settings to beat are to be deployed.
    fn of_baseline(&self, setting: &Configuration<'_>) -> FlagReason {
        FlagReason {
            from: "baseline".to_owned(),
            label: setting.label.to_owned(),
            args: setting.args.clone(),
            effect: Effect::Limit {
                limits: setting.limits.clone(),
                default_limits: self.default_limits(),
            },
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
            Some(_) => match self.primary.and_then(|row| row.verdict) {
                Some(Verdict::Worse) => Grounds::Worse,
                Some(Verdict::Better | Verdict::Equivalent) => Grounds::NoDifference,
                Some(Verdict::Inconclusive) => Grounds::NotProven,
                None => Grounds::NotJudged,
            },
        };
        debug_assert!(!is_better(profile, self.primary) || grounds != Grounds::NotProven);
        self.decision(Recommendation::Defaults, grounds, default)
    }

    fn none_meets(&self, settings: Vec<&Configuration<'_>>) -> Decision {
        let nearest = nearest(&settings).expect("something was measured");
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
            args: setting.args.clone(),
            flags: Vec::new(),
            limits: setting.limits.clone(),
            default_limits: self.default_limits(),
            candidate: candidate.map(|candidate| candidate.args.clone()),
            candidate_limits: candidate.map(|c| c.limits.clone()).unwrap_or_default(),
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

/// Every argument of what is deployed, the profile's own included.
pub fn deployed(profile: &Profile, decision: &Decision) -> Args {
    let mut args = profile.engine_args.clone();
    args.extend(decision.args.clone());
    args
}
