//! Verdicts on many metrics at once.
//!
//! Better and worse are tested by Welch's t and corrected for the number of questions by Holm's
//! procedure with weights; equivalence by two one-sided tests. `docs/reference.md` has the
//! definitions and where they come from.

use super::{Difference, Scale, Spread, student};
use crate::{
    metric::{Direction, Metric},
    schema::{Estimate, Verdict},
};

/// How often comparisons of equals may end better or worse in any metric; and the share that
/// intervals of 95 % miss.
pub const LEVEL: f64 = 0.05;

/// How likely the smallest detectable change is found.
pub const POWER: f64 = 0.9;

/// The normal quantile of [`POWER`].
const POWER_Z: f64 = 1.281_552;

/// More starts a side than these are proposed to nobody.
pub const STARTS_MAX: u32 = 50;

/// What goals may spend of [`LEVEL`] before all others, which share the rest.
const SHARE_OF_GOALS: f64 = 0.5;

/// One metric on one load, before and after.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What was measured.
    pub metric: &'a Metric,
    /// One value a start.
    pub before: &'a [f64],
    /// One value a start.
    pub after: &'a [f64],
    /// A change within so many percent (points of shares) is none worth having.
    pub margin_percent: f64,
    /// Whether the profile names it: its objective, limits and targets.
    pub is_goal: bool,
}

/// What is to be said of a question.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// In percent of the value before, in points of shares; `None` where nothing was before.
    pub change: Option<Estimate>,
    /// `None` where neither way is better.
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
}

/// Judges all questions of one comparison. Their order does not matter.
pub fn judge(questions: &[Question<'_>]) -> Vec<Judgement> {
    let asked: Vec<Option<Asked<'_>>> = questions.iter().map(Asked::new).collect();
    let p: Vec<Option<f64>> = asked.iter().map(|asked| asked.as_ref()?.p()).collect();
    let weights = weights(questions, &p);
    let corrected = holm(&p, &weights);
    let family = p.iter().flatten().count();
    let verdicts = asked.iter().zip(weights.iter().zip(corrected));
    verdicts
        .map(|(asked, (weight, p))| match (asked, p) {
            (None, _) => untested(None, None, "not measured on both sides"),
            (Some(asked), None) => asked.without_test(),
            (Some(asked), Some(p)) => asked.tested(LEVEL * weight, p, family),
        })
        .collect()
}

/// Shares of [`LEVEL`] that add up to one; none for questions without a test.
fn weights(questions: &[Question<'_>], p: &[Option<f64>]) -> Vec<f64> {
    let tested = || questions.iter().zip(p).filter(|(_, p)| p.is_some());
    let goals = tested().filter(|(question, _)| question.is_goal).count() as f64;
    let others = tested().count() as f64 - goals;
    let of_goals = if others == 0.0 { 1.0 } else { SHARE_OF_GOALS };
    let of_others = if goals == 0.0 { 1.0 } else { 1.0 - SHARE_OF_GOALS };
    let weight = |is_goal| if is_goal { of_goals / goals } else { of_others / others };
    questions.iter().zip(p).map(|(q, p)| p.map_or(0.0, |_| weight(q.is_goal))).collect()
}

/// Corrected p, so that those at or below a level are Holm's rejections at that level.
fn holm(p: &[Option<f64>], weights: &[f64]) -> Vec<Option<f64>> {
    let mut order: Vec<usize> = (0..p.len()).filter(|i| p[*i].is_some()).collect();
    let strength = |i: &usize| p[*i].unwrap_or(1.0) / weights[*i];
    order.sort_by(|a, b| strength(a).total_cmp(&strength(b)));
    let mut corrected = vec![None; p.len()];
    let (mut left, mut highest) = (1.0, 0.0_f64);
    for i in order {
        highest = highest.max(strength(&i) * left).min(1.0);
        corrected[i] = Some(highest);
        left -= weights[i];
    }
    corrected
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
        let Question { metric, before, after, margin_percent, .. } = *question;
        let difference = Difference::between(before, after, metric.is_share())?;
        let floor = metric.margin().floor;
        let mean_before = before.iter().sum::<f64>() / before.len() as f64;
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

    /// `None` where nothing is tested: neither way is better, a side has a single start, or no
    /// start differs from another.
    fn p(&self) -> Option<f64> {
        let is_judged = self.question.metric.direction != Direction::Neither;
        let spread = self.difference.spread.filter(|s| is_judged && s.standard_error > 0.0)?;
        Some(student::two_sided_p(self.difference.mean / spread.standard_error, spread.freedom))
    }

    fn without_test(&self) -> Judgement {
        let change = self.change();
        if self.question.metric.direction == Direction::Neither {
            return untested(change, None, "neither way is better: it explains");
        }
        if self.difference.spread.is_none() {
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

    /// `level` is what of [`LEVEL`] falls to this question alone, `p` is corrected for all.
    fn tested(&self, level: f64, p: f64, family: usize) -> Judgement {
        let mean = self.difference.mean;
        let spread = self.difference.spread.expect("a tested difference has a spread");
        let span = |half: f64| (mean - half, mean + half);
        let (low, high) = span(spread.interval(2.0 * LEVEL));
        let excludes_worse = match self.question.metric.direction {
            Direction::Higher => low >= self.margin.0,
            _ => high <= self.margin.1,
        };
        let verdict = match p {
            _ if self.is_within(low, high) => Verdict::Equivalent,
            p if p <= LEVEL => self.way(),
            _ => Verdict::Inconclusive,
        };
        let critical = student::critical(level, spread.freedom);
        let effect = student::detectable(critical, spread.freedom, POWER_Z) * spread.standard_error;
        let is_open = verdict == Verdict::Inconclusive;
        let starts_to_settle = if is_open { self.starts_to_settle(spread, level) } else { None };
        let mut reason = if verdict == Verdict::Equivalent {
            format!("{} lies within ±{}", self.interval(90, (low, high)), self.margin_text())
        } else {
            let interval = self.interval(95, span(spread.interval(LEVEL)));
            let of = if family == 1 { String::new() } else { format!(" corrected for {family}") };
            format!("{interval}, {}{of}", probability(p))
        };
        if is_open {
            let Question { before, after, .. } = self.question;
            let (smallest, unit) = (self.number(effect), self.unit());
            let seen = match smallest {
                _ if smallest > 100.0 && unit == " %" => "no change below 100 %".to_owned(),
                _ => format!("changes from {}{unit} on", digits(smallest)),
            };
            let (starts, more) = (before.len(), after.len());
            reason += &format!("; {starts} and {more} starts show {seen}, ");
            reason += &match starts_to_settle {
                Some(starts) => format!("about {starts} a side would settle it"),
                None => format!("and more than {STARTS_MAX} a side would have to settle it"),
            };
            if excludes_worse {
                reason += "; a change for the worse beyond the margin is excluded";
            }
        }
        Judgement {
            detectable: Some(self.difference.scale.shown(effect)).filter(|d| d.is_finite()),
            starts_to_settle,
            excludes_worse: excludes_worse || verdict == Verdict::Better,
            ..untested(self.change(), Some(verdict), &reason)
        }
    }

    fn change(&self) -> Option<Estimate> {
        self.difference.estimate()
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
    fn starts_to_settle(&self, spread: Spread, level: f64) -> Option<u32> {
        let mean = self.difference.mean;
        let room = if mean > 0.0 { self.margin.1 - mean } else { mean - self.margin.0 };
        let settles = |starts: &u32| {
            let freedom = 2 * starts - 2;
            let standard_error = spread.deviation * libm::sqrt(2.0 / f64::from(*starts));
            let needed = student::detectable(student::critical(level, freedom), freedom, POWER_Z);
            let needed_room = student::critical(2.0 * LEVEL, freedom)
                + student::critical(2.0 * (1.0 - POWER), freedom);
            mean.abs() >= needed * standard_error || room >= needed_room * standard_error
        };
        let now = self.question.before.len().max(self.question.after.len()) as u32;
        let more: Vec<u32> = (now + 1..=STARTS_MAX).collect();
        more.get(more.partition_point(|starts| !settles(starts))).copied()
    }

    /// `90 % interval −0.9 to +1.2 %`
    fn interval(&self, percent: u32, (low, high): (f64, f64)) -> String {
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
    }
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
        _ => format!("p = {p:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metric, rng::Random};
    use proptest::prelude::*;

    fn question<'a>(id: &str, before: &'a [f64], after: &'a [f64]) -> Question<'a> {
        let metric = metric::find(id).expect("a metric");
        Question { metric, before, after, margin_percent: 2.0, is_goal: false }
    }

    fn judged(id: &str, before: &[f64], after: &[f64]) -> (Verdict, String) {
        let judgement = judge(&[question(id, before, after)]).swap_remove(0);
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
    fn what_cannot_be_tested_says_why() {
        let (verdict, reason) = judged("e2e_p50_ms", &[1.0], &[2.0, 2.1]);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains("single start"), "{reason}");
        let [explains, unmeasured] = [
            question("decode_share", &[0.5, 0.4], &[0.1, 0.2]),
            question("e2e_p50_ms", &[], &[1.0]),
        ]
        .map(|question| judge(&[question]).swap_remove(0));
        assert_eq!((explains.verdict, unmeasured.verdict), (None, None));
        assert!(explains.change.is_some() && unmeasured.change.is_none());
    }

    #[test]
    fn a_worsening_within_the_margin_is_excluded_where_the_interval_says_so() {
        let excludes = |id, after: [f64; 3]| {
            judge(&[question(id, &[100.0, 101.0, 99.0], &after)]).swap_remove(0).excludes_worse
        };
        assert!(excludes("output_tokens_per_s", [103.0, 104.0, 102.0]));
        assert!(!excludes("e2e_p50_ms", [103.0, 104.0, 102.0]));
        assert!(excludes("e2e_p50_ms", [60.0, 61.0, 62.0]));
    }

    /// Holm's own procedure: step by step, each with its share of the level.
    #[test]
    fn corrected_p_is_holms() {
        let p = [0.01, 0.04, 0.03, 0.005].map(Some);
        let corrected: Vec<f64> = holm(&p, &[0.25; 4]).into_iter().flatten().collect();
        for (found, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((found - expected).abs() < 1e-12, "{corrected:?}");
        }
    }

    #[test]
    fn goals_are_not_drowned_by_the_rest() {
        let (before, after) = ([100.0, 101.0, 99.0, 100.5], [103.5, 104.5, 102.5, 104.0]);
        let same = [100.0, 105.0, 95.0, 101.0];
        let mut questions = vec![question("e2e_p50_ms", &same, &before); 400];
        questions.push(question("output_tokens_per_s", &before, &after));
        let last = |questions: &[Question<'_>]| judge(questions).pop().expect("one").verdict;
        assert_eq!(last(&questions), Some(Verdict::Inconclusive));
        questions.last_mut().expect("one").is_goal = true;
        assert_eq!(last(&questions), Some(Verdict::Better));
    }

    #[test]
    fn the_starts_that_settle_do_settle() {
        let mut random = Random::new(11, 0);
        let mut draw = |n: u32, mean: f64| -> Vec<f64> {
            (0..n).map(|_| mean * (1.0 + 0.02 * random.normal())).collect()
        };
        let open = judge(&[question("e2e_p50_ms", &[98.0, 100.0, 102.0], &[101.0, 103.0, 105.0])]);
        let starts = open[0].starts_to_settle.expect("a few more are enough");
        let settled = (0..200).filter(|_| {
            let (before, after) = (draw(starts, 100.0), draw(starts, 103.0));
            judge(&[question("e2e_p50_ms", &before, &after)])[0].verdict == Some(Verdict::Worse)
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
            let sides: Vec<_> = sides.iter().map(|(a, b, c, d)| ([*a, *b], [*c, *d])).collect();
            let questions: Vec<_> =
                sides.iter().map(|(before, after)| question("e2e_p50_ms", before, after)).collect();
            let turned = |by: usize| {
                let mut turned = questions.clone();
                turned.rotate_left(by);
                let mut judged = judge(&turned);
                judged.rotate_right(by);
                judged
            };
            let by = at.index(questions.len());
            for (a, b) in turned(0).iter().zip(turned(by)) {
                prop_assert_eq!(a.verdict, b.verdict);
            }
        }

        #[test]
        fn a_question_more_never_makes_another_surer(
            before in prop::collection::vec(90.0..110.0_f64, 3..6),
            after in prop::collection::vec(90.0..110.0_f64, 3..6),
            other in prop::collection::vec(90.0..110.0_f64, 3..6),
        ) {
            let first = question("output_tokens_per_s", &before, &after);
            let is_sure = |judged: &Judgement| {
                matches!(judged.verdict, Some(Verdict::Better | Verdict::Worse))
            };
            let alone = is_sure(&judge(&[first])[0]);
            let noise = question("e2e_p50_ms", &before, &other);
            let together = is_sure(&judge(&[first, noise])[0]);
            prop_assert!(alone || !together);
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
