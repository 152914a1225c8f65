//! What is believed after some evaluations, and what follows from it.

use libm::sqrt;

use super::{
    problem::{
        Costs, DEFAULTS, Evaluation, Problem, SAFE, SLACK, STARTS_MAX, SURE, SURE_ENOUGH, Trial,
        WORTHWHILE, expected_improvement, normal_below,
    },
    process::{Expected, Observed, Process},
};
use crate::stats;

/// Variance of a repeat within a start before any was repeated, as of a logarithm, and how many
/// degrees of freedom that is worth.
const WITHIN: (f64, f64) = (0.02 * 0.02, 3.0);
/// Repeats of the objective's load in a start of the search at most.
const REPEATS_MAX: u32 = 4;
/// The winner, another, and the defaults.
const FINALISTS_MAX: f64 = 3.0;
/// Below this probability of keeping the limits nothing is repeated.
const UNLIKELY: f64 = 0.1;

/// What is believed of every setting.
pub(super) struct View<'a> {
    problem: &'a Problem,
    evaluations: &'a [Evaluation],
    costs: Costs<'a>,
    /// Variance of a repeat of the objective within a start.
    within: f64,
    /// Variance of the objective between starts.
    between: f64,
    settings: Vec<Belief>,
    /// Probability of keeping the limits from which on a setting may be the winner.
    sure: f64,
    incumbent: Option<usize>,
}

/// What is believed of a setting.
#[derive(Clone, Copy, Debug)]
struct Belief {
    /// Of the objective; `None` before anything was measured.
    objective: Option<Expected>,
    /// Probability that it keeps all limits.
    keeps: f64,
    /// Starts that were made of it.
    starts: u32,
    /// Whether one of them served every load.
    is_whole: bool,
    /// Whether one of them failed.
    fails: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(problem: &'a Problem, evaluations: &'a [Evaluation]) -> Self {
        let within = within(problem, evaluations);
        let beliefs: Vec<Option<Process<'_>>> = (0..problem.goals.len())
            .map(|goal| {
                let observed: Vec<Observed<'_>> = evaluations
                    .iter()
                    .filter_map(|evaluation| {
                        let repeats = evaluation.figures[goal].len() as f64;
                        Some(Observed {
                            place: problem.place(goal, evaluation.candidate),
                            value: problem.score(evaluation, goal)?,
                            within: if goal == 0 { within / repeats } else { 0.0 },
                        })
                    })
                    .collect();
                (!observed.is_empty()).then(|| Process::learn(&observed))
            })
            .collect();
        let belief = |index: usize| {
            let expected = |goal: usize| {
                beliefs[goal].as_ref().map(|process| process.at(&problem.place(goal, index)))
            };
            let of_it = || evaluations.iter().filter(move |e| e.candidate == index);
            Belief {
                objective: expected(0),
                keeps: (1..problem.goals.len())
                    .filter_map(expected)
                    .map(|expected| normal_below(expected.mean / expected.deviation))
                    .product(),
                starts: of_it().count() as u32,
                is_whole: of_it().any(|e| e.failure.is_none() && e.is_whole()),
                fails: of_it().any(|e| e.failure.is_some()),
            }
        };
        let mut view = Self {
            problem,
            evaluations,
            costs: Costs::learn(problem, evaluations),
            within,
            between: beliefs[0].as_ref().map_or(0.0, Process::noise),
            settings: (0..problem.candidates.len()).map(belief).collect(),
            sure: SURE,
            incumbent: None,
        };
        if !view.default_keeps() {
            view.sure = SURE_ENOUGH;
        }
        view.incumbent = view.ranked().first().copied();
        view
    }

    /// Whether the defaults are believed to keep the limits.
    pub(super) fn default_keeps(&self) -> bool {
        self.settings[DEFAULTS].keeps >= 0.5
    }

    fn mean(&self, index: usize) -> f64 {
        self.settings[index].objective.map_or(f64::NEG_INFINITY, |expected| expected.mean)
    }

    /// Settings that were measured whole and keep the limits, surely before likely, then by what is
    /// believed of their objective.
    fn ranked(&self) -> Vec<usize> {
        let standing = |index: usize| self.settings[index].keeps >= self.sure;
        let kept = |index: &usize| {
            let belief = &self.settings[*index];
            belief.is_whole && !belief.fails && belief.keeps >= 0.5
        };
        let mut ranked: Vec<usize> = (0..self.settings.len()).filter(kept).collect();
        ranked.sort_by(|a, b| {
            standing(*b).cmp(&standing(*a)).then_with(|| self.mean(*b).total_cmp(&self.mean(*a)))
        });
        ranked
    }

    /// Whether a start is worth its other loads: unless it is believed to be behind or to break a
    /// limit. The defaults are measured whole: everything is compared with them.
    pub(super) fn goes_on(&self, last: &Evaluation) -> bool {
        let belief = &self.settings[last.candidate];
        let (Some(incumbent), Some(objective)) = (self.incumbent, belief.objective) else {
            return true;
        };
        last.candidate == DEFAULTS
            || belief.keeps >= UNLIKELY
                && objective.mean + objective.deviation > self.mean(incumbent)
    }

    /// Repeats of the objective's load in a start that tell most for their time.
    fn repeats(&self, start_s: f64, repeat_s: f64) -> u32 {
        let costs = stats::Costs { start_s, repeat_s: repeat_s.max(1e-3) };
        stats::repeats(self.between, self.within, costs).min(REPEATS_MAX)
    }

    /// Whether another repeat of the objective's load on this start is worth its time: for settings
    /// that may be the best.
    pub(super) fn wants_repeat(&self, last: &Evaluation) -> bool {
        let belief = &self.settings[last.candidate];
        let (Some(incumbent), Some(objective)) = (self.incumbent, belief.objective) else {
            return false;
        };
        let repeat_s = last.loads_s[0] / f64::from(last.served[0]);
        let others_s = last.start_s + last.loads_s[1..].iter().sum::<f64>();
        let is_close = objective.mean + 2.0 * objective.deviation > self.mean(incumbent);
        last.candidate != DEFAULTS
            && is_close
            && belief.keeps >= UNLIKELY
            && last.served[0] < self.repeats(others_s, repeat_s)
            && repeat_s * SLACK <= self.left_s()
    }

    fn left_s(&self) -> f64 {
        let problem = self.problem;
        problem.budget_s - Problem::spent_s(self.evaluations) - self.confirmation_s()
    }

    /// The start that promises most for its time, and whether one that promises something was left
    /// out for want of time alone.
    ///
    /// A start promises what it is expected to add to the best that is believed in: of a setting
    /// that was started before, what is not known of it yet (the knowledge gradient of Frazier,
    /// Powell and Dayanik 2009, without correlation).
    pub(super) fn best_trial(&self) -> (Option<Trial>, bool) {
        let problem = self.problem;
        let left_s = self.left_s();
        let mut random = crate::rng::Random::new(problem.seed, 0);
        let mut best: Option<(Trial, f64)> = None;
        let mut fits = true;
        for (index, candidate) in problem.candidates.iter().enumerate() {
            let rank = random.uniform();
            let belief = &self.settings[index];
            if belief.fails || belief.starts >= STARTS_MAX {
                continue;
            }
            let starts =
                if belief.starts > 0 { 1.0 } else { problem.starts(candidate, self.evaluations) };
            if starts == 0.0 {
                continue;
            }
            let mut promise = starts * self.gain(index);
            if self.incumbent.is_none() {
                if belief.starts > 0 {
                    continue;
                }
                // Beliefs of limits that everything so far breaks are no reason to stop looking:
                // the likeliest is tried, however unlikely.
                promise = promise.max(f64::MIN_POSITIVE * 1e12);
            } else if promise < WORTHWHILE {
                continue;
            }
            let cost_s = self.costs.whole_s(index);
            if cost_s * SLACK > left_s {
                fits = false;
                continue;
            }
            // The rank decides between equals only.
            let value = promise / cost_s * (1.0 + 1e-9 * rank);
            let trial = Trial { candidate: index, start: belief.starts, load: 0, repeat: 0 };
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((trial, value));
            }
        }
        (best.map(|(trial, _)| trial), fits)
    }

    /// The layout that is started next: its setting that is believed best, while that may be the best of all.
    pub(super) fn next_layout(&self) -> Option<Trial> {
        let problem = self.problem;
        let candidates = &problem.candidates;
        let incumbent = self.mean(self.incumbent?);
        let is_started = |layout: usize| {
            self.evaluations.iter().any(|e| candidates[e.candidate].layout == layout)
        };
        let standing = |index: usize| (self.settings[index].keeps >= 0.5, self.mean(index));
        let best = (0..candidates.len())
            .filter(|index| !is_started(candidates[*index].layout))
            .filter(|index| problem.starts(&candidates[*index], self.evaluations) > 0.5)
            .max_by(|a, b| {
                let ((a_keeps, a), (b_keeps, b)) = (standing(*a), standing(*b));
                a_keeps.cmp(&b_keeps).then_with(|| a.total_cmp(&b))
            })?;
        let deviation = self.settings[best].objective?.deviation;
        let may_be_best = self.mean(best) + deviation + problem.reach(best) > incumbent;
        let fits = self.costs.whole_s(best) * SLACK <= self.left_s();
        (may_be_best && fits).then_some(Trial { candidate: best, start: 0, load: 0, repeat: 0 })
    }

    /// What another start of a setting is expected to add to the best, if it starts.
    fn gain(&self, index: usize) -> f64 {
        let belief = &self.settings[index];
        let (Some(incumbent), Some(objective)) = (self.incumbent, belief.objective) else {
            // Anything that runs within the limits is an improvement.
            return belief.keeps;
        };
        let learned = objective.deviation * objective.deviation
            / sqrt(
                objective.deviation * objective.deviation
                    + self.between
                    + self.within / f64::from(self.repeats(1.0, 0.25)),
            );
        if index == incumbent {
            // It may turn out to be behind the next one.
            let others = self.ranked().into_iter().filter(|other| *other != incumbent);
            let next = others.map(|other| self.mean(other)).next();
            return next.map_or(0.0, |next| expected_improvement(next - objective.mean, learned));
        }
        belief.keeps * expected_improvement(objective.mean - self.mean(incumbent), learned)
    }

    /// What is to be confirmed, the best first and the defaults last.
    pub(super) fn finalists(&self) -> Vec<usize> {
        let mut ranked = self.ranked();
        if ranked.is_empty() {
            ranked = self.nearest();
        }
        ranked.retain(|index| *index != DEFAULTS);
        let keeps_its_distance = |index: &usize| self.settings[*index].keeps >= SAFE;
        let second = match ranked.first() {
            Some(winner) if !keeps_its_distance(winner) => {
                ranked[1..].iter().copied().find(keeps_its_distance)
            }
            _ => None,
        };
        let second = second.or(ranked.get(1).copied());
        let mut finalists: Vec<usize> = ranked.first().copied().into_iter().chain(second).collect();
        finalists.push(DEFAULTS);
        finalists
    }

    /// Of some settings those that may be recommended as far as the limits go, in their order.
    pub(super) fn acceptable(&self, settings: &[usize]) -> Vec<usize> {
        let is_acceptable = |index: &&usize| {
            let belief = &self.settings[**index];
            belief.is_whole && !belief.fails && belief.keeps >= self.sure
        };
        settings.iter().filter(is_acceptable).copied().collect()
    }

    /// Settings that run, by how likely they keep the limits: what a search comes to that found
    /// none within them.
    fn nearest(&self) -> Vec<usize> {
        let runs = |index: &usize| {
            let belief = &self.settings[*index];
            !belief.fails && belief.starts > 0
        };
        let mut nearest: Vec<usize> = (0..self.settings.len()).filter(runs).collect();
        nearest.sort_by(|a, b| self.settings[*b].keeps.total_cmp(&self.settings[*a].keeps));
        nearest
    }

    /// What the confirmation takes at most.
    fn confirmation_s(&self) -> f64 {
        let problem = self.problem;
        let costs = self.finalists().into_iter().map(|index| self.costs.whole_s(index));
        FINALISTS_MAX * f64::from(problem.confirm_starts) * costs.fold(0.0, f64::max) * SLACK
    }
}

/// Variance of the objective between repeats of one start.
fn within(problem: &Problem, evaluations: &[Evaluation]) -> f64 {
    let (mut sum, mut freedom) = (WITHIN.0 * WITHIN.1, WITHIN.1);
    for evaluation in evaluations {
        let Some(mean) = problem.score(evaluation, 0) else { continue };
        for figure in &evaluation.figures[0] {
            let off = problem.goals[0].want.score(*figure) - mean;
            sum += off * off;
        }
        freedom += evaluation.figures[0].len() as f64 - 1.0;
    }
    sum / freedom
}
