//! Which settings are worth being judged: from sweeps to candidates.
//!
//! What names a candidate is never used to judge it: the figures here are those of the sweeps, and
//! [`first_judged_start`] says from which start on a configuration is measured to be judged.

use std::cmp::Ordering;

use bench_core::{
    metric,
    schema::{Args, Candidate, Effect, Estimate, FlagReason, LimitState, Verdict},
    search::STARTS_MAX,
    stats::QuestionRole,
};

use super::{Configuration, comparison, lenders::Lenders, limits, merit};
use profile::Profile;

/// Name of the joint search among the sweeps.
pub const TUNE: &str = "tune";

/// The values of a sweep, with the defaults measured beside them.
#[derive(Clone, Debug)]
pub struct Swept<'a> {
    /// Name of the sweep.
    pub name: &'a str,
    /// Its values.
    pub values: Vec<Configuration<'a>>,
    /// vLLM's defaults.
    pub default: Option<Configuration<'a>>,
    /// The settings that say how much starts differ.
    pub lenders: &'a Lenders,
}

impl Swept<'_> {
    /// Of each value the change of the objective against the defaults and whether it is better, all of them one
    /// family; nothing of what has no figure.
    pub fn changes(&self, profile: &Profile) -> Vec<(Option<Estimate>, Option<Verdict>)> {
        let metric = metric::find(&profile.objective.metric);
        let before = self.default.as_ref().and_then(|default| default.point);
        let Some((metric, before)) = metric.zip(before) else {
            return vec![(None, None); self.values.len()];
        };
        let pairs = self.values.iter().filter_map(|value| Some((before, value.point?, metric)));
        let role = QuestionRole::Guardrail;
        let mut judged =
            comparison::judged_together(pairs, role, self.lenders, profile).into_iter();
        let of_value = |value: &Configuration<'_>| {
            let judged = value.point.and_then(|_| judged.next());
            judged.map_or((None, None), |judged| (judged.change, judged.verdict))
        };
        self.values.iter().map(of_value).collect()
    }
}

/// How well a value does against the limits, by what a sweep says of it; the better the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It meets them.
    Met,
    /// It is not known to, and its means keep them as far as they were measured.
    Likely,
    /// It is not known to, and a mean breaks one.
    Unlikely,
    /// It violates one.
    Violated,
    /// It does not run, or gave no valid trial.
    Fails,
}

/// How sure it is that a value improves the objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gain {
    /// It does not, by more than the margin.
    No,
    /// Its interval says so, and one of so many values may do that by chance.
    Hint,
    /// A start says so: the spread between starts is not known.
    OneStart,
    /// It is better, corrected for the number of values.
    Proven,
}

/// A value and what speaks for it.
struct Proposal<'a> {
    sweep: &'a str,
    value: &'a Configuration<'a>,
    standing: Standing,
    gain: Gain,
    change: Option<Estimate>,
}

/// See [`Standing`].
pub fn standing(configuration: &Configuration<'_>) -> Standing {
    if !configuration.is_measured() {
        return Standing::Fails;
    }
    let is_kept_by_means = limits::excess(&configuration.limits).is_none_or(|excess| excess <= 0.0);
    match configuration.state() {
        LimitState::Met => Standing::Met,
        LimitState::Violated => Standing::Violated,
        _ if is_kept_by_means => Standing::Likely,
        _ => Standing::Unlikely,
    }
}

/// The number of the first start of a configuration that takes no part in the choice: by starts
/// from here on it is judged.
pub fn first_judged_start(profile: &Profile, args: &Args) -> u32 {
    if !profile.stages.iter().any(|stage| stage == "choose") {
        return 0;
    }
    let is_reference = args.is_empty();
    let swept = profile
        .sweeps
        .iter()
        .filter(|sweep| is_reference || sweep.values.iter().any(|value| value.args == *args));
    // A search starts a setting so often at most, and confirms some on the starts after.
    let tuned = profile
        .tune
        .iter()
        .filter(|tune| is_reference || tune.settings.iter().any(|setting| setting.args == *args));
    let used = swept.map(|sweep| sweep.starts).chain(tuned.map(|_| STARTS_MAX + profile.starts));
    used.max().unwrap_or(0)
}

/// Starts of each setting that is judged: what the profile asks for, and where it has limits at least
/// two, since one start tells nothing of a limit.
pub fn judged_starts(profile: &Profile) -> u32 {
    if profile.slo.is_empty() { profile.starts } else { profile.starts.max(2) }
}

/// The best value of a sweep with what speaks for it; `None` where the defaults do as well.
pub fn best<'a>(
    swept: &'a Swept<'a>,
    profile: &Profile,
) -> Option<(&'a Configuration<'a>, FlagReason)> {
    let proposals = proposals(swept, profile);
    let best = if is_default_well(swept.default.as_ref()) {
        improvement(&proposals, profile, Gain::Hint, Standing::Likely)
    } else {
        let kept = proposals.iter().filter(|p| p.standing <= Standing::Likely);
        kept.min_by(|a, b| by_limits(profile, a, b)).or_else(|| nearest(&proposals, swept))
    }?;
    Some((best.value, reason(best, swept.default.as_ref())))
}

/// The settings to judge, the first one first: [`next`] says which of the others follow.
///
/// `tuned` is what a joint search confirmed; `fits` says why arguments do not go together.
pub fn candidates(
    sweeps: &[Swept<'_>],
    tuned: Option<&Swept<'_>>,
    profile: &Profile,
    fits: &dyn Fn(&Args) -> Result<(), String>,
) -> Vec<Candidate> {
    let all: Vec<&Swept<'_>> = tuned.into_iter().chain(sweeps).collect();
    let default = all.iter().find_map(|swept| swept.default.as_ref());
    let proposals: Vec<Vec<Proposal<'_>>> =
        all.iter().map(|swept| proposals(swept, profile)).collect();
    let flat = || proposals.iter().flatten();
    let mut out = Candidates { fits, default, list: Vec::new() };

    let mut by_limits_order: Vec<&Proposal<'_>> =
        flat().filter(|p| p.standing <= Standing::Likely).collect();
    by_limits_order.sort_by(|a, b| by_limits(profile, a, b));

    if is_default_well(default) {
        let certain = improvements(&proposals, profile, Gain::OneStart, Standing::Likely);
        let named = if certain.is_empty() {
            // Of what may be chance, one at a time: beside a flag that works, nobody would see
            // that it does nothing.
            let hints = improvements(&proposals, profile, Gain::Hint, Standing::Likely);
            hints.into_iter().take(1).collect()
        } else {
            certain
        };
        out.push(&named, true);
        named.iter().for_each(|one| out.push(&[*one], true));
    } else if let Some(first) = by_limits_order.first() {
        // They break the limits as the defaults do; whether the first one heals that, starts show.
        let others = improvements(&proposals, profile, Gain::OneStart, Standing::Violated);
        let others = others.into_iter().filter(|other| other.sweep != first.sweep);
        let together: Vec<_> = std::iter::once(*first).chain(others).collect();
        out.push(&together, false);
    } else {
        let mut near: Vec<_> = all
            .iter()
            .zip(&proposals)
            .filter_map(|(swept, proposals)| nearest(proposals, swept))
            .collect();
        near.sort_by(|a, b| by_excess(a, b));
        out.push(&near, false);
        near.iter().for_each(|one| out.push(&[*one], false));
    }
    by_limits_order.iter().for_each(|one| out.push(&[*one], false));
    out.list
}

/// Which candidate is to be judged next, after those whose limits turned out so; `None` when the
/// last one is the one to decide on. The objective has no say: who looks at it until it pleases
/// finds chance.
pub fn next(
    default: Option<LimitState>,
    candidates: &[Candidate],
    judged: &[Option<LimitState>],
) -> Option<usize> {
    // With a single start, or without a figure, no other candidate would be known better.
    let is_settled =
        |state: Option<LimitState>| state.is_some_and(|state| state <= LimitState::NotMeasured);
    if judged.last().is_some_and(|state| is_settled(*state)) {
        return None;
    }
    let next = candidates.get(judged.len())?;
    (next.for_objective || !is_settled(default)).then_some(judged.len())
}

/// Whether the defaults run and keep the limits, as far as a sweep says.
pub fn is_default_well(default: Option<&Configuration<'_>>) -> bool {
    default.is_none_or(|default| standing(default) <= Standing::Likely)
}

fn proposals<'a>(swept: &'a Swept<'a>, profile: &Profile) -> Vec<Proposal<'a>> {
    let proposal = |(value, (change, verdict)): (&'a Configuration<'a>, (Option<_>, _))| Proposal {
        sweep: swept.name,
        value,
        standing: standing(value),
        gain: gain(&change, verdict, profile),
        change,
    };
    swept.values.iter().zip(swept.changes(profile)).map(proposal).collect()
}

fn gain(change: &Option<Estimate>, verdict: Option<Verdict>, profile: &Profile) -> Gain {
    let Some(change) = change else { return Gain::No };
    let sign = if profile.objective.maximize { 1.0 } else { -1.0 };
    if sign * change.mean < profile.objective.margin_percent() {
        return Gain::No;
    }
    match change.low.zip(change.high) {
        None => Gain::OneStart,
        Some(_) if verdict == Some(Verdict::Better) => Gain::Proven,
        Some((low, high)) if low > 0.0 || high < 0.0 => Gain::Hint,
        Some(_) => Gain::No,
    }
}

/// The value that improves the objective most, of those that improve it so surely and do no worse
/// against the limits.
fn improvement<'p, 'a>(
    proposals: &'p [Proposal<'a>],
    profile: &Profile,
    least: Gain,
    worst: Standing,
) -> Option<&'p Proposal<'a>> {
    let kept = proposals.iter().filter(|p| p.gain >= least && p.standing <= worst);
    // Surer ones first: a figure that chance made great is not to hide one that is.
    kept.min_by(|a, b| b.gain.cmp(&a.gain).then_with(|| by_merit(profile, a, b)))
}

/// The improvement of each sweep: what was searched together first, then the greatest.
fn improvements<'p, 'a>(
    proposals: &'p [Vec<Proposal<'a>>],
    profile: &Profile,
    least: Gain,
    worst: Standing,
) -> Vec<&'p Proposal<'a>> {
    let mut found: Vec<_> = proposals
        .iter()
        .filter_map(|proposals| improvement(proposals, profile, least, worst))
        .collect();
    let is_alone = |p: &Proposal<'_>| p.sweep != TUNE;
    found.sort_by(|a, b| is_alone(a).cmp(&is_alone(b)).then_with(|| by_merit(profile, a, b)));
    found
}

/// The value of a sweep that breaks the limits least, if less than the defaults.
fn nearest<'p, 'a>(proposals: &'p [Proposal<'a>], swept: &Swept<'_>) -> Option<&'p Proposal<'a>> {
    let excess = |limits: &[_]| limits::excess(limits).unwrap_or(f64::INFINITY);
    let default = swept.default.as_ref().filter(|default| default.is_measured());
    let default = default.map_or(f64::INFINITY, |default| excess(&default.limits));
    let runs = proposals.iter().filter(|p| p.standing != Standing::Fails);
    runs.filter(|p| excess(&p.value.limits) < default).min_by(|a, b| by_excess(a, b))
}

fn by_merit(profile: &Profile, a: &Proposal<'_>, b: &Proposal<'_>) -> Ordering {
    let merit = |p: &Proposal<'_>| p.value.objective.map(|value| merit(profile, value));
    let merit = |p| merit(p).unwrap_or(f64::NEG_INFINITY);
    merit(b).total_cmp(&merit(a))
}

/// Those that meet the limits before those that are only likely to, then by the objective.
fn by_limits(profile: &Profile, a: &Proposal<'_>, b: &Proposal<'_>) -> Ordering {
    a.standing.cmp(&b.standing).then_with(|| by_merit(profile, a, b))
}

fn by_excess(a: &Proposal<'_>, b: &Proposal<'_>) -> Ordering {
    let excess = |p: &Proposal<'_>| limits::excess(&p.value.limits).unwrap_or(f64::INFINITY);
    excess(a).total_cmp(&excess(b))
}

fn reason(proposal: &Proposal<'_>, default: Option<&Configuration<'_>>) -> FlagReason {
    let effect = match &proposal.change {
        Some(change) if proposal.gain > Gain::No => Effect::Objective { change: change.clone() },
        _ => Effect::Limit {
            limits: proposal.value.limits.clone(),
            default_limits: default.map(|default| default.limits.clone()).unwrap_or_default(),
        },
    };
    FlagReason {
        from: proposal.sweep.to_owned(),
        label: proposal.value.label.to_owned(),
        args: proposal.value.args.clone(),
        others: Args::new(),
        effect,
    }
}

/// The list as it grows.
struct Candidates<'c> {
    fits: &'c dyn Fn(&Args) -> Result<(), String>,
    default: Option<&'c Configuration<'c>>,
    list: Vec<Candidate>,
}

impl Candidates<'_> {
    /// Adds proposals put together, but for those that do not go with the ones before; nothing
    /// that is there already.
    fn push(&mut self, proposals: &[&Proposal<'_>], for_objective: bool) {
        let (mut args, mut flags) = (Args::new(), Vec::new());
        for proposal in proposals.iter().filter(|proposal| !proposal.value.args.is_empty()) {
            if let Some(more) = combined(&args, proposal.value.args)
                && more != args
                && (self.fits)(&more).is_ok()
            {
                let mut reason = reason(proposal, self.default);
                if !for_objective && flags.is_empty() {
                    // It leads for the limits, whatever it does to the objective.
                    reason.effect = Effect::Limit {
                        limits: proposal.value.limits.clone(),
                        default_limits: self.default.map(|d| d.limits.clone()).unwrap_or_default(),
                    };
                }
                flags.push(reason);
                args = more;
            }
        }
        if !args.is_empty() && self.list.iter().all(|other| other.args != args) {
            self.list.push(Candidate { args, for_objective, flags, dropped: Vec::new() });
        }
    }
}

/// Both sets of arguments; `None` where they give one flag two values.
fn combined(args: &Args, more: &Args) -> Option<Args> {
    let mut combined = args.clone();
    for (flag, value) in more {
        if combined.insert(flag.clone(), value.clone()).is_some_and(|other| other != *value) {
            return None;
        }
    }
    Some(combined)
}

#[cfg(test)]
mod tests;
