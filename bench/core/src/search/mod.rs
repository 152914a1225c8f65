//! The joint search over several flags: which setting to measure next, within a budget of engine
//! time, and which to measure again before anything is said of it.
//!
//! Pure: [`Problem::next`] is a function of what was measured, so that a search that was killed
//! goes on where it stood. It is Bayesian optimization on the grid of the flags' values:
//!
//! - A simulator's predictions are the mean of a Gaussian process; what is measured corrects them,
//!   in logarithms, since a model is off by factors.
//! - The next setting has the largest expected improvement (Jones, Schonlau and Welch 1998) times
//!   the probability that it keeps the limits (Gardner et al. 2014) and starts, per second that
//!   its start and loads take (Snoek, Larochelle and Adams 2012).
//! - The load of the objective comes first, and a setting that is behind by more than noise gets
//!   no other load: successive halving (Jamieson and Talwalkar 2016) with one rung.
//! - The best of many noisy figures is too good, and so is one that just keeps a limit. So the
//!   winner, the runner-up, the best that keeps its distance from the limits, and the defaults are
//!   measured again, on fresh starts and with fresh seeds, and that alone is reported.

mod process;

use std::cmp::Ordering;

use libm::{erf, exp, log, sqrt};
use serde::{Deserialize, Serialize};

use self::process::{Place, Process};
use crate::{
    metric,
    rng::Random,
    schema::{Args, FailureClass, Measured, Outcome},
    sim::{self, Model, predict::simulate},
    workload::Workload,
};

/// Index of the defaults among the candidates.
pub const DEFAULTS: usize = 0;
/// Behind by more than this, as a logarithm, a setting is given up after its first load.
const GIVEN_UP: f64 = 0.04;
/// Expected improvements below this, as a logarithm, are not worth a start. It is small since a
/// belief may be wrong, and the budget says already what the search may cost.
const WORTHWHILE: f64 = 1e-5;
/// Beyond this, as a logarithm, a limit is kept or broken, no matter by how much.
const CLIP: f64 = 1.5;
/// Kept by less than this, as a logarithm, a limit may be broken with another seed.
const DISTANCE: f64 = 0.06;
/// What a start or a load may take over what is expected.
const SLACK: f64 = 1.1;
/// Probability that a setting starts which a simulator says starts, or does not.
const STARTS_AS_PREDICTED: [(bool, f64); 2] = [(true, 0.97), (false, 0.15)];
/// How far apart on the grid settings start or fail alike.
const START_LENGTH: f64 = 0.2;

/// What is searched, and for what.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// For each flag whether a higher level needs more memory or less; `None` where that is not
    /// known.
    pub memory: Vec<Option<Ordering>>,
    /// The settings, the defaults first.
    pub candidates: Vec<Candidate>,
    /// The objective, then the limits.
    pub goals: Vec<Goal>,
    /// Loads that a setting serves; the first is the objective's.
    pub loads: usize,
    /// What the search and the confirmation may take together.
    pub budget_s: f64,
    /// Fresh starts of each setting that is confirmed.
    pub confirm_starts: u32,
    /// Decides between settings of which the same is expected.
    pub seed: u64,
}

/// A setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Levels of the flags, each from 0 to 1; `None` for the defaults.
    pub levels: Option<Vec<f64>>,
    /// What a simulator says of it.
    pub predicted: Predicted,
}

/// What a simulator says of a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case", deny_unknown_fields)]
pub enum Predicted {
    /// Nothing.
    Unknown,
    /// It does not start.
    Refused,
    /// It runs.
    Runs {
        /// The figures, one a goal, where it tells.
        figures: Vec<Option<f64>>,
        /// Time of the start.
        start_s: f64,
        /// Time of all loads.
        loads_s: f64,
    },
}

/// A metric and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    /// Metric id ([`crate::metric`]).
    pub metric: String,
    /// Index of the load that tells it.
    pub load: usize,
    /// What is wanted.
    pub want: Want,
}

/// What is wanted of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// As much as can be.
    Most,
    /// As little as can be.
    Least,
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// Stands for a figure that was not reached, since too many requests failed.
const UNREACHED: f64 = 1e9;

impl Want {
    /// The figure as a logarithm of which more is better. A limit is kept from 0 on.
    pub fn score(self, figure: f64) -> f64 {
        let log = |value: f64| log(value.max(1e-9));
        match self {
            Self::Most => log(figure),
            Self::Least => -log(figure),
            Self::AtMost(limit) => (log(limit) - log(figure)).clamp(-CLIP, CLIP),
            Self::AtLeast(limit) => (log(figure) - log(limit)).clamp(-CLIP, CLIP),
        }
    }
}

impl Goal {
    /// The figure that a load tells, if it tells this goal. Above capacity latency grows with the
    /// length of the load: then a limit on it is broken, whatever it says.
    pub fn figure(&self, load: usize, measured: &Measured) -> Option<f64> {
        if load != self.load {
            return None;
        }
        // What was not reached is far from everything, but on the scale.
        let figure = (metric::find(&self.metric)?.value)(measured)?.clamp(-UNREACHED, UNREACHED);
        Some(match self.want {
            Want::AtMost(limit) if measured.saturated => figure.max(limit * exp(CLIP)),
            _ => figure,
        })
    }
}

/// What a simulator of that model says of a setting under these loads.
pub fn predict(model: &Model, args: &Args, loads: &[Workload], goals: &[Goal]) -> Predicted {
    // What the simulator does not know it cannot tell apart.
    let is_known = |flag: &&String| sim::KNOWN_FLAGS.contains(&flag.as_str());
    let args = args.iter().filter(|(flag, _)| is_known(flag)).map(|(k, v)| (k.clone(), v.clone()));
    let model = model.without_noise();
    let Ok((start_s, measured)) = simulate(&model, &args.collect(), 0, loads) else {
        return Predicted::Refused;
    };
    let figure = |goal: &Goal| goal.figure(goal.load, measured.get(goal.load)?);
    Predicted::Runs {
        figures: goals.iter().map(figure).collect(),
        start_s,
        loads_s: measured.iter().map(|measured| measured.summary.duration_s).sum(),
    }
}

/// A setting that was started, with the loads that it has served so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Index of the setting.
    pub candidate: usize,
    /// Loads served, in their order.
    pub loads: usize,
    /// Figures, one a goal, where they are told.
    pub figures: Vec<Option<f64>>,
    /// Why there is no more to come, if something went wrong.
    pub failure: Option<Failure>,
    /// Time of the start, where it is known.
    pub start_s: f64,
    /// Engine time of the start and the loads.
    pub cost_s: f64,
}

impl Evaluation {
    /// A setting that is started.
    fn begin(candidate: usize, goals: usize) -> Self {
        Self {
            candidate,
            loads: 0,
            figures: vec![None; goals],
            failure: None,
            start_s: 0.0,
            cost_s: 0.0,
        }
    }
}

/// Why a setting gave no figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It needs more memory than there is.
    Memory,
    /// It does not run for another reason.
    Other,
    /// It ran, but a trial failed its own checks.
    Invalid,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Measure a load on a setting: its first on a new start, a later one on that start.
    Measure {
        /// Index of the setting.
        candidate: usize,
        /// Index of the load.
        load: usize,
    },
    /// The search is over: measure these again, the best first.
    Confirm {
        /// Indices of settings, as far as there are: the winner, the runner-up, the best that keeps
        /// its distance from the limits where neither does, and the defaults. Where none keeps the
        /// limits, those that break them least.
        candidates: Vec<usize>,
        /// Why the search is over.
        reason: Over,
    },
}

/// Why a search is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing is left that promises an improvement.
    NothingPromises,
    /// No other start fits the budget, the confirmation counted.
    Budget,
}

impl Problem {
    /// The next step after these evaluations, in the order in which they were made.
    pub fn next(&self, evaluations: &[Evaluation]) -> Step {
        let Some((last, before)) = evaluations.split_last() else {
            return Step::Measure { candidate: DEFAULTS, load: 0 };
        };
        if last.failure.is_none() && last.loads < self.loads && !self.is_given_up(last, before) {
            return Step::Measure { candidate: last.candidate, load: last.loads };
        }
        let (best, fits) = self.best_candidate(evaluations);
        match best {
            Some(candidate) => Step::Measure { candidate, load: 0 },
            None => Step::Confirm {
                candidates: self.finalists(evaluations),
                reason: if fits { Over::NothingPromises } else { Over::Budget },
            },
        }
    }

    /// Takes note of what came of a [`Step::Measure`].
    pub fn note(&self, evaluations: &mut Vec<Evaluation>, candidate: usize, outcome: &Outcome) {
        // A start that failed took about as long as others.
        let start_s = evaluations.iter().map(|e| e.start_s).fold(0.0, f64::max);
        if evaluations.last().is_none_or(|last| last.candidate != candidate) {
            evaluations.push(Evaluation::begin(candidate, self.goals.len()));
        }
        let last = evaluations.last_mut().expect("one was just there");
        match outcome {
            Outcome::Refused(failure) => {
                let is_memory = failure.class.is_memory_of_start()
                    || failure.class == FailureClass::OutOfMemory;
                last.failure = Some(if is_memory { Failure::Memory } else { Failure::Other });
                if failure.foreseen.is_none() {
                    last.cost_s += start_s;
                }
            }
            Outcome::Measured(measured) => {
                if last.loads == 0 {
                    last.start_s = measured.observed.start_s.unwrap_or_default();
                    last.cost_s = last.start_s;
                }
                last.cost_s += measured.summary.duration_s;
                if measured.is_valid() {
                    let told = self.goals.iter().map(|goal| goal.figure(last.loads, measured));
                    for (figure, told) in last.figures.iter_mut().zip(told) {
                        *figure = figure.or(told);
                    }
                } else {
                    last.failure = Some(Failure::Invalid);
                }
                last.loads += 1;
            }
        }
    }

    /// Engine time that the evaluations took.
    pub fn spent_s(evaluations: &[Evaluation]) -> f64 {
        evaluations.iter().map(|evaluation| evaluation.cost_s).sum()
    }

    /// Whether a setting ran, served every load and kept every limit.
    pub fn is_feasible(&self, evaluation: &Evaluation) -> bool {
        self.keeps_by(evaluation, 0.0)
    }

    /// Whether a setting is feasible and keeps every limit by that much, as a logarithm.
    fn keeps_by(&self, evaluation: &Evaluation, distance: f64) -> bool {
        let kept = |(goal, figure): (&Goal, &Option<f64>)| {
            figure.is_some_and(|figure| goal.want.score(figure) >= distance)
        };
        evaluation.failure.is_none()
            && evaluation.figures[0].is_some()
            && self.goals.iter().zip(&evaluation.figures).skip(1).all(kept)
    }

    fn objective(&self, evaluation: &Evaluation) -> Option<f64> {
        evaluation.figures[0].map(|figure| self.goals[0].want.score(figure))
    }

    /// The defaults are measured whole: everything is compared with them.
    fn is_given_up(&self, last: &Evaluation, before: &[Evaluation]) -> bool {
        let feasible = before.iter().filter(|evaluation| self.is_feasible(evaluation));
        let best =
            feasible.filter_map(|evaluation| self.objective(evaluation)).max_by(f64::total_cmp);
        let breaks = |(goal, figure): (&Goal, &Option<f64>)| {
            figure.is_some_and(|figure| goal.want.score(figure) < -GIVEN_UP)
        };
        last.candidate != DEFAULTS
            && last.loads > 0
            && (self.objective(last).zip(best).is_some_and(|(o, best)| o < best - GIVEN_UP)
                || self.goals.iter().zip(&last.figures).skip(1).any(breaks))
    }

    /// The setting that promises most for its time, and whether one that promises something was
    /// left out for want of time alone.
    fn best_candidate(&self, evaluations: &[Evaluation]) -> (Option<usize>, bool) {
        let beliefs = self.beliefs(evaluations);
        let incumbent = self.ranked(evaluations, &beliefs).first().map(|(_, objective)| *objective);
        let costs = Costs::learn(self, evaluations);
        let left_s = self.budget_s - Self::spent_s(evaluations) - self.confirmation_s(&costs);
        let mut random = Random::new(self.seed, 0);
        let mut best: Option<(usize, f64)> = None;
        let mut fits = true;
        for (index, candidate) in self.candidates.iter().enumerate() {
            let rank = random.uniform();
            if evaluations.iter().any(|evaluation| evaluation.candidate == index) {
                continue;
            }
            let starts = self.starts(candidate, evaluations);
            let keeps: f64 = (1..self.goals.len())
                .filter_map(|goal| beliefs[goal].as_ref())
                .zip(1..)
                .map(|(process, goal)| {
                    let (mean, deviation) = process.at(&self.place(goal, index));
                    normal_below(mean / deviation)
                })
                .product();
            let gain = match (&beliefs[0], incumbent) {
                (Some(process), Some(incumbent)) => {
                    let (mean, deviation) = process.at(&self.place(0, index));
                    expected_improvement(mean - incumbent, deviation)
                }
                // Anything that runs within the limits is an improvement.
                _ => 1.0,
            };
            let mut promise = starts * keeps * gain;
            if incumbent.is_none() {
                // Beliefs of limits that everything so far breaks are no reason to stop looking:
                // the likeliest is tried, however unlikely.
                promise = promise.max(f64::MIN_POSITIVE * 1e12);
            } else if promise < WORTHWHILE {
                continue;
            }
            if starts == 0.0 {
                continue;
            }
            let cost_s = costs.whole_s(index);
            if cost_s * SLACK > left_s {
                fits = false;
                continue;
            }
            // The rank decides between equals only.
            let value = promise / cost_s * (1.0 + 1e-9 * rank);
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((index, value));
            }
        }
        (best.map(|(index, _)| index), fits)
    }

    /// What is believed of each goal; `None` before anything was measured.
    fn beliefs(&self, evaluations: &[Evaluation]) -> Vec<Option<Process<'_>>> {
        let belief = |goal: usize| {
            let want = self.goals[goal].want;
            let observed: Vec<_> = evaluations
                .iter()
                .filter_map(|e| Some((self.place(goal, e.candidate), want.score(e.figures[goal]?))))
                .collect();
            (!observed.is_empty()).then(|| Process::learn(&observed))
        };
        (0..self.goals.len()).map(belief).collect()
    }

    /// Where a setting lies. Of one that is predicted not to start, the nearest that is predicted
    /// to says how it would run.
    fn place(&self, goal: usize, index: usize) -> Place<'_> {
        let candidate = &self.candidates[index];
        let figure = |other: &Candidate| match &other.predicted {
            Predicted::Runs { figures, .. } => figures[goal],
            Predicted::Unknown | Predicted::Refused => None,
        };
        let nearest = || {
            let with_figure = self.candidates.iter().filter(|other| figure(other).is_some());
            let pairs = with_figure.map(|other| (distance(candidate, other), other));
            pairs.min_by(|a, b| a.0.total_cmp(&b.0)).and_then(|(_, other)| figure(other))
        };
        let predicted = figure(candidate).or_else(nearest);
        Place {
            at: candidate.levels.as_deref(),
            predicted: predicted.map_or(0.0, |figure| self.goals[goal].want.score(figure)),
        }
    }

    /// Probability that a setting starts: by the frontier where it is known on which side of it
    /// the setting lies, else by what is predicted and by what its neighbours did.
    fn starts(&self, candidate: &Candidate, evaluations: &[Evaluation]) -> f64 {
        let predicted = candidate.predicted != Predicted::Refused;
        let (mut sum, mut weight) = (0.0, 0.0);
        for (starts, probability) in STARTS_AS_PREDICTED {
            if starts == predicted {
                (sum, weight) = (0.5 * probability, 0.5);
            }
        }
        for evaluation in evaluations {
            let other = &self.candidates[evaluation.candidate];
            let failed = match evaluation.failure {
                None => false,
                Some(Failure::Invalid) => continue,
                Some(Failure::Memory | Failure::Other) => true,
            };
            if evaluation.failure == Some(Failure::Memory) && self.needs_as_much(candidate, other) {
                return 0.0;
            }
            if !failed && self.needs_as_much(other, candidate) {
                return 1.0;
            }
            let d = distance(candidate, other) / START_LENGTH;
            let alike = exp(-0.5 * d * d);
            weight += alike;
            sum += if failed { 0.0 } else { alike };
        }
        sum / weight
    }

    /// Whether one setting is known to need at least the memory of the other.
    fn needs_as_much(&self, one: &Candidate, other: &Candidate) -> bool {
        let (Some(one), Some(other)) = (&one.levels, &other.levels) else { return false };
        self.memory.iter().zip(one.iter().zip(other)).all(|(memory, (a, b))| {
            let order = a.total_cmp(b);
            order == Ordering::Equal || *memory == Some(order)
        })
    }

    /// Settings that kept the limits, by what is believed of their objective, the best first.
    fn ranked(
        &self,
        evaluations: &[Evaluation],
        beliefs: &[Option<Process<'_>>],
    ) -> Vec<(usize, f64)> {
        let Some(objective) = &beliefs[0] else { return Vec::new() };
        let feasible = evaluations.iter().filter(|evaluation| self.is_feasible(evaluation));
        let mut ranked: Vec<_> =
            feasible.map(|e| (e.candidate, objective.at(&self.place(0, e.candidate)).0)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }

    fn finalists(&self, evaluations: &[Evaluation]) -> Vec<usize> {
        let mut ranked = self.ranked(evaluations, &self.beliefs(evaluations));
        if ranked.is_empty() {
            ranked = self.nearest(evaluations);
        }
        let ranked: Vec<usize> =
            ranked.into_iter().map(|(index, _)| index).filter(|index| *index != DEFAULTS).collect();
        let keeps_its_distance = |index: &usize| {
            let evaluation = evaluations.iter().find(|e| e.candidate == *index);
            evaluation.is_some_and(|evaluation| self.keeps_by(evaluation, DISTANCE))
        };
        let mut finalists: Vec<usize> = ranked.iter().copied().take(2).collect();
        if !finalists.iter().any(keeps_its_distance) {
            finalists.extend(ranked.iter().copied().find(keeps_its_distance));
        }
        finalists.push(DEFAULTS);
        finalists
    }

    /// Settings that run, by how little they break the limit that they break most, the least first:
    /// what a search comes to that found none within the limits.
    fn nearest(&self, evaluations: &[Evaluation]) -> Vec<(usize, f64)> {
        let worst = |evaluation: &Evaluation| {
            let limits = self.goals.iter().zip(&evaluation.figures).skip(1);
            let scores = limits.filter_map(|(goal, figure)| Some(goal.want.score((*figure)?)));
            scores.fold(0.0_f64, f64::min)
        };
        let runs = evaluations.iter().filter(|e| e.failure.is_none() && e.figures[0].is_some());
        let mut nearest: Vec<_> = runs.map(|e| (e.candidate, worst(e))).collect();
        nearest.sort_by(|a, b| b.1.total_cmp(&a.1));
        nearest
    }

    /// What the confirmation takes at most.
    fn confirmation_s(&self, costs: &Costs<'_>) -> f64 {
        let finalists = if self.goals.len() > 1 { 4.0 } else { 3.0 };
        finalists * f64::from(self.confirm_starts) * costs.longest_s * SLACK
    }
}

/// What settings take, from what was predicted and measured.
struct Costs<'a> {
    problem: &'a Problem,
    /// Measured over predicted.
    ratio: f64,
    /// Mean of those measured whole.
    mean_s: f64,
    /// The longest of those measured whole.
    longest_s: f64,
}

impl<'a> Costs<'a> {
    fn learn(problem: &'a Problem, evaluations: &[Evaluation]) -> Self {
        let whole =
            || evaluations.iter().filter(|e| e.failure.is_none() && e.loads == problem.loads);
        let costs: Vec<f64> = whole().map(|evaluation| evaluation.cost_s).collect();
        let all_s = costs.iter().sum::<f64>();
        let predicted_s: Option<f64> =
            whole().map(|evaluation| predicted_s(&problem.candidates[evaluation.candidate])).sum();
        Self {
            problem,
            ratio: predicted_s.filter(|sum| *sum > 0.0).map_or(1.0, |sum| all_s / sum),
            mean_s: if costs.is_empty() { 1.0 } else { all_s / costs.len() as f64 },
            longest_s: costs.into_iter().fold(0.0, f64::max),
        }
    }

    fn whole_s(&self, index: usize) -> f64 {
        predicted_s(&self.problem.candidates[index]).map_or(self.mean_s, |s| s * self.ratio)
    }
}

fn predicted_s(candidate: &Candidate) -> Option<f64> {
    match candidate.predicted {
        Predicted::Runs { start_s, loads_s, .. } => Some(start_s + loads_s),
        Predicted::Unknown | Predicted::Refused => None,
    }
}

/// Distance on the grid; the defaults are far from everything.
fn distance(a: &Candidate, b: &Candidate) -> f64 {
    match (&a.levels, &b.levels) {
        (Some(a), Some(b)) => sqrt(a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()),
        _ => f64::INFINITY,
    }
}

/// Expected part above zero of a normal variable.
fn expected_improvement(mean: f64, deviation: f64) -> f64 {
    let z = mean / deviation;
    let density = exp(-0.5 * z * z) / sqrt(2.0 * core::f64::consts::PI);
    mean * normal_below(z) + deviation * density
}

/// Probability that a standard normal variable lies below.
fn normal_below(z: f64) -> f64 {
    0.5 * (1.0 + erf(z / core::f64::consts::SQRT_2))
}

#[cfg(test)]
mod tests;
