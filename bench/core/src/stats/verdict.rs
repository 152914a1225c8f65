//! Verdicts on the questions of one comparison.
//!
//! Each question has a role, which says how it is corrected for the others: the primary one is tested
//! alone, guardrails by Holm's procedure among themselves and for being no worse than a margin,
//! secondary ones by their false discovery rate, diagnostic ones not at all. Equivalence is shown by two
//! one-sided tests. `docs/reference.md` has the definitions and where they come from.

use super::{
    difference::{Difference, Error, Scale},
    rank,
    spread::{Spread, Start},
    student,
};
use crate::{
    metric::{Direction, Metric},
    schema::{Estimate, Verdict},
};

/// How often the primary question of equals may end better or worse, and any guardrail; the share of
/// secondary verdicts that may be wrong; the share that intervals of 95 % miss.
pub const LEVEL: f64 = 0.05;

/// How likely the minimum detectable effect is found.
pub const POWER: f64 = 0.9;

/// The normal quantile of [`POWER`].
const POWER_Z: f64 = 1.281_552;

/// More starts a side than these are proposed to nobody.
pub const STARTS_MAX: u32 = 50;

/// Metrics whose ratio is the same in every start to so many parts are one measurement.
const SAME_RATIO: f64 = 2e-6;

/// What a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuestionRole {
    /// What the profile wants: tested alone.
    Primary,
    /// What must not get worse: shown to be no worse than a margin.
    Guardrail,
    /// Whatever else is better one way.
    Secondary,
    /// It explains: an interval and no verdict.
    Diagnostic,
}

/// One metric on one load, before and after.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What was measured.
    pub metric: &'a Metric,
    /// Under which load.
    pub load: &'a str,
    /// The server starts of one side.
    pub before: &'a [Start],
    /// Those of the other.
    pub after: &'a [Start],
    /// Spreads of other settings, measured on this engine and card, in this metric on this load
    /// ([`spread`]).
    pub lent: &'a [Spread],
    /// Requests of a start, over its repeats; `None` where nobody counted. A percentile with few
    /// requests beyond it is not judged ([`Metric::is_judged_from`]).
    pub requests: Option<u64>,
    /// A change within so many percent (points of shares) is none worth having.
    pub margin_percent: f64,
    /// How it is corrected for the others.
    pub role: QuestionRole,
}

/// What is to be said of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// In percent of the value before, in points of shares; `None` where nothing was before. The
    /// interval misses the true change as often as the level says.
    pub change: Option<Estimate>,
    /// `None` of diagnostics and of what is not judged.
    pub verdict: Option<Verdict>,
    /// Why that verdict.
    pub reason: String,
    /// The smallest change, in percent or points, that these starts show with a probability of
    /// [`POWER`].
    pub detectable: Option<f64>,
    /// For inconclusive ones, starts a side that are likely to settle it, if the figures so far
    /// are right; `None` beyond [`STARTS_MAX`].
    pub starts_to_settle: Option<u32>,
    /// Whether a change for the worse beyond the margin is excluded.
    pub excludes_worse: bool,
    /// What it was asked for.
    pub role: QuestionRole,
    /// Index of the question of which this is the same measurement in another unit.
    pub same_as: Option<usize>,
}

/// The spread between starts of a setting, on the scale on which the metric's changes are judged; `None`
/// of a single start, and of values that have no logarithm.
pub fn spread(metric: &Metric, starts: &[Start]) -> Option<Spread> {
    if rank::has_unreached(starts) {
        return None;
    }
    let scale = Scale::of(starts, &[], metric.is_share());
    scale.spread(starts, metric.is_share())
}

/// Judges all questions of one comparison. Their order does not matter. `level` is [`LEVEL`], or
/// what a look before the last start may spend of it ([`super::Looks::level`]).
pub fn judge(questions: &[Question<'_>], level: f64) -> Vec<Judgement> {
    let asked: Vec<Option<Asked<'_>>> = questions.iter().map(Asked::new).collect();
    let same_as = same_measurements(questions, &asked);
    let p: Vec<Option<f64>> = asked
        .iter()
        .zip(&same_as)
        .zip(questions)
        .map(|((asked, same_as), question)| match asked {
            Some(asked) => same_as.is_none().then(|| asked.p())?,
            None => unreached_p(question),
        })
        .collect();
    let mut tests: Vec<Option<Test>> = vec![None; questions.len()];
    for (role, correct) in [
        (QuestionRole::Primary, holm as fn(&[f64]) -> Vec<f64>),
        (QuestionRole::Guardrail, holm),
        (QuestionRole::Secondary, benjamini_hochberg),
    ] {
        let family: Vec<usize> =
            (0..p.len()).filter(|i| questions[*i].role == role && p[*i].is_some()).collect();
        let corrected = correct(&family.iter().filter_map(|i| p[*i]).collect::<Vec<_>>());
        for (i, p) in family.iter().zip(corrected) {
            tests[*i] = Some(Test { p, family: family.len(), level });
        }
    }
    (0..questions.len())
        .map(|i| {
            let lead = same_as[i].unwrap_or(i);
            let judgement = match (&asked[i], tests[lead]) {
                (None, test) => unreached(&questions[i], test),
                (Some(asked), None) => asked.without_test(level),
                (Some(asked), Some(test)) => asked.tested(test),
            };
            Judgement { role: questions[i].role, same_as: same_as[i], ..judgement }
        })
        .collect()
}

/// For each question the one whose measurement it repeats in another unit: of those with the same
/// ratio in every start, the first of the weightiest role. Requests/s and tokens/s of fixed outputs
/// are one question, and so are P95 and P99 of eight requests.
fn same_measurements(
    questions: &[Question<'_>],
    asked: &[Option<Asked<'_>>],
) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..questions.len()).filter(|i| asked[*i].is_some()).collect();
    order.sort_by_key(|i| questions[*i].role);
    let mut same_as = vec![None; questions.len()];
    for (n, i) in order.iter().enumerate() {
        let is_judged = |i: usize| questions[i].metric.direction != Direction::Neither;
        let mut leads = order[..n].iter().filter(|lead| same_as[**lead].is_none());
        same_as[*i] = leads
            .find(|lead| {
                is_judged(**lead) && is_judged(*i) && are_same(&questions[**lead], &questions[*i])
            })
            .copied();
    }
    same_as
}

fn are_same(a: &Question<'_>, b: &Question<'_>) -> bool {
    let values = |question: &Question<'_>| -> Vec<f64> {
        let sides = question.before.iter().chain(question.after);
        sides.map(|start| start.repeats.iter().map(|v| libm::log(*v)).sum()).collect()
    };
    if a.load != b.load || (a.metric.direction != b.metric.direction) {
        return false;
    }
    let (a, b) = (values(a), values(b));
    let ratio = |i: usize| a[i] - b[i];
    a.len() == b.len()
        && (0..a.len()).all(|i| (ratio(i) - ratio(0)).abs() < SAME_RATIO)
        && a.iter().any(|value| (value - a[0]).abs() > SAME_RATIO)
}

/// Corrected p, so that those at or below a level are Holm's rejections at that level.
fn holm(p: &[f64]) -> Vec<f64> {
    let mut corrected = vec![0.0; p.len()];
    let mut highest = 0.0_f64;
    for (rank, i) in ascending(p).into_iter().enumerate() {
        highest = highest.max(p[i] * (p.len() - rank) as f64).min(1.0);
        corrected[i] = highest;
    }
    corrected
}

/// Corrected p, so that of those at or below a level no more than this share is expected to be wrong.
fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut corrected = vec![0.0; p.len()];
    let mut lowest = 1.0_f64;
    for (rank, i) in ascending(p).into_iter().enumerate().rev() {
        lowest = lowest.min(p[i] * p.len() as f64 / (rank + 1) as f64);
        corrected[i] = lowest;
    }
    corrected
}

fn ascending(p: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    order
}

/// The test of one question among those of its role.
#[derive(Clone, Copy, Debug)]
struct Test {
    /// Corrected for the others.
    p: f64,
    /// How many were corrected together.
    family: usize,
    level: f64,
}

/// Of a question with figures that were not reached, the test by rank.
fn unreached_p(question: &Question<'_>) -> Option<f64> {
    let is_judged = question.role != QuestionRole::Diagnostic
        && question.metric.direction != Direction::Neither
        && is_unreached(question);
    is_judged.then(|| rank::test(question.before, question.after).map(|(p, _)| p))?
}

fn is_unreached(question: &Question<'_>) -> bool {
    rank::has_unreached(question.before) || rank::has_unreached(question.after)
}

/// The judgement on a question that has no difference in numbers.
fn unreached(question: &Question<'_>, test: Option<Test>) -> Judgement {
    if !is_unreached(question) || question.before.is_empty() || question.after.is_empty() {
        return untested(None, None, "not measured on both sides");
    }
    let Some((test, (_, way))) = test.zip(rank::test(question.before, question.after)) else {
        let verdict = (question.metric.direction != Direction::Neither
            && question.role != QuestionRole::Diagnostic)
            .then_some(Verdict::Inconclusive);
        return untested(None, verdict, "not reached in a start, since too many requests failed");
    };
    let is_better = match question.metric.direction {
        Direction::Higher => way.is_gt(),
        _ => way.is_lt(),
    };
    let verdict = match test.p <= test.level {
        true if is_better => Verdict::Better,
        true => Verdict::Worse,
        false => Verdict::Inconclusive,
    };
    let reason = format!(
        "compared by rank, since too many requests failed in a start: p = {:.3} among {}",
        test.p, test.family
    );
    Judgement {
        excludes_worse: verdict == Verdict::Better,
        ..untested(None, Some(verdict), &reason)
    }
}

/// A question that both sides answer.
struct Asked<'a> {
    question: &'a Question<'a>,
    difference: Difference,
    /// On the difference's scale: nobody cares within.
    margin: (f64, f64),
}

impl<'a> Asked<'a> {
    fn new(question: &'a Question<'a>) -> Option<Self> {
        let Question { metric, before, after, lent, margin_percent, .. } = *question;
        if is_unreached(question) {
            return None;
        }
        let difference = Difference::between(before, after, metric.is_share(), lent)?;
        let floor = metric.margin().floor;
        let values = before.iter().flat_map(|start| &start.repeats);
        let mean_before = values.clone().sum::<f64>() / values.count() as f64;
        let margin = match difference.scale {
            Scale::Ratio => {
                let share = (margin_percent / 100.0).max(floor / mean_before);
                (
                    if share < 1.0 { libm::log1p(-share) } else { f64::NEG_INFINITY },
                    libm::log1p(share),
                )
            }
            Scale::Linear { hundred_percent } => {
                let size = (margin_percent / 100.0 * hundred_percent).max(floor);
                (-size, size)
            }
        };
        Some(Self { question, difference, margin })
    }

    /// `None` where nothing is tested: neither way is better, too few requests, a side has a single
    /// start, or no start differs from another.
    fn p(&self) -> Option<f64> {
        let is_judged = self.why_not().is_none();
        let error = self.error().filter(|error| is_judged && !error.is_none())?;
        Some(error.two_sided_p(self.difference.mean))
    }

    /// Why the question has no verdict, whatever was measured.
    fn why_not(&self) -> Option<String> {
        let Question { metric, requests, role, .. } = *self.question;
        if metric.direction == Direction::Neither {
            return Some("neither way is better: it explains".to_owned());
        }
        if role == QuestionRole::Diagnostic {
            return Some("a diagnostic: it explains".to_owned());
        }
        let needed = metric.is_judged_from();
        requests.filter(|requests| *requests < needed).map(|requests| {
            format!("not judged: {requests} requests a start, and this percentile needs {needed}")
        })
    }

    fn error(&self) -> Option<&Error> {
        self.difference.error.as_ref()
    }

    fn without_test(&self, level: f64) -> Judgement {
        let change = self.difference.estimate(level);
        if let Some(reason) = self.why_not() {
            return untested(change, None, &reason);
        }
        if self.error().is_none() {
            let reason = "a single start on one side: the spread between starts is not known";
            return untested(change, Some(Verdict::Inconclusive), reason);
        }
        let mean = self.difference.mean;
        let verdict = if self.is_within(mean, mean) { Verdict::Equivalent } else { self.way() };
        let reason = match mean {
            0.0 => "the same in every start".to_owned(),
            _ => format!(
                "no start of a side differs from another: exactly {}",
                self.signed(mean) + &self.unit()
            ),
        };
        let excludes_worse = verdict != Verdict::Worse;
        Judgement { excludes_worse, ..untested(change, Some(verdict), &reason) }
    }

    fn tested(&self, Test { p, family, level }: Test) -> Judgement {
        let mean = self.difference.mean;
        let error = self.error().expect("a tested difference has an error");
        let span = |half: f64| (mean - half, mean + half);
        let one_sided = span(error.half_interval(2.0 * level));
        let excludes_worse = match self.question.metric.direction {
            Direction::Higher => one_sided.0 >= self.margin.0,
            _ => one_sided.1 <= self.margin.1,
        };
        let verdict = match p {
            _ if self.is_within(one_sided.0, one_sided.1) => Verdict::Equivalent,
            p if p <= level => self.way(),
            _ => Verdict::Inconclusive,
        };
        let strictest = level / family as f64;
        let effect = detectable(error, strictest);
        let is_open = verdict == Verdict::Inconclusive;
        let starts_to_settle = if is_open { self.starts_to_settle(error, strictest) } else { None };
        let percent = 100.0 * (1.0 - level);
        let mut reason = if verdict == Verdict::Equivalent {
            let interval = self.interval(percent - 100.0 * level, one_sided);
            format!("{interval} lies within ±{}", self.margin_text())
        } else {
            let interval = self.interval(percent, span(error.half_interval(level)));
            let of = match self.question.role {
                _ if family == 1 => String::new(),
                QuestionRole::Secondary => format!(" (false discovery rate among {family})"),
                _ => format!(" (Holm, among {family})"),
            };
            format!("{interval}, {}{of}", probability(p))
        };
        if is_open {
            reason += &self.what_would_settle(effect, starts_to_settle);
        }
        if excludes_worse && is_open {
            reason += "; a change for the worse beyond the margin is excluded";
        }
        Judgement {
            detectable: Some(self.difference.scale.shown(effect)).filter(|d| d.is_finite()),
            starts_to_settle,
            excludes_worse: excludes_worse || verdict == Verdict::Better,
            ..untested(self.difference.estimate(level), Some(verdict), &reason)
        }
    }

    /// What so many starts could have shown, and how many would be needed.
    fn what_would_settle(&self, effect: f64, starts_to_settle: Option<u32>) -> String {
        let Question { before, after, .. } = self.question;
        let (smallest, unit) = (self.number(effect), self.unit());
        let smallest = match smallest {
            _ if smallest > 100.0 && unit == " %" => "> 100 %".to_owned(),
            _ => format!("{}{unit}", digits(smallest)),
        };
        let settle = match starts_to_settle {
            Some(starts) => format!("about {starts} a side would settle it"),
            None => format!("more than {STARTS_MAX} a side would be needed"),
        };
        let (starts, more) = (before.len(), after.len());
        format!("; minimum detectable effect {smallest} ({starts} vs {more} starts), {settle}")
    }

    /// Better or worse, by the sign.
    fn way(&self) -> Verdict {
        let rises = self.difference.mean > 0.0;
        if rises == (self.question.metric.direction == Direction::Higher) {
            Verdict::Better
        } else {
            Verdict::Worse
        }
    }

    fn is_within(&self, low: f64, high: f64) -> bool {
        low >= self.margin.0 && high <= self.margin.1
    }

    /// The fewest starts a side, more than now, with which a change of the size found would be
    /// shown, or equivalence if it lies within the margin.
    fn starts_to_settle(&self, error: &Error, level: f64) -> Option<u32> {
        let mean = self.difference.mean;
        let room = if mean > 0.0 { self.margin.1 - mean } else { mean - self.margin.0 };
        let Question { before, after, .. } = self.question;
        let harmonic = 2.0 / (1.0 / before.len() as f64 + 1.0 / after.len() as f64);
        let deviation = error.standard_error() * libm::sqrt(harmonic / 2.0);
        let borrowed = (error.freedom() - error.own_freedom).max(0.0);
        let settles = |starts: &u32| {
            let freedom = f64::from(2 * starts - 2) + borrowed;
            let standard_error = deviation * libm::sqrt(2.0 / f64::from(*starts));
            let needed = student::detectable(student::critical(level, freedom), freedom, POWER_Z);
            let needed_room = student::critical(2.0 * LEVEL, freedom)
                + student::critical(2.0 * (1.0 - POWER), freedom);
            mean.abs() >= needed * standard_error || room >= needed_room * standard_error
        };
        let now = before.len().max(after.len()) as u32;
        let more: Vec<u32> = (now + 1..=STARTS_MAX).collect();
        more.get(more.partition_point(|starts| !settles(starts))).copied()
    }

    /// `90 % interval −0.9 to +1.2 %`
    fn interval(&self, percent: f64, (low, high): (f64, f64)) -> String {
        // Two digits of what a look before the last one leaves over.
        let percent = libm::round(100.0 * percent) / 100.0;
        format!("{percent} % interval {} to {}{}", self.signed(low), self.signed(high), self.unit())
    }

    /// `2 %`, or the floor where that is wider.
    fn margin_text(&self) -> String {
        let Question { metric, margin_percent, .. } = self.question;
        let margin = self.number(self.margin.1);
        let is_floor = margin > margin_percent * 1.000_001 || self.is_change_from_nothing();
        match is_floor {
            true => format!("{} {}", metric.margin().floor, metric.unit).trim_end().to_owned(),
            false => format!("{margin_percent}{}", self.unit()),
        }
    }

    /// A difference in the unit in which it is told.
    fn number(&self, difference: f64) -> f64 {
        let shown = self.difference.scale.shown(difference);
        if self.is_change_from_nothing() { difference } else { shown }
    }

    fn signed(&self, difference: f64) -> String {
        let number = self.number(difference);
        format!("{}{}", if number < 0.0 { '−' } else { '+' }, digits(number.abs()))
    }

    fn unit(&self) -> String {
        match self.question.metric {
            metric if metric.is_share() => " points".to_owned(),
            metric if self.is_change_from_nothing() && metric.unit.is_empty() => String::new(),
            metric if self.is_change_from_nothing() => format!(" {}", metric.unit),
            _ => " %".to_owned(),
        }
    }

    /// Then there is nothing that it could be a percentage of.
    fn is_change_from_nothing(&self) -> bool {
        self.difference.scale == Scale::Linear { hundred_percent: 0.0 }
    }
}

fn untested(change: Option<Estimate>, verdict: Option<Verdict>, reason: &str) -> Judgement {
    Judgement {
        change,
        verdict,
        reason: reason.to_owned(),
        detectable: None,
        starts_to_settle: None,
        excludes_worse: false,
        role: QuestionRole::Diagnostic,
        same_as: None,
    }
}

/// The smallest difference that is found at this level with a probability of [`POWER`].
fn detectable(error: &Error, level: f64) -> f64 {
    let critical = error.half_interval(level) / error.standard_error();
    student::detectable(critical, error.freedom(), POWER_Z) * error.standard_error()
}

/// One digit after the point, two of what is small, none of what is large.
fn digits(number: f64) -> String {
    let after = if number < 0.95 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.after$}")
}

fn probability(p: f64) -> String {
    match p {
        _ if p < 0.0001 => "p < 0.0001".to_owned(),
        _ if p < 0.01 => format!("p = {p:.4}"),
        _ if p < 0.1 => format!("p = {p:.3}"),
        _ => format!("p = {p:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metric, rng::Random};
    use proptest::prelude::*;

    /// Values of starts that measured once, to ask about.
    fn starts(values: &[f64]) -> Vec<Start> {
        values.iter().map(|value| Start::single(*value)).collect()
    }

    fn question<'a>(id: &str, before: &'a [Start], after: &'a [Start]) -> Question<'a> {
        let metric = metric::find(id).expect("a metric");
        Question {
            metric,
            load: "burst",
            before,
            after,
            lent: &[],
            requests: None,
            margin_percent: 2.0,
            role: QuestionRole::Primary,
        }
    }

    fn judged_alone(id: &str, before: &[f64], after: &[f64]) -> Judgement {
        judge(&[question(id, &starts(before), &starts(after))], LEVEL).swap_remove(0)
    }

    fn judged(id: &str, before: &[f64], after: &[f64]) -> (Verdict, String) {
        let judgement = judged_alone(id, before, after);
        (judgement.verdict.expect("a way is better"), judgement.reason)
    }

    #[test]
    fn the_four_verdicts_and_their_reasons() {
        let base = [100.0, 101.0, 99.0];
        let more = ["output_tokens_per_s", "e2e_p50_ms"];
        let cases = [
            (more[0], &base, [120.0, 121.0, 119.0]),
            (more[1], &base, [120.0, 121.0, 119.0]),
            (more[1], &base, [80.0, 81.0, 79.0]),
            (more[0], &base, [150.0, 101.0, 60.0]),
            (more[0], &base, [104.0, 103.5, 102.5]),
            (more[0], &[100.0, 100.1, 99.9], [100.2, 100.1, 100.0]),
            (more[0], &[100.0; 3], [90.0; 3]),
            (more[0], &[100.0; 3], [100.0; 3]),
            ("queue_share", &[0.20, 0.21, 0.19], [0.40, 0.41, 0.39]),
            ("queue_mean_ms", &[0.0; 3], [50.0, 51.0, 49.0]),
            ("queue_mean_ms", &[0.0, 0.001, 0.0], [0.01, 0.012, 0.011]),
            ("preemptions", &[0.0; 3], [1.0, 0.0, 0.0]),
        ];
        let told = cases.map(|(id, before, after)| {
            let (verdict, reason) = judged(id, before, &after);
            format!("{id} {before:?} → {after:?}\n    {verdict:?}: {reason}\n")
        });
        insta::assert_snapshot!(told.concat());
    }

    #[test]
    fn what_was_not_reached_is_compared_by_rank() {
        const NO: f64 = f64::INFINITY;
        let reached = [100.0, 101.0, 99.0, 102.0];
        let judged = |before: &[f64], after: &[f64]| judged_alone("e2e_p95_ms", before, after);
        let (worse, better) = (judged(&reached, &[NO; 4]), judged(&[NO; 4], &reached));
        assert_eq!((worse.verdict, worse.excludes_worse), (Some(Verdict::Worse), false));
        assert_eq!((better.verdict, better.excludes_worse), (Some(Verdict::Better), true));
        let open = judged(&reached, &[90.0, 91.0, NO, 92.0]);
        assert_eq!((open.verdict, open.excludes_worse), (Some(Verdict::Inconclusive), false));
        assert!(open.reason.contains("by rank"), "{}", open.reason);
        assert_eq!(judged(&[NO], &reached).verdict, Some(Verdict::Inconclusive));
        let rates = judged_alone("output_tokens_per_s", &reached, &[-NO; 4]);
        assert_eq!(rates.verdict, Some(Verdict::Worse));
    }

    #[test]
    fn what_cannot_be_tested_says_why() {
        let (verdict, reason) = judged("e2e_p50_ms", &[1.0], &[2.0, 2.1]);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains("single start"), "{reason}");
        let explains = judged_alone("decode_share", &[0.5, 0.4], &[0.1, 0.2]);
        let unmeasured = judged_alone("e2e_p50_ms", &[], &[1.0]);
        assert_eq!((explains.verdict, unmeasured.verdict), (None, None));
        assert!(explains.change.is_some() && unmeasured.change.is_none());
    }

    #[test]
    fn a_percentile_of_few_requests_is_not_judged() {
        let (before, after) = (starts(&[100.0, 101.0, 99.0]), starts(&[200.0, 201.0, 199.0]));
        let few = Question { requests: Some(160), ..question("e2e_p95_ms", &before, &after) };
        let judged = judge(&[few, Question { requests: Some(200), ..few }], LEVEL);
        assert_eq!((judged[0].verdict, judged[1].verdict), (None, Some(Verdict::Worse)));
        assert!(judged[0].reason.contains("160 requests"), "{}", judged[0].reason);
    }

    #[test]
    fn a_worsening_within_the_margin_is_excluded_where_the_interval_says_so() {
        let excludes =
            |id, after: [f64; 3]| judged_alone(id, &[100.0, 101.0, 99.0], &after).excludes_worse;
        assert!(excludes("output_tokens_per_s", [103.0, 104.0, 102.0]));
        assert!(!excludes("e2e_p50_ms", [103.0, 104.0, 102.0]));
        assert!(excludes("e2e_p50_ms", [60.0, 61.0, 62.0]));
    }

    #[test]
    fn corrected_p_is_that_of_the_papers() {
        let p = [0.01, 0.04, 0.03, 0.005];
        for (correct, expected) in [
            (holm as fn(&[f64]) -> Vec<f64>, [0.03, 0.06, 0.06, 0.02]),
            (benjamini_hochberg, [0.02, 0.04, 0.04, 0.02]),
        ] {
            for (found, expected) in correct(&p).iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
        }
    }

    #[test]
    fn the_primary_question_is_not_drowned_by_the_rest() {
        let before = starts(&[100.0, 101.0, 99.0, 100.5]);
        let after = starts(&[103.5, 104.5, 102.5, 104.0]);
        let same = starts(&[100.0, 105.0, 95.0, 101.0]);
        let mut noise = question("e2e_p50_ms", &same, &before);
        noise.role = QuestionRole::Guardrail;
        let loads: Vec<String> = (0..400).map(|i| i.to_string()).collect();
        let mut questions: Vec<_> = loads.iter().map(|load| Question { load, ..noise }).collect();
        questions.push(question("output_tokens_per_s", &before, &after));
        let last = |questions: &[Question<'_>]| judge(questions, LEVEL).pop().expect("one").verdict;
        assert_eq!(last(&questions), Some(Verdict::Better));
        questions.last_mut().expect("one").role = QuestionRole::Guardrail;
        assert_eq!(last(&questions), Some(Verdict::Inconclusive));
    }

    #[test]
    fn metrics_of_one_measurement_are_one_question() {
        let (before, after) = ([100.0, 103.0, 98.0], [110.0, 112.0, 107.0]);
        let per_request = |values: [f64; 3]| starts(&values.map(|v| v / 128.0));
        let (a, b) = (starts(&before), starts(&after));
        let (c, d) = (per_request(before), per_request(after));
        let tokens =
            Question { role: QuestionRole::Guardrail, ..question("output_tokens_per_s", &a, &b) };
        let requests =
            Question { role: QuestionRole::Guardrail, ..question("requests_per_s", &c, &d) };
        let alone = judge(&[tokens], LEVEL);
        let both = judge(&[requests, tokens], LEVEL);
        assert_eq!((both[0].same_as, both[1].same_as), (None, Some(0)));
        assert_eq!((both[0].verdict, &both[0].reason), (alone[0].verdict, &alone[0].reason));
        assert_eq!(both[1].verdict, alone[0].verdict);
        let elsewhere = Question { load: "production", ..requests };
        assert_eq!(judge(&[elsewhere, tokens], LEVEL)[1].same_as, None);
    }

    #[test]
    fn what_other_settings_say_of_the_spread_decides() {
        let (before, after) = (starts(&[100.0, 101.0, 99.0]), starts(&[103.5, 105.5, 104.5]));
        let alone = question("e2e_p50_ms", &before, &after);
        let spread = |values: &[f64]| spread(alone.metric, &starts(values)).expect("starts");
        let quiet = [spread(&[50.0, 50.5, 49.5, 50.2]); 4];
        let loud = [spread(&[50.0, 60.0, 40.0]), spread(&[70.0, 55.0, 85.0])];
        let p = |lent: &[Spread]| {
            let asked = Question { lent, ..alone };
            Asked::new(&asked).and_then(|asked| asked.p()).expect("tested")
        };
        assert!(p(&quiet) < p(&[]) && p(&[]) < p(&loud), "{} {} {}", p(&quiet), p(&[]), p(&loud));
    }

    #[test]
    fn a_host_that_drifts_cancels_out_within_blocks() {
        let drift = [1.0, 1.2, 1.4];
        let side = |values: [f64; 3], in_blocks: bool| -> Vec<Start> {
            (0..3)
                .map(|i| Start {
                    block: in_blocks.then_some(i as u32),
                    repeats: vec![values[i] * drift[i]],
                })
                .collect()
        };
        let verdict = |in_blocks| {
            let (before, mut after) =
                (side([100.0, 101.0, 99.0], in_blocks), side([110.0, 112.0, 108.0], in_blocks));
            after.rotate_left(1);
            judge(&[question("e2e_p50_ms", &before, &after)], LEVEL)[0].verdict
        };
        assert_eq!(verdict(false), Some(Verdict::Inconclusive));
        assert_eq!(verdict(true), Some(Verdict::Worse));
    }

    #[test]
    fn the_starts_that_settle_do_settle() {
        let mut random = Random::new(11, 0);
        let mut draw = |n: u32, mean: f64| -> Vec<f64> {
            (0..n).map(|_| mean * (1.0 + 0.02 * random.normal())).collect()
        };
        let open = judged_alone("e2e_p50_ms", &[98.0, 100.0, 102.0], &[101.0, 103.0, 105.0]);
        let starts = open.starts_to_settle.expect("a few more are enough");
        let settled = (0..200).filter(|_| {
            let (before, after) = (draw(starts, 100.0), draw(starts, 103.0));
            judged("e2e_p50_ms", &before, &after).0 == Verdict::Worse
        });
        let settled = settled.count();
        assert!((165..=198).contains(&settled), "{settled} of 200 with {starts} starts");
    }

    proptest! {
        #[test]
        fn the_order_of_questions_does_not_matter(
            sides in prop::collection::vec((1.0..9.0_f64, 1.0..9.0_f64, 1.0..9.0_f64, 1.0..9.0_f64), 2..9),
            at in any::<prop::sample::Index>(),
        ) {
            let sides: Vec<_> =
                sides.iter().map(|(a, b, c, d)| (starts(&[*a, *b]), starts(&[*c, *d]))).collect();
            let secondary = |(before, after)| Question {
                role: QuestionRole::Secondary,
                ..question("e2e_p50_ms", before, after)
            };
            let questions: Vec<_> = sides.iter().map(|(a, b)| secondary((a, b))).collect();
            let turned = |by: usize| {
                let mut turned = questions.clone();
                turned.rotate_left(by);
                let mut judged = judge(&turned, LEVEL);
                judged.rotate_right(by);
                judged
            };
            let by = at.index(questions.len());
            for (a, b) in turned(0).iter().zip(turned(by)) {
                prop_assert_eq!(a.verdict, b.verdict);
            }
        }

        #[test]
        fn sides_swapped_turn_better_into_worse(
            before in prop::collection::vec(90.0..140.0_f64, 3..6),
            after in prop::collection::vec(90.0..140.0_f64, 3..6),
        ) {
            let verdict = |a: &[f64], b: &[f64]| judged("e2e_p50_ms", a, b).0;
            let (there, back) = (verdict(&before, &after), verdict(&after, &before));
            match there {
                Verdict::Better => prop_assert_eq!(back, Verdict::Worse),
                Verdict::Worse => prop_assert_eq!(back, Verdict::Better),
                _ => prop_assert!(!matches!(back, Verdict::Better | Verdict::Worse)),
            }
        }
    }
}
