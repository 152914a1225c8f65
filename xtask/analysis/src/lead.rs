//! The value that leads a sweep and that nothing judges.

use bench_core::{
    metric,
    schema::{
        Args, CompareResult, Estimate, Grounds, LimitOutcome, LimitState, Point, Role, Verdict,
    },
    stats::QuestionRole,
};

use super::{Configuration, answers::KnownAnswers, comparison, lenders::Lenders, limits};
use profile::Profile;

/// A value of a sweep that its figures favour and that is no candidate.
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
    /// Whether it is better; else it may lead by chance.
    pub is_proven: bool,
    /// Its server starts.
    pub starts: usize,
    /// Starts a side that might settle it; `None` where it would take more than anybody makes.
    pub starts_to_settle: Option<u32>,
}

/// The lead beside a comparison: where the limits decided, against what is deployed for them, else against the
/// defaults of its sweep. `judged` are the settings of which the comparison is made; a value whose answers are not
/// known to be as good leads nothing.
pub fn beside(
    comparison: &CompareResult,
    judged: &[Point],
    sweeps: &[&[Point]],
    lenders: &Lenders,
    answers: &KnownAnswers<'_>,
    profile: &Profile,
) -> Option<Lead> {
    let permitted = |points: &&[Point]| -> Vec<Point> {
        let points = lenders.figures(points).into_iter();
        points.filter(|point| answers.permits(&point.args)).collect()
    };
    let sweeps: Vec<_> = sweeps.iter().map(permitted).collect();
    let sweeps = sweeps.iter().map(Vec::as_slice);
    match (&comparison.decision.grounds, deployed(profile, comparison, judged)) {
        (Grounds::Limits, Some(deployed)) => open(sweeps, lenders, profile, deployed),
        _ => leading(sweeps, lenders, profile),
    }
}

/// What is deployed, on the objective's load.
fn deployed<'a>(
    profile: &Profile,
    comparison: &CompareResult,
    judged: &'a [Point],
) -> Option<&'a Point> {
    let role = comparison::role(comparison.decision.deployed?);
    // Of the defaults the last stage has all starts.
    let mut points = judged.iter().rev();
    points.find(|point| point.role == role && point.load == profile.objective.load)
}

/// The lead that promises most, of one sweep's points each; `None` where no value improves the objective
/// by more than its margin, or all that do are candidates: what is proven, where settings are chosen. What violates a
/// limit leads nothing.
pub fn leading<'a>(
    sweeps: impl IntoIterator<Item = &'a [Point]>,
    lenders: &Lenders,
    profile: &Profile,
) -> Option<Lead> {
    greatest(sweeps.into_iter().flat_map(|points| of_sweep(points, lenders, profile)), profile)
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
    lenders: &Lenders,
    profile: &Profile,
    deployed: &Point,
) -> Option<Lead> {
    let metric = metric::find(&profile.objective.metric)?;
    let values = sweeps
        .into_iter()
        .flat_map(|points| Configuration::all(points, profile, |point| point.role == Role::Sweep));
    let lead = |value: Configuration<'_>| {
        let is_likely = value.state() > LimitState::Met
            && value.state() != LimitState::Violated
            && limits::excess(&value.limits).is_some_and(|excess| excess <= 0.0);
        let starts = value.objective.filter(|_| is_likely && value.is_measured())?.values();
        let change = lenders.change(metric, deployed, value.point?)?;
        let open = value.limits.iter().filter(|limit| limit.state != LimitState::Met);
        Some(Lead {
            label: value.label.to_owned(),
            args: value.args.clone(),
            change,
            limits: open.cloned().collect(),
            is_proven: false,
            starts: starts.len(),
            starts_to_settle: None,
        })
    };
    greatest(values.filter_map(lead), profile)
}

fn of_sweep(points: &[Point], lenders: &Lenders, profile: &Profile) -> Vec<Lead> {
    let default = Configuration::of(points, profile, |point| point.role == Role::Default);
    let Some(before) = default.and_then(|default| default.point) else { return Vec::new() };
    let Some(metric) = metric::find(&profile.objective.metric) else { return Vec::new() };
    let values = Configuration::all(points, profile, |point| point.role == Role::Sweep);
    let lead = |value: Configuration<'_>| {
        let starts = value.objective.filter(|_| value.state() != LimitState::Violated)?.values();
        let pair = [(before, value.point?, metric)];
        // Each value is asked for alone: what leads by chance is told apart by further starts.
        let judged = comparison::judged_together(pair, QuestionRole::Primary, lenders, profile);
        let judged = judged.into_iter().next()?;
        let is_proven = judged.verdict == Some(Verdict::Better);
        let is_candidate = is_proven && profile.stages.iter().any(|stage| stage == "choose");
        let is_open = judged.verdict == Some(Verdict::Inconclusive);
        (is_open || is_proven && !is_candidate).then_some(Lead {
            label: value.label.to_owned(),
            args: value.args.clone(),
            change: judged.change?,
            limits: Vec::new(),
            is_proven,
            starts: starts.len(),
            starts_to_settle: judged.starts_to_settle,
        })
    };
    values.into_iter().filter_map(lead).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{point, profile};
    use bench_core::stats;

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
        let leading = |points: &[Point], limit_ms| {
            let profile = Profile { stages: vec!["choose".to_owned()], ..profile(limit_ms) };
            leading([points], &Lenders::default(), &profile)
        };
        let lead = leading(&points[..], None).expect("512 leads");
        assert_eq!((&*lead.label, lead.starts), ("512", 3));
        assert!(lead.change.mean > 8.0 && lead.starts_to_settle > Some(3), "{lead:?}");
        // What is proven is a candidate, and needs no such words.
        let proven = [points[0].clone(), of("512", 512, &[150.0, 151.0, 149.0])];
        assert_eq!(leading(&proven[..], None), None);
        assert_eq!(leading(&points[2..], None), None, "nothing to compare with");
        // Nor does it lead at the price of a limit.
        let mut broken = points;
        let slow = stats::estimate(vec![50.0, 51.0, 52.0]).expect("values");
        broken[1].metrics.insert("tpot_p95_ms".to_owned(), slow);
        let lead = leading(&broken[..], Some(20));
        assert_eq!(lead.map(|lead| lead.label), None);
    }

    /// The last screen and `compare` say the same of a value.
    #[test]
    fn other_settings_may_prove_a_lead() {
        let default = Point { role: Role::Default, ..of("default", 256, &[100.0, 104.0]) };
        let points = [default, of("512", 512, &[130.0, 137.0]), of("8", 8, &[20.0, 20.6])];
        let other = of("16", 16, &[40.0, 41.5]);
        let found = |lenders| {
            let lead = leading([&points[..]], &lenders, &profile(None)).expect("512 leads");
            (lead.label, lead.is_proven)
        };
        assert_eq!(found(Lenders::of(&points)), ("512".to_owned(), false));
        let lenders = Lenders::of(points.iter().chain([&other]));
        assert_eq!(found(lenders), ("512".to_owned(), true));
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
        let open = |points| open([points], &Lenders::default(), &profile(Some(20)), &points[0]);
        let found = open(&points[..]).expect("128 may do it");
        assert_eq!((&*found.label, found.limits.len(), found.starts), ("128", 1, 3));
        assert!(found.change.mean > 25.0, "against what is deployed: {found:?}");
        assert_eq!(open(&points[..1]), None);
    }
}
