//! The value that leads a sweep without being proven better.

use bench_core::{
    metric,
    schema::{Args, Estimate, LimitOutcome, LimitState, Point, Role, Verdict},
    stats::{self, LEVEL, Question, QuestionRole},
};

use super::{Configuration, is_share, limits};
use profile::Profile;

/// A value of a sweep that its figures favour, and that may do so by chance.
#[derive(Clone, Debug, PartialEq)]
pub struct Lead {
    /// Its label.
    pub label: String,
    /// What it sets.
    pub args: Args,
    /// The change of the objective against the defaults of the same sweep; of one with open limits, against
    /// what is deployed.
    pub change: Estimate,
    /// The limits that it may meet and is not known to, where that keeps it from being deployed.
    pub limits: Vec<LimitOutcome>,
    /// Its server starts.
    pub starts: usize,
    /// Starts a side that might settle it; `None` where it would take more than anybody makes.
    pub starts_to_settle: Option<u32>,
}

/// The lead that promises most, of one sweep's points each; `None` where no value improves the objective
/// by more than its margin, or all that do are proven. What violates a limit leads nothing.
pub fn undecided<'a>(
    sweeps: impl IntoIterator<Item = &'a [Point]>,
    profile: &Profile,
) -> Option<Lead> {
    greatest(sweeps.into_iter().flat_map(|points| of_sweep(points, profile)), profile)
}

/// The one that improves the objective most, and by more than its margin.
fn greatest(leads: impl Iterator<Item = Lead>, profile: &Profile) -> Option<Lead> {
    let sign = if profile.objective.maximize { 1.0 } else { -1.0 };
    leads
        .filter(|lead| sign * lead.change.mean >= profile.objective.margin_percent())
        .max_by(|a, b| (sign * a.change.mean).total_cmp(&(sign * b.change.mean)))
}

/// The value of a sweep that would serve the objective better than what is deployed for the limits, and of
/// which it is open whether it meets them: its means do.
pub fn open<'a>(
    sweeps: impl IntoIterator<Item = &'a [Point]>,
    profile: &Profile,
    deployed: &Estimate,
) -> Option<Lead> {
    let values = sweeps
        .into_iter()
        .flat_map(|points| Configuration::all(points, profile, |point| point.role == Role::Sweep));
    let lead = |value: Configuration<'_>| {
        let is_likely = value.state() > LimitState::Met
            && value.state() != LimitState::Violated
            && limits::excess(&value.limits).is_some_and(|excess| excess <= 0.0);
        let after = value.objective.filter(|_| is_likely && value.is_measured())?;
        let change = stats::change(deployed, after, is_share(profile))?;
        let open = value.limits.iter().filter(|limit| limit.state != LimitState::Met);
        Some(Lead {
            label: value.label.to_owned(),
            args: value.args.clone(),
            change,
            limits: open.cloned().collect(),
            starts: after.values().len(),
            starts_to_settle: None,
        })
    };
    greatest(values.filter_map(lead), profile)
}

fn of_sweep(points: &[Point], profile: &Profile) -> Vec<Lead> {
    let default = Configuration::of(points, profile, |point| point.role == Role::Default);
    let Some(before) = default.and_then(|default| default.objective) else { return Vec::new() };
    let Some(metric) = metric::find(&profile.objective.metric) else { return Vec::new() };
    let values = Configuration::all(points, profile, |point| point.role == Role::Sweep);
    let lead = |value: Configuration<'_>| {
        let after = value.objective.filter(|_| value.state() != LimitState::Violated)?;
        let change = stats::change(before, after, is_share(profile))?;
        let (starts_before, starts_after) = (stats::starts_of(before), stats::starts_of(after));
        let question = Question {
            metric,
            load: &profile.objective.load,
            before: &starts_before,
            after: &starts_after,
            history: &[],
            requests: None,
            margin_percent: profile.objective.margin_percent(),
            role: QuestionRole::Primary,
        };
        let judgement = stats::judge(&[question], LEVEL).pop()?;
        (judgement.verdict == Some(Verdict::Inconclusive)).then(|| Lead {
            label: value.label.to_owned(),
            args: value.args.clone(),
            change,
            limits: Vec::new(),
            starts: starts_after.len(),
            starts_to_settle: judgement.starts_to_settle,
        })
    };
    values.into_iter().filter_map(lead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{point, profile};

    fn of(label: &str, value: i64, rate: &[f64]) -> Point {
        point(label, &[("max-num-seqs", value)], "burst", &[("output_tokens_per_s", rate)])
    }

    #[test]
    fn a_value_that_leads_and_is_not_proven_is_named() {
        let default = Point { role: Role::Default, ..of("default", 256, &[100.0, 104.0, 96.0]) };
        let points = [
            default,
            of("512", 512, &[104.0, 117.0, 105.0]),
            of("1024", 1024, &[100.0, 105.0, 98.0]),
            of("2048", 2048, &[60.0, 61.0, 62.0]),
        ];
        let lead = undecided([&points[..]], &profile(None)).expect("512 leads");
        assert_eq!((&*lead.label, lead.starts), ("512", 3));
        assert!(lead.change.mean > 8.0 && lead.starts_to_settle > Some(3), "{lead:?}");
        // What is proven is a candidate, and needs no such words.
        let proven = [points[0].clone(), of("512", 512, &[150.0, 151.0, 149.0])];
        assert_eq!(undecided([&proven[..]], &profile(None)), None);
        assert_eq!(undecided([&points[2..]], &profile(None)), None, "nothing to compare with");
        // Nor does it lead at the price of a limit.
        let mut broken = points;
        let slow = stats::estimate(vec![50.0, 51.0, 52.0]).expect("values");
        broken[1].metrics.insert("tpot_p95_ms".to_owned(), slow);
        let lead = undecided([&broken[..]], &profile(Some(20)));
        assert_eq!(lead.map(|lead| lead.label), None);
    }

    #[test]
    fn a_value_that_may_meet_the_limits_for_less_is_named() {
        let with_tpot = |label, value, rate: &[f64], tpot: &[f64]| {
            let figures: [(&str, &[f64]); 2] =
                [("output_tokens_per_s", rate), ("tpot_p95_ms", tpot)];
            point(label, &[("max-num-seqs", value)], "burst", &figures)
        };
        let points = [
            with_tpot("64", 64, &[100.0, 101.0, 99.0], &[11.0, 12.0, 11.5]),
            with_tpot("128", 128, &[130.0, 131.0, 129.0], &[17.0, 21.0, 19.0]),
            with_tpot("256", 256, &[160.0, 161.0, 159.0], &[40.0, 41.0, 42.0]),
        ];
        let deployed = points[0].metrics["output_tokens_per_s"].clone();
        let found = open([&points[..]], &profile(Some(20)), &deployed).expect("128 may do it");
        assert_eq!((&*found.label, found.limits.len(), found.starts), ("128", 1, 3));
        assert!(found.change.mean > 25.0, "against what is deployed: {found:?}");
        assert_eq!(open([&points[..1]], &profile(Some(20)), &deployed), None);
    }
}
