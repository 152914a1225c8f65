//! `tune` on engines whose best setting is known by trying them all:
//! `cargo run --release --example planted -- SEED...` (1 to 20 without any); with `layouts` before the seeds on
//! engines of eight cards.
//!
//! Each seed draws an engine, a workload, a grid of three flags and a limit. The search is given the
//! model that the engine was drawn around, never the engine's own; or that model with an error of 25 % at
//! one value of a flag; or none. One engine of four is no simulator of ours: its step and its API
//! server cost what formulas of another shape say. Starts and loads are off as on two hosts that were
//! measured, a quiet one and a loud one.
//!
//! Beside it, with the engine time that it took: one flag at a time (over and over, from the
//! defaults), and random settings. Each is judged by what its choice truly gives, without noise; a
//! choice that breaks the limit gives nothing. On eight cards the grid holds layouts beside two flags, sums over
//! the cards take up to twice or half as long as the model says, and `tune` has a quarter of the grid's time. `tune` recommends a change only where the verdict on
//! fresh starts carries it; those starts are part of its time. Last, engines on which every setting does
//! as the defaults: how often a change is recommended.

use std::{cmp::Ordering, collections::BTreeMap, env};

use bench_core::{
    metric, parallel,
    rng::Random,
    schema::{ArgValue, Args, Arrival, Class, Cost, LoadSpec, Measured, Size, TokenRange, Verdict},
    search::{
        Candidate, DEFAULTS, Evaluation, Goal, Predicted, Problem, Seen, Step, Trial, Want, predict,
    },
    sim::{Model, predict::simulate},
    stats::{self, Looks, Question, QuestionRole, Spread, Start},
    workload::Workload,
};

/// Share of the grid's engine time that `tune` may take, and that of layouts.
const BUDGET_SHARE: f64 = 1.0 / 3.0;
const BUDGET_SHARE_OF_LAYOUTS: f64 = 1.0 / 4.0;
/// How near to the best a choice of layouts must come.
const GOOD_OF_LAYOUTS: f64 = 0.95;
/// Share of that for the search and what its confirmation takes at least; the rest is for more starts
/// where the first leave the verdict open.
const SEARCH_SHARE: f64 = 0.95;
/// Fresh starts of a setting that is judged: at least, at most.
const JUDGED_STARTS: (u32, u32) = (3, 10);
/// Repeats of the objective's load in each of them.
const JUDGED_REPEATS: u32 = 3;
/// A limit that is broken by less, as a logarithm, is not told from one that is kept.
const BLUR: f64 = 0.01;
/// A model's error at one value, as a logarithm.
const ERROR: f64 = 0.25;

/// Standard deviations of logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Noise {
    between: f64,
    within: f64,
}

const QUIET: Noise = Noise { between: 0.01, within: 0.027 };
const LOUD: Noise = Noise { between: 0.06, within: 0.027 };

/// What the search is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    /// The model that the engine was drawn around.
    Model,
    /// The same, too low by [`ERROR`] for all settings that have one value of the best one.
    TooLow,
    /// The same, too high at a value that the best one does not have.
    TooHigh,
    /// Nothing.
    Nothing,
}

/// A way to search, and how near to the best it must come.
struct Scenario {
    name: &'static str,
    noise: Noise,
    told: Told,
    good: f64,
}

const SCENARIOS: [Scenario; 5] = [
    Scenario { name: "quiet", noise: QUIET, told: Told::Model, good: 0.98 },
    Scenario { name: "loud", noise: LOUD, told: Told::Model, good: 0.97 },
    Scenario { name: "quiet, -25 % at the best's", noise: QUIET, told: Told::TooLow, good: 0.98 },
    Scenario { name: "quiet, +25 % elsewhere", noise: QUIET, told: Told::TooHigh, good: 0.98 },
    Scenario { name: "quiet, no model", noise: QUIET, told: Told::Nothing, good: 0.98 },
];

/// What is special about an engine.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Flags that help only together: batches, token budget, API servers.
    Interacting,
    /// Little memory: part of the grid does not start.
    Frontier,
    /// Batches beyond the captured graphs are so slow that a shorter queue means less throughput.
    QueueMisleads,
    /// Steps and API servers that cost what no model of ours can say.
    Foreign,
    /// Eight cards.
    Layouts,
}

impl Kind {
    fn budget_share(self) -> f64 {
        if self == Self::Layouts { BUDGET_SHARE_OF_LAYOUTS } else { BUDGET_SHARE }
    }
}

/// What a setting gives without noise; `None` where it does not start.
type Truth = Option<Given>;

#[derive(Clone, Debug)]
struct Given {
    start_s: f64,
    /// Time of each load, and what it tells of each goal.
    loads: Vec<(f64, Vec<Option<f64>>)>,
}

/// An engine, what is asked of it, and what is known of it.
struct Planted {
    kind: Kind,
    problem: Problem,
    args: Vec<Args>,
    truth: Vec<Truth>,
    noise: Noise,
    seed: u64,
}

/// What came of a search.
struct Found {
    choice: usize,
    spent_s: f64,
    starts: usize,
}

fn main() {
    let mut given = env::args().skip(1).peekable();
    let of_layouts = given.next_if(|word| word == "layouts").is_some();
    let given: Vec<u64> = given.map(|seed| seed.parse().expect("a seed is a number")).collect();
    let seeds = if given.is_empty() { (1..=20).collect() } else { given };
    let kind_of = |seed: u64| if of_layouts { Kind::Layouts } else { kind_of(seed) };
    let all: Vec<([Score; SCENARIOS.len()], [bool; 2])> =
        parallel::map(&seeds, |seed| judge(*seed, kind_of(*seed)));
    let (of_seeds, flat): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    println!(
        "{:<28}{:>14}{:>20}{:>14}{:>14}{:>12}{:>8}",
        "", "tune", "95 %", "one a time", "random", "breaks", "time"
    );
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        let scores = || of_seeds.iter().map(|scores| &scores[index]);
        let (n, good) = (seeds.len(), scores().filter(|score| score.tune).count());
        let (low, high) = wilson(good, n);
        println!(
            "{:<28}{:>14}{:>20}{:>14}{:>14}{:>12}{:>7.0}%",
            scenario.name,
            format!("{good} of {n}"),
            format!("{:.0} to {:.0} %", 100.0 * low, 100.0 * high),
            scores().filter(|score| score.one).count(),
            scores().filter(|score| score.random).count(),
            scores().filter(|score| score.breaks).count(),
            100.0 * scores().map(|score| score.time).sum::<f64>() / n as f64,
        );
    }
    for (index, host) in ["quiet", "loud"].into_iter().enumerate() {
        let changes = flat.iter().filter(|changes| changes[index]).count();
        let (low, high) = wilson(changes, seeds.len());
        println!(
            "nothing to be gained, {host}: a change recommended in {changes} of {} ({:.0} to {:.0} %)",
            seeds.len(),
            100.0 * low,
            100.0 * high,
        );
    }
}

/// Wilson's interval of a share.
fn wilson(k: usize, n: usize) -> (f64, f64) {
    let (n, p, z) = (n as f64, k as f64 / n as f64, 1.96_f64);
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z * libm::sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n)) / (1.0 + z * z / n);
    (middle - half, middle + half)
}

/// How one search did: which of the ways came near enough to the best.
#[derive(Clone, Copy, Debug)]
struct Score {
    tune: bool,
    one: bool,
    random: bool,
    /// It recommends what breaks a limit that the defaults keep.
    breaks: bool,
    /// Of the grid's engine time.
    time: f64,
}

/// Searches one engine in every way, and prints a line for each; then the same where every setting does
/// as the defaults do: whether a change is recommended on the quiet host and on the loud one.
fn judge(seed: u64, kind: Kind) -> ([Score; SCENARIOS.len()], [bool; 2]) {
    let mut planted = Planted::draw(seed, kind);
    let predictions: Vec<Predicted> =
        planted.problem.candidates.iter().map(|c| c.predicted.clone()).collect();
    let grid_s = planted.grid_s();
    let scores = std::array::from_fn(|index| {
        let Scenario { name, noise, told, good } = &SCENARIOS[index];
        planted.noise = *noise;
        planted.tell(&predictions, *told);
        let Found { choice, spent_s, starts } = planted.tune();
        let ways = [choice, planted.one_flag_at_a_time(spent_s), planted.random(spent_s)];
        let [tune, one, random] = ways.map(|choice| planted.share_of_best(choice));
        let in_time = spent_s <= kind.budget_share() * grid_s;
        let good = if kind == Kind::Layouts { &GOOD_OF_LAYOUTS } else { good };
        let score = Score {
            tune: tune >= *good && in_time,
            one: one >= *good,
            random: random >= *good,
            breaks: choice != DEFAULTS
                && planted.keeps(DEFAULTS, 0.0)
                && !planted.keeps(choice, -BLUR),
            time: spent_s / grid_s,
        };
        println!(
            "{seed:>6}  {:<13}  {name:<28}  defaults {:>6.1}  tune {:>6.1}  {:>5.1} % of the time  \
             {starts:>3} starts  one a time {:>6.1}  random {:>6.1}{}",
            format!("{:?}", planted.kind),
            100.0 * planted.share_of_best(DEFAULTS),
            100.0 * tune,
            100.0 * score.time,
            100.0 * one,
            100.0 * random,
            if score.breaks { "  BREAKS" } else { "" },
        );
        score
    });
    planted.flatten();
    planted.tell(&predictions, Told::Model);
    let flat = [QUIET, LOUD].map(|noise| {
        planted.noise = noise;
        planted.tune().choice != DEFAULTS
    });
    (scores, flat)
}

impl Planted {
    fn draw(seed: u64, kind: Kind) -> Self {
        let mut random = Random::new(seed, 0);
        let known = match kind {
            Kind::Layouts => include_str!("../../models/h100x8-qwen2.5-7b.json"),
            _ => include_str!("../../models/h100-qwen2.5-7b.json"),
        };
        let mut known: Model = serde_json::from_str(known).expect("the model file is one");
        known = known.without_noise();
        if kind == Kind::Frontier {
            // A card of 24 GB, as its label says.
            (known.memory.total_bytes, known.memory.free_bytes) = (25_300_000_000, 25_000_000_000);
        }
        let model = perturbed(&known, kind, &mut random);
        let (flags, memory) = flags(kind);
        let loads = loads(kind, &mut random);

        let mut args = vec![Args::new()];
        let mut levels = vec![None];
        grid(&flags, &mut |setting, at| {
            if cards(&setting) <= 8 {
                args.push(setting);
                levels.push(Some(at));
            }
        });
        let mut base = Args::from([("max-model-len".to_owned(), ArgValue::Int(4096))]);
        if kind == Kind::Layouts {
            base.insert("api-server-count".to_owned(), ArgValue::Int(8));
        }
        args.iter_mut().for_each(|args| args.extend(base.clone()));
        // A limit that a random part of the grid keeps: on the time to a token while the batch is
        // full, or on the wait for the first at a steady rate.
        let (limited, load) = [("tpot_p95_ms", 0), ("ttft_p95_ms", 1)][random.below(2) as usize];
        let kept = 0.2 + 0.7 * random.uniform();
        let foreign = Foreign::draw(&mut random);
        let goal = |metric: &str, load, want| Goal { metric: metric.to_owned(), load, want };
        // Of layouts, what a machine gives at most, or what a card does.
        let most = match kind {
            Kind::Layouts if random.below(2) == 0 => "output_tokens_per_s_per_card",
            _ => "output_tokens_per_s",
        };
        let mut goals =
            vec![goal(most, 0, Want::Most), goal(limited, load, Want::AtMost(f64::MAX))];
        let given = |args: &Args| -> Truth {
            if kind == Kind::Foreign {
                return Some(foreign.given(args, &loads, &goals));
            }
            let (start_s, mut measured) = simulate(&model, args, 0, &loads).ok()?;
            measured.iter_mut().for_each(|measured| measured.observed.cost = cost(args));
            let of_load = |(load, measured): (usize, &Measured)| {
                let figures = goals.iter().map(|goal| {
                    (goal.load == load).then(|| value(&goal.metric, measured)).flatten()
                });
                (measured.summary.duration_s, figures.collect())
            };
            Some(Given { start_s, loads: measured.iter().enumerate().map(of_load).collect() })
        };
        let truth: Vec<Truth> = args.iter().map(given).collect();
        let mut figures: Vec<f64> =
            truth.iter().flatten().filter_map(|given| given.loads[load].1[1]).collect();
        figures.sort_by(f64::total_cmp);
        // Not at the edge, where luck decides whether it is kept.
        let at = (kept * figures.len() as f64) as usize;
        let limit = match kind {
            Kind::Layouts => in_a_gap(&figures, at),
            _ => figures[at] * 1.03,
        };
        goals[1].want = Want::AtMost(limit);
        let layout = |args: &Args| SIZES.map(|flag| args.get(flag).cloned());
        let mut layouts: Vec<_> = args.iter().map(layout).collect();
        layouts.sort();
        layouts.dedup();
        let candidates = args
            .iter()
            .zip(levels)
            .map(|(args, levels)| Candidate {
                levels,
                layout: layouts.binary_search(&layout(args)).expect("it is there"),
                predicted: predict(&known, args, cost(args), &loads, &goals),
            })
            .collect();
        let problem = Problem {
            memory,
            candidates,
            goals,
            loads: loads.len(),
            budget_s: 0.0,
            confirm_starts: JUDGED_STARTS.0,
            seed,
        };
        let mut planted = Self { kind, problem, args, truth, noise: QUIET, seed };
        planted.problem.budget_s = SEARCH_SHARE * kind.budget_share() * planted.grid_s();
        planted
    }

    /// Engine time of trying everything.
    fn grid_s(&self) -> f64 {
        (1..self.args.len()).map(|index| self.cost_s(index)).sum()
    }

    /// Makes every setting that starts do as the defaults, which keep the limit by a tenth.
    fn flatten(&mut self) {
        let Some(default) = self.truth[DEFAULTS].clone() else { return };
        let limited = self.figure(DEFAULTS, 1).expect("the defaults tell every goal");
        self.problem.goals[1].want = Want::AtMost(1.1 * limited);
        for given in self.truth.iter_mut().flatten() {
            *given = default.clone();
        }
    }

    /// Tells the search what it is to know.
    fn tell(&mut self, predictions: &[Predicted], told: Told) {
        let best = (1..self.args.len())
            .max_by(|a, b| self.share_of_best(*a).total_cmp(&self.share_of_best(*b)))
            .expect("a grid");
        let mut random = Random::new(self.seed, 3);
        let flag = random.below(self.problem.memory.len() as u64) as usize;
        let level = |index: usize| self.problem.candidates[index].levels.as_ref().map(|l| l[flag]);
        let others: Vec<usize> =
            (1..self.args.len()).filter(|index| level(*index) != level(best)).collect();
        let other = others[random.below(others.len() as u64) as usize];
        let wrong = match told {
            Told::Model | Told::Nothing => None,
            Told::TooLow => Some((level(best), libm::log(1.0 - ERROR))),
            Told::TooHigh => Some((level(other), libm::log(1.0 + ERROR))),
        };
        let told = |(index, prediction): (usize, &Predicted)| {
            let mut prediction = prediction.clone();
            if told == Told::Nothing {
                return Predicted::Unknown;
            }
            if let Predicted::Runs { figures, .. } = &mut prediction
                && let Some((at, by)) = wrong
                && at.is_some()
                && level(index) == at
            {
                for (figure, goal) in figures.iter_mut().zip(&self.problem.goals) {
                    let sign = if goal.want == Want::Most { 1.0 } else { -1.0 };
                    *figure = figure.map(|value| value * libm::exp(sign * by));
                }
            }
            prediction
        };
        let all: Vec<Predicted> = predictions.iter().enumerate().map(told).collect();
        for (candidate, predicted) in self.problem.candidates.iter_mut().zip(all) {
            candidate.predicted = predicted;
        }
    }

    /// What a load on a start of a setting is measured to be: the truth, off by the start's luck
    /// and the load's.
    fn measure(&self, Trial { candidate, start, load, repeat }: Trial) -> Seen {
        let Some(given) = &self.truth[candidate] else {
            return Seen::Refused { memory: true, foreseen: false };
        };
        let stream = 1000 + 1000 * candidate as u64 + u64::from(start);
        let mut random = Random::new(self.seed, stream);
        let slower = self.noise.between * random.normal();
        let start_s = given.start_s * libm::exp(0.05 * random.normal());
        let mut random = Random::new(
            self.seed,
            1_000_000 * (1 + stream) + 100 * load as u64 + u64::from(repeat),
        );
        let (duration_s, figures) = &given.loads[load];
        let figures = figures.iter().zip(&self.problem.goals).map(|(figure, goal)| {
            let off = slower + self.noise.within * random.normal();
            let off = if goal.want == Want::Most { -off } else { off };
            figure.map(|figure| figure * libm::exp(off))
        });
        Seen::Served {
            start_s,
            duration_s: duration_s * libm::exp(slower),
            figures: Some(figures.collect()),
        }
    }

    /// The search, then the verdict: the choice, its engine time, its starts.
    fn tune(&self) -> Found {
        let mut evaluations = Vec::new();
        let finalists = loop {
            match self.problem.next(&evaluations) {
                Step::Measure(trial) => {
                    self.problem.note(&mut evaluations, trial, &self.measure(trial));
                }
                Step::Confirm { candidates, .. } => break candidates,
            }
        };
        let mut judging = Judging {
            planted: self,
            lent: lent(&self.problem, &evaluations),
            left_s: self.kind.budget_share() * self.grid_s() - Problem::spent_s(&evaluations),
            searched: evaluations.len(),
            evaluations,
        };
        let choice = judging.decide(&finalists);
        Found {
            choice,
            spent_s: Problem::spent_s(&judging.evaluations),
            starts: judging.evaluations.len(),
        }
    }

    /// The best of those that keep the limits, or the defaults.
    fn best_of(&self, figures: &[(usize, Vec<f64>)]) -> usize {
        let goals = &self.problem.goals;
        let kept = figures.iter().filter(|(_, figures)| {
            goals[1..].iter().zip(&figures[1..]).all(|(goal, f)| goal.want.score(*f) >= 0.0)
        });
        let score = |figures: &[f64]| goals[0].want.score(figures[0]);
        kept.max_by(|a, b| score(&a.1).total_cmp(&score(&b.1))).map_or(DEFAULTS, |best| best.0)
    }

    fn figure(&self, index: usize, goal: usize) -> Option<f64> {
        self.truth[index].as_ref()?.loads[self.problem.goals[goal].load].1[goal]
    }

    /// Whether a setting truly keeps the limits, by that much.
    fn keeps(&self, index: usize, by: f64) -> bool {
        let goals = &self.problem.goals;
        (1..goals.len()).all(|goal| {
            self.figure(index, goal).is_some_and(|figure| goals[goal].want.score(figure) >= by)
        })
    }

    /// What a setting truly gives, of the best that the grid gives within the limits; nothing
    /// where it breaks a limit or does not run.
    fn share_of_best(&self, index: usize) -> f64 {
        let objective = |index: usize| self.figure(index, 0).unwrap_or_default();
        let kept = (0..self.args.len()).filter(|index| self.keeps(*index, 0.0));
        let best = kept.map(objective).fold(0.0, f64::max);
        if self.keeps(index, -BLUR) { objective(index) / best } else { 0.0 }
    }

    /// Engine time of a setting with all loads.
    fn cost_s(&self, index: usize) -> f64 {
        match &self.truth[index] {
            Some(given) => given.start_s + given.loads.iter().map(|load| load.0).sum::<f64>(),
            // It fails at the end of a start.
            None => self.truth.iter().flatten().map(|given| given.start_s).fold(0.0, f64::max),
        }
    }

    /// Sweeps each flag around the best so far, from the middle of the grid, until nothing changes
    /// or the time is up.
    fn one_flag_at_a_time(&self, left_s: f64) -> usize {
        let mut tried = Tried { planted: self, found: BTreeMap::new(), left_s, is_over: false };
        let levels = |index: usize| self.problem.candidates[index].levels.as_ref();
        let start = self.nearest_to_defaults();
        let mut best = start;
        tried.measure(best);
        loop {
            let before = best;
            for flag in 0..self.problem.memory.len() {
                let line = (1..self.args.len()).filter(|index| {
                    let (Some(a), Some(b)) = (levels(*index), levels(best)) else { return false };
                    (0..a.len()).all(|other| other == flag || a[other] == b[other])
                });
                for index in line.collect::<Vec<_>>() {
                    tried.measure(index);
                }
                best = self.best_of(&tried.figures());
                if best == DEFAULTS {
                    best = start;
                }
            }
            if best == before || tried.is_over {
                return self.best_of(&tried.figures());
            }
        }
    }

    /// The grid's setting that stands for vLLM's defaults: every flag at its default value.
    fn nearest_to_defaults(&self) -> usize {
        let defaults = BTreeMap::from([
            ("max-num-seqs", ArgValue::Int(1024)),
            ("max-num-batched-tokens", ArgValue::Int(8192)),
            ("api-server-count", ArgValue::Int(1)),
            ("gpu-memory-utilization", ArgValue::Text("0.92".to_owned())),
        ]);
        let is_default =
            |args: &Args| defaults.iter().filter(|(flag, v)| args.get(**flag) == Some(v)).count();
        (1..self.args.len()).max_by_key(|index| is_default(&self.args[*index])).unwrap_or(1)
    }

    /// Random settings until the time is up.
    fn random(&self, left_s: f64) -> usize {
        let mut tried = Tried { planted: self, found: BTreeMap::new(), left_s, is_over: false };
        let mut random = Random::new(self.seed, 7);
        while !tried.is_over && tried.found.len() < self.args.len() {
            tried.measure(random.below(self.args.len() as u64) as usize);
        }
        self.best_of(&tried.figures())
    }
}

/// Spreads between starts of the settings that the search started more than once.
fn lent(problem: &Problem, evaluations: &[Evaluation]) -> Vec<Spread> {
    let metric = metric::find(&problem.goals[0].metric).expect("a metric");
    let mut starts: BTreeMap<usize, Vec<Start>> = BTreeMap::new();
    for evaluation in evaluations.iter().filter(|e| !e.figures[0].is_empty()) {
        let start = Start { block: None, repeats: evaluation.figures[0].clone() };
        starts.entry(evaluation.candidate).or_default().push(start);
    }
    starts.values().filter_map(|starts| stats::spread(metric, starts)).collect()
}

/// Finalists judged on fresh starts.
struct Judging<'a> {
    planted: &'a Planted,
    lent: Vec<Spread>,
    left_s: f64,
    /// The search's starts, and those made since.
    evaluations: Vec<Evaluation>,
    searched: usize,
}

impl Judging<'_> {
    /// The first finalist that keeps the limits, if the verdict on the objective says that it is
    /// better; where the defaults break the limits, the first that keeps them.
    fn decide(&mut self, finalists: &[usize]) -> usize {
        let (least, most) = JUDGED_STARTS;
        let looks = Looks::between(least, most);
        self.make(DEFAULTS, least);
        for finalist in finalists.iter().copied().filter(|index| *index != DEFAULTS) {
            let mut starts = least;
            self.make(finalist, starts);
            loop {
                let problem = &self.planted.problem;
                let (acceptable, default_keeps) =
                    problem.acceptable(&self.evaluations, &[finalist]);
                if acceptable.is_empty() {
                    break;
                }
                match self.primary(finalist, looks.level(starts)) {
                    _ if !default_keeps => return finalist,
                    Some(Verdict::Better) => return finalist,
                    Some(Verdict::Inconclusive) => {}
                    _ => return DEFAULTS,
                }
                match looks.next(starts) {
                    Some(next) if self.make(DEFAULTS, next) && self.make(finalist, next) => {
                        starts = next;
                    }
                    _ => return DEFAULTS,
                }
            }
        }
        DEFAULTS
    }

    fn fresh(&self, candidate: usize) -> impl Iterator<Item = &Evaluation> {
        self.evaluations[self.searched..].iter().filter(move |e| e.candidate == candidate)
    }

    /// Makes starts of a setting, up to so many; says whether there was time.
    fn make(&mut self, candidate: usize, starts: u32) -> bool {
        let Planted { problem, .. } = self.planted;
        for start in self.fresh(candidate).count() as u32..starts {
            let before_s = Problem::spent_s(&self.evaluations);
            let mut made = self.evaluations.clone();
            for load in 0..problem.loads {
                for repeat in 0..if load == 0 { JUDGED_REPEATS } else { 1 } {
                    let trial = Trial { candidate, start: 100 + start, load, repeat };
                    problem.note(&mut made, trial, &self.planted.measure(trial));
                }
            }
            let cost_s = Problem::spent_s(&made) - before_s;
            if cost_s > self.left_s && start >= JUDGED_STARTS.0 {
                return false;
            }
            self.left_s -= cost_s;
            self.evaluations = made;
        }
        true
    }

    /// The verdict on the objective, defaults against a finalist.
    fn primary(&self, candidate: usize, level: f64) -> Option<Verdict> {
        let starts = |index: usize| -> Vec<Start> {
            let start = |e: &Evaluation| Start { block: None, repeats: e.figures[0].clone() };
            self.fresh(index).map(start).collect()
        };
        let metric = metric::find(&self.planted.problem.goals[0].metric).expect("a metric");
        let question = Question {
            metric,
            load: "burst",
            before: &starts(DEFAULTS),
            after: &starts(candidate),
            lent: &self.lent,
            requests: None,
            margin_percent: metric.margin().percent,
            role: QuestionRole::Primary,
        };
        stats::judge(&[question], level)[0].verdict
    }
}

/// Settings measured whole, within the budget.
struct Tried<'a> {
    planted: &'a Planted,
    found: BTreeMap<usize, Option<Vec<f64>>>,
    left_s: f64,
    is_over: bool,
}

impl Tried<'_> {
    fn measure(&mut self, candidate: usize) {
        if self.found.contains_key(&candidate) {
            return;
        }
        self.left_s -= self.planted.cost_s(candidate);
        if self.left_s < 0.0 {
            self.is_over = true;
            return;
        }
        let problem = &self.planted.problem;
        let mut evaluations: Vec<Evaluation> = Vec::new();
        for load in 0..problem.loads {
            let trial = Trial { candidate, start: 0, load, repeat: 0 };
            problem.note(&mut evaluations, trial, &self.planted.measure(trial));
        }
        let figures = (0..problem.goals.len()).map(|goal| evaluations[0].figure(goal));
        self.found.insert(candidate, figures.collect());
    }

    fn figures(&self) -> Vec<(usize, Vec<f64>)> {
        self.found.iter().filter_map(|(index, f)| Some((*index, f.clone()?))).collect()
    }
}

/// An engine of another shape: a step costs a power of the batch and jumps where graphs end, prompts
/// stall it by chunks, API servers get slower with streams and with each other.
struct Foreign {
    step_ms: f64,
    batch_ms: f64,
    power: f64,
    graphs: f64,
    jump_ms: f64,
    prefill_us: f64,
    chunk_ms: f64,
    token_us: f64,
    streams: f64,
    servers: f64,
    sharpness: f64,
}

impl Foreign {
    fn draw(random: &mut Random) -> Self {
        let mut of =
            |low: f64, high: f64| low * libm::exp(random.uniform() * libm::log(high / low));
        Self {
            step_ms: of(4.0, 9.0),
            batch_ms: of(2.0, 15.0),
            power: of(0.8, 1.7),
            graphs: of(100.0, 600.0),
            jump_ms: of(0.5, 8.0),
            prefill_us: of(12.0, 40.0),
            chunk_ms: of(1.0, 10.0),
            token_us: of(20.0, 150.0),
            streams: of(300.0, 3000.0),
            servers: of(0.5, 0.95),
            sharpness: of(1.5, 6.0),
        }
    }

    fn step_ms(&self, batch: f64) -> f64 {
        let jump = self.jump_ms / (1.0 + libm::exp(-(batch - self.graphs) / 20.0));
        self.step_ms + self.batch_ms * libm::pow(batch / 256.0, self.power) + jump
    }

    fn given(&self, args: &Args, loads: &[Workload], goals: &[Goal]) -> Given {
        let flag =
            |name: &str, default: f64| args.get(name).and_then(ArgValue::as_f64).unwrap_or(default);
        let seqs = flag("max-num-seqs", 1024.0);
        let budget = flag("max-num-batched-tokens", 8192.0);
        let servers = libm::pow(flag("api-server-count", 1.0), self.servers);
        let class = &loads[0].spec.classes[0];
        let mean = |range: &TokenRange| f64::from(range.min + range.max) / 2.0;
        let (input, output) = (mean(&class.input_tokens), mean(&class.output_tokens));
        let Size::Requests(requests) = loads[0].spec.size else { panic!("the first is a burst") };
        let n = f64::from(requests);

        let batch = seqs.min(n);
        let decode_s = n * output / batch * self.step_ms(batch) / 1e3;
        // A larger chunk costs fewer stalls, and each a bit more.
        let chunks = n * input / budget.min(n * input);
        let prefill_s = n * input * self.prefill_us / 1e6
            + chunks * self.chunk_ms * libm::pow(budget / 2048.0, 0.6) / 1e3;
        let token_s = self.token_us / 1e6 * (1.0 + batch / self.streams);
        let front_s = n * output * token_s / servers + n * 1e-3 / servers;
        let both = |a: f64, b: f64| {
            let power = |x: f64| libm::pow(x, self.sharpness);
            libm::pow(power(a) + power(b), 1.0 / self.sharpness)
        };
        let burst_s = both(decode_s + prefill_s, front_s);
        let tpot_ms = 1.1 * burst_s * batch / (n * output) * 1e3;

        let Arrival::Poisson { requests_per_second } = &loads[1].spec.arrival else {
            panic!("the second is an open loop")
        };
        let rate = requests_per_second.to_f64();
        let busy = (rate * n.recip() * burst_s).min(0.97);
        let stall_ms = self.chunk_ms * libm::pow(budget.min(4.0 * input) / 2048.0, 0.6);
        let ttft_ms = (5.0 + input * self.prefill_us / 1e3 + stall_ms + self.step_ms(batch * busy))
            * (1.0 + 1.5 * busy / (1.0 - busy));
        let figures = |load: usize| {
            let told = goals.iter().map(|goal| {
                let value = match goal.metric.as_str() {
                    "output_tokens_per_s" => n * output / burst_s,
                    "tpot_p95_ms" => tpot_ms,
                    _ => ttft_ms,
                };
                (goal.load == load).then_some(value)
            });
            told.collect()
        };
        Given { start_s: 75.0, loads: vec![(burst_s, figures(0)), (22.0, figures(1))] }
    }
}

/// The middle of the widest gap between sorted figures not far from one of them. Layouts differ so much that the
/// next best one within a limit may be far behind: none may just keep it.
fn in_a_gap(figures: &[f64], at: usize) -> f64 {
    let near = figures.len() / 10;
    let gaps = figures.windows(2).skip(at.saturating_sub(near)).take(2 * near + 1);
    let widest = gaps.max_by(|a, b| f64::total_cmp(&(a[1] / a[0]), &(b[1] / b[0])));
    widest.map_or(f64::MAX, |gap| libm::sqrt(gap[0] * gap[1]))
}

/// The engine: every coefficient off by some 25 %, and what its kind is about.
fn perturbed(known: &Model, kind: Kind, random: &mut Random) -> Model {
    let mut model = serde_json::to_value(known).expect("a model is plain JSON");
    if let Some(cards) = model["cards"].as_object_mut() {
        let factor = libm::exp((2.0 * random.uniform() - 1.0) * core::f64::consts::LN_2);
        for name in ["all_reduce_ns", "all_reduce_token_ps"] {
            let value = cards[name].as_u64().expect("a time") as f64 * factor;
            cards[name] = (value as u64).into();
        }
    }
    for section in ["step", "front_end", "memory", "start"] {
        let coefficients = model[section].as_object_mut().expect("a model has this section");
        for (name, coefficient) in coefficients {
            let by = match (kind, section, name.as_str()) {
                // What a label says is known.
                (
                    _,
                    "memory",
                    "total_bytes" | "free_bytes" | "weights_bytes" | "kv_token_bytes",
                ) => {
                    continue;
                }
                (Kind::Interacting, "front_end", _) => 2.0,
                (Kind::QueueMisleads, "step", "host_compiled_ns" | "host_piecewise_ns") => 2.0,
                _ => 1.0,
            };
            // Counts are small and stay.
            if let Some(value) = coefficient.as_u64().filter(|value| *value >= 100) {
                let value = value as f64 * by * libm::exp(0.25 * random.normal());
                *coefficient = (value as u64).into();
            }
        }
    }
    serde_json::from_value(model).expect("it is still a model")
}

/// Flags of the layout.
const SIZES: [&str; 2] = ["tensor-parallel-size", "data-parallel-size"];

fn cards(args: &Args) -> u32 {
    let size = |flag: &&str| args.get(*flag).and_then(ArgValue::as_f64).unwrap_or(1.0);
    SIZES.iter().map(size).product::<f64>() as u32
}

fn cost(args: &Args) -> Option<Cost> {
    Some(Cost { cards: cards(args), card_dollars_per_hour: None })
}

/// What is special about the engine of a seed.
fn kind_of(seed: u64) -> Kind {
    let kinds = [Kind::Interacting, Kind::Frontier, Kind::QueueMisleads, Kind::Foreign];
    kinds[(seed % 4) as usize]
}

type Flags = Vec<(&'static str, Vec<ArgValue>)>;

/// The flags of a grid with their values, and which way each needs memory.
fn flags(kind: Kind) -> (Flags, Vec<Option<Ordering>>) {
    let ints = |values: &[i64]| values.iter().map(|value| ArgValue::Int(*value)).collect();
    let texts =
        |values: &[&str]| values.iter().map(|value| ArgValue::Text((*value).to_owned())).collect();
    if kind == Kind::Layouts {
        let flags = vec![
            (SIZES[0], ints(&[1, 2, 4])),
            (SIZES[1], ints(&[1, 2, 4])),
            ("max-num-seqs", ints(&[128, 256, 512, 1024])),
            ("max-num-batched-tokens", ints(&[2048, 8192, 16384])),
        ];
        return (flags, vec![None, None, Some(Ordering::Greater), Some(Ordering::Greater)]);
    }
    let third = match kind {
        Kind::Frontier => (
            ("gpu-memory-utilization", texts(&["0.80", "0.86", "0.92", "0.95"])),
            // Less leaves too little for the cache, more too little for the sampler.
            None,
        ),
        _ => (("api-server-count", ints(&[1, 2, 4])), None),
    };
    let flags = vec![
        ("max-num-seqs", ints(&[16, 32, 64, 96, 128, 192, 256, 384, 512, 1024])),
        ("max-num-batched-tokens", ints(&[1024, 2048, 4096, 8192, 16384])),
        third.0,
    ];
    (flags, vec![Some(Ordering::Greater), Some(Ordering::Greater), third.1])
}

/// Every combination of values, with its levels from 0 to 1.
fn grid(flags: &Flags, each: &mut dyn FnMut(Args, Vec<f64>)) {
    let count: usize = flags.iter().map(|(_, values)| values.len()).product();
    for mut number in 0..count {
        let (mut args, mut levels) = (Args::new(), Vec::new());
        for (flag, values) in flags {
            let level = number % values.len();
            number /= values.len();
            args.insert((*flag).to_owned(), values[level].clone());
            levels.push(level as f64 / (values.len() - 1) as f64);
        }
        each(args, levels);
    }
}

/// A burst for the objective, an open loop for the limit.
fn loads(kind: Kind, random: &mut Random) -> Vec<Workload> {
    // Eight cards are busy with more.
    let (requests, faster) = if kind == Kind::Layouts { (1_000, 3.0) } else { (500, 1.0) };
    let input = 64 + random.below(900) as u32;
    let output = 48 + random.below(350) as u32;
    let class = Class {
        name: "all".to_owned(),
        share: "1".parse().expect("a decimal"),
        input_tokens: TokenRange { min: input / 2, max: input * 3 / 2 },
        output_tokens: TokenRange { min: output / 2, max: output * 3 / 2 },
        prefix: None,
    };
    let rate = faster * 200.0 * (0.3 + 1.2 * random.uniform()) / f64::from(output) * 10.0;
    let arrival =
        Arrival::Poisson { requests_per_second: format!("{rate:.2}").parse().expect("a decimal") };
    let seed = random.next_u64() >> 12;
    let load = |arrival, size| LoadSpec::drawn(arrival, size, vec![class.clone()], seed).into();
    vec![
        load(Arrival::AllAtOnce {}, Size::Requests(requests)),
        load(arrival, Size::DurationMs(20_000)),
    ]
}

fn value(id: &str, measured: &Measured) -> Option<f64> {
    (metric::find(id).expect("a metric").value)(measured)
}
