//! What is searched, what was measured of it, and what follows from one evaluation alone.

use std::cmp::Ordering;

use libm::{erf, exp, log, sqrt};
use serde::{Deserialize, Serialize};

use super::process::Place;
use crate::{
    metric,
    schema::{Args, Cost, FailureClass, Measured, Outcome},
    sim::{Model, predict::simulate},
    workload::Workload,
};

/// Index of the defaults among the candidates.
pub const DEFAULTS: usize = 0;
/// Expected improvements below this, as a logarithm, are not worth a start. It is small since a
/// belief may be wrong, and the budget says already what the search may cost.
pub(super) const WORTHWHILE: f64 = 1e-5;
/// Beyond this, as a logarithm, a limit is kept or broken, no matter by how much.
pub(super) const CLIP: f64 = 1.5;
/// With this probability of keeping the limits a setting may be the winner.
pub(super) const SURE: f64 = 0.9;
/// The same where the defaults break them: there is nothing to lose.
pub(super) const SURE_ENOUGH: f64 = 0.6;
/// With this one it keeps its distance from them.
pub(super) const SAFE: f64 = 0.98;
/// What a start or a load may take over what is expected.
pub(super) const SLACK: f64 = 1.1;
/// Starts of one setting that a search makes at most.
pub const STARTS_MAX: u32 = 4;
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
    /// Number of its layout: how cards share the work. All the same where no flag changes it.
    pub layout: usize,
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
        /// The first figure with every guess about a layout of several cards at its worst and at its best
        /// ([`crate::sim::ASSUMPTIONS`]), the lower one first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<[f64; 2]>,
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

/// What a simulator of that model says of a setting under these loads, whose server costs that.
pub fn predict(
    model: &Model,
    args: &Args,
    cost: Option<Cost>,
    loads: &[Workload],
    goals: &[Goal],
) -> Predicted {
    // What the simulator does not know it cannot tell apart.
    let args = args.iter().filter(|(flag, _)| model.models(flag));
    let args: Args = args.map(|(flag, value)| (flag.clone(), value.clone())).collect();
    let model = model.without_noise();
    let of = |model: &Model, loads: &[Workload]| {
        let (start_s, mut measured) = simulate(model, &args, 0, loads).ok()?;
        measured.iter_mut().for_each(|measured| measured.observed.cost = cost);
        Some((start_s, measured))
    };
    let Some((start_s, measured)) = of(&model, loads) else { return Predicted::Refused };
    let figure = |goal: &Goal| goal.figure(goal.load, measured.get(goal.load)?);
    let end = |model: &Model| {
        let objective = goals.first()?;
        let (_, measured) = of(model, loads.get(objective.load..=objective.load)?)?;
        objective.figure(objective.load, &measured[0])
    };
    let within = model.ends(&args).and_then(|[best, worst]| {
        let (a, b) = (end(&best)?, end(&worst)?);
        Some([a.min(b), a.max(b)])
    });
    Predicted::Runs {
        figures: goals.iter().map(figure).collect(),
        start_s,
        loads_s: measured.iter().map(|measured| measured.summary.duration_s).sum(),
        within,
    }
}

/// A start of a setting, with the loads that it has served so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Index of the setting.
    pub candidate: usize,
    /// Which start of the setting, from 0.
    pub start: u32,
    /// How often each load was served.
    pub served: Vec<u32>,
    /// Figures of each goal, one a repeat of its load, where they are known.
    pub figures: Vec<Vec<f64>>,
    /// Why there is no more to come, if something went wrong.
    pub failure: Option<Failure>,
    /// Time of the start, where it is known.
    pub start_s: f64,
    /// Time of each load, its repeats together.
    pub loads_s: Vec<f64>,
    /// Engine time of the start and the loads.
    pub cost_s: f64,
}

impl Evaluation {
    /// A setting that is started.
    pub(super) fn begin(problem: &Problem, candidate: usize, start: u32) -> Self {
        Self {
            candidate,
            start,
            served: vec![0; problem.loads],
            figures: vec![Vec::new(); problem.goals.len()],
            failure: None,
            start_s: 0.0,
            loads_s: vec![0.0; problem.loads],
            cost_s: 0.0,
        }
    }

    /// Mean of a goal's figures.
    pub fn figure(&self, goal: usize) -> Option<f64> {
        let figures = &self.figures[goal];
        (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
    }

    /// Whether every load was served.
    pub fn is_whole(&self) -> bool {
        self.served.iter().all(|times| *times > 0)
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

/// One load on one start of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Index of the setting.
    pub candidate: usize,
    /// Which start of it, from 0.
    pub start: u32,
    /// Index of the load.
    pub load: usize,
    /// How often this start has served the load before.
    pub repeat: u32,
}

/// What came of a [`Trial`].
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The setting does not run.
    Refused {
        /// For want of memory.
        memory: bool,
        /// It was not tried, since that was known.
        foreseen: bool,
    },
    /// The load was served.
    Served {
        /// Time of the start.
        start_s: f64,
        /// Time of the load.
        duration_s: f64,
        /// Figures, one a goal, where this load tells it; none of a trial that failed its checks.
        figures: Option<Vec<Option<f64>>>,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Measure a load on a setting.
    Measure(Trial),
    /// The search is over: measure these again, the best first.
    Confirm {
        /// Indices of settings, as far as there are: the winner, the runner-up (where the winner does
        /// not keep its distance from the limits, the best that does), and the defaults. Where none
        /// keeps the limits, those that are likeliest to.
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
    /// What the search takes of a trial's outcome.
    pub fn seen(&self, load: usize, outcome: &Outcome) -> Seen {
        match outcome {
            Outcome::Refused(failure) => Seen::Refused {
                memory: failure.class.is_memory_of_start()
                    || failure.class == FailureClass::OutOfMemory,
                foreseen: failure.foreseen.is_some(),
            },
            Outcome::Measured(measured) => Seen::Served {
                start_s: measured.observed.start_s.unwrap_or_default(),
                duration_s: measured.summary.duration_s,
                figures: measured
                    .is_valid()
                    .then(|| self.goals.iter().map(|goal| goal.figure(load, measured)).collect()),
            },
        }
    }

    /// Records what came of a trial.
    pub fn note(&self, evaluations: &mut Vec<Evaluation>, trial: Trial, seen: &Seen) {
        // A start that failed took about as long as others.
        let longest_s = evaluations.iter().map(|e| e.start_s).fold(0.0, f64::max);
        let is_it =
            |last: &Evaluation| (last.candidate, last.start) == (trial.candidate, trial.start);
        if !evaluations.last().is_some_and(is_it) {
            evaluations.push(Evaluation::begin(self, trial.candidate, trial.start));
        }
        let last = evaluations.last_mut().expect("one was just there");
        match seen {
            Seen::Refused { memory, foreseen } => {
                last.failure = Some(if *memory { Failure::Memory } else { Failure::Other });
                if !foreseen {
                    last.cost_s += longest_s;
                }
            }
            Seen::Served { start_s, duration_s, figures } => {
                if last.served.iter().all(|times| *times == 0) {
                    last.start_s = *start_s;
                    last.cost_s = *start_s;
                }
                last.cost_s += duration_s;
                last.loads_s[trial.load] += duration_s;
                last.served[trial.load] += 1;
                match figures {
                    Some(figures) => {
                        for (known, figure) in last.figures.iter_mut().zip(figures) {
                            known.extend(figure);
                        }
                    }
                    None => last.failure = Some(Failure::Invalid),
                }
            }
        }
    }

    /// Engine time that the evaluations took.
    pub fn spent_s(evaluations: &[Evaluation]) -> f64 {
        evaluations.iter().map(|evaluation| evaluation.cost_s).sum()
    }

    /// Whether a setting ran, served every load and kept every limit, as this start says.
    pub fn is_feasible(&self, evaluation: &Evaluation) -> bool {
        let kept = |goal: usize| self.score(evaluation, goal).is_some_and(|score| score >= 0.0);
        evaluation.failure.is_none()
            && evaluation.figure(0).is_some()
            && (1..self.goals.len()).all(kept)
    }

    /// Mean over repeats, as a logarithm of which more is better.
    pub(super) fn score(&self, evaluation: &Evaluation, goal: usize) -> Option<f64> {
        let figures = &evaluation.figures[goal];
        let scores = figures.iter().map(|figure| self.goals[goal].want.score(*figure));
        (!figures.is_empty()).then(|| scores.sum::<f64>() / figures.len() as f64)
    }

    /// Where a setting lies. Of one that is predicted not to start, the nearest that is predicted
    /// to says how it would run.
    pub(super) fn place(&self, goal: usize, index: usize) -> Place<'_> {
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

    /// Probability that a setting starts: by the memory order where it is known on which side of it
    /// the setting lies, else by what is predicted and by what its neighbours did.
    pub(super) fn starts(&self, candidate: &Candidate, evaluations: &[Evaluation]) -> f64 {
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

    /// By how much, as a logarithm, the objective may be better than predicted where what is guessed of the
    /// layout turns out well.
    pub(super) fn reach(&self, index: usize) -> f64 {
        let Predicted::Runs { figures, within: Some(ends), .. } = &self.candidates[index].predicted
        else {
            return 0.0;
        };
        let want = self.goals[0].want;
        let best = ends.iter().map(|end| want.score(*end)).fold(f64::NEG_INFINITY, f64::max);
        figures[0].map_or(0.0, |figure| (best - want.score(figure)).max(0.0))
    }

    /// Whether one setting is known to need at least the memory of the other.
    fn needs_as_much(&self, one: &Candidate, other: &Candidate) -> bool {
        let (Some(one), Some(other)) = (&one.levels, &other.levels) else { return false };
        self.memory.iter().zip(one.iter().zip(other)).all(|(memory, (a, b))| {
            let order = a.total_cmp(b);
            order == Ordering::Equal || *memory == Some(order)
        })
    }
}

/// What settings take, from what was predicted and measured.
pub(super) struct Costs<'a> {
    problem: &'a Problem,
    /// Measured over predicted.
    ratio: f64,
    /// Mean of those measured whole.
    mean_s: f64,
}

impl<'a> Costs<'a> {
    pub(super) fn learn(problem: &'a Problem, evaluations: &[Evaluation]) -> Self {
        let whole = || evaluations.iter().filter(|e| e.failure.is_none() && e.is_whole());
        let once = |e: &Evaluation| -> f64 {
            let loads = e.loads_s.iter().zip(&e.served);
            e.start_s + loads.map(|(seconds, times)| seconds / f64::from(*times)).sum::<f64>()
        };
        let costs: Vec<f64> = whole().map(once).collect();
        let all_s = costs.iter().sum::<f64>();
        let predicted_s: Option<f64> =
            whole().map(|evaluation| predicted_s(&problem.candidates[evaluation.candidate])).sum();
        Self {
            problem,
            ratio: predicted_s.filter(|sum| *sum > 0.0).map_or(1.0, |sum| all_s / sum),
            mean_s: if costs.is_empty() { 1.0 } else { all_s / costs.len() as f64 },
        }
    }

    pub(super) fn whole_s(&self, index: usize) -> f64 {
        predicted_s(&self.problem.candidates[index]).map_or(self.mean_s, |s| s * self.ratio)
    }
}

pub(super) fn predicted_s(candidate: &Candidate) -> Option<f64> {
    match candidate.predicted {
        Predicted::Runs { start_s, loads_s, .. } => Some(start_s + loads_s),
        Predicted::Unknown | Predicted::Refused => None,
    }
}

/// Distance on the grid; the defaults are far from everything.
pub(super) fn distance(a: &Candidate, b: &Candidate) -> f64 {
    match (&a.levels, &b.levels) {
        (Some(a), Some(b)) => sqrt(a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()),
        _ => f64::INFINITY,
    }
}

/// Expected part above zero of a normal variable.
pub(super) fn expected_improvement(mean: f64, deviation: f64) -> f64 {
    let z = mean / deviation;
    let density = exp(-0.5 * z * z) / sqrt(2.0 * core::f64::consts::PI);
    mean * normal_below(z) + deviation * density
}

/// Probability that a standard normal variable lies below.
pub(super) fn normal_below(z: f64) -> f64 {
    0.5 * (1.0 + erf(z / core::f64::consts::SQRT_2))
}
