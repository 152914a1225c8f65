//! `tune` on engines whose best setting is known by trying them all:
//! `cargo run --release -p bench-core --example planted -- SEED...` (1 to 20 without any).
//!
//! Each seed draws a simulated engine, a workload, a grid of three flags and a limit. The search is
//! given the model that the engine was drawn around, never the engine's own, and every start is off
//! by some 1 %. Beside it, with the engine time that it took: one flag at a time (over and over,
//! from the defaults), and random settings. Each is judged by what its choice truly gives, without
//! noise; a choice that breaks the limit gives nothing. Exits with 1 when `tune` misses the best by
//! more than 2 %, or takes more than a third of the grid's engine time, on more than one engine of
//! ten.

use std::{cmp::Ordering, collections::BTreeMap, env, process::ExitCode};

use bench_core::{
    metric, parallel,
    rng::Random,
    schema::{
        ArgValue, Args, Arrival, Class, LoadSpec, Measured, Outcome, SettingFailure, Size,
        TokenRange,
    },
    search::{Candidate, DEFAULTS, Evaluation, Goal, Problem, Step, Want, predict},
    sim::{Model, predict::simulate},
    workload::Workload,
};

/// Share of the grid's engine time that `tune` may take.
const BUDGET_SHARE: f64 = 1.0 / 3.0;
/// A choice within this share of the best is good enough.
const GOOD: f64 = 0.98;
const CONFIRM_STARTS: u32 = 2;
/// Standard deviation of what a start is off by.
const START_NOISE: f64 = 0.01;

/// What is special about an engine.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Flags that help only together: batches, token budget, front ends.
    Interacting,
    /// Little memory: part of the grid does not start.
    Frontier,
    /// Batches beyond the captured graphs are so slow that a shorter queue means less throughput.
    QueueMisleads,
}

/// An engine, what is asked of it, and what is known of it.
struct Planted {
    kind: Kind,
    problem: Problem,
    args: Vec<Args>,
    /// What each setting truly gives, without noise.
    truth: Vec<Result<(f64, Vec<Measured>), SettingFailure>>,
    /// The same with the seeds of the confirmation, made when asked for.
    model: Model,
    fresh: Vec<Workload>,
    seed: u64,
}

fn main() -> ExitCode {
    let given: Vec<u64> =
        env::args().skip(1).map(|seed| seed.parse().expect("a seed is a number")).collect();
    let seeds = if given.is_empty() { (1..=20).collect() } else { given };
    println!(
        "{:>6}  {:<13}  {:>9}  {:>8}  {:>9}  {:>6}  {:>6}  {:>6}  {:>10}  {:>6}",
        "seed",
        "engine",
        "good of",
        "defaults",
        "min queue",
        "tune",
        "time",
        "starts",
        "one a time",
        "random"
    );
    let scores: Vec<[bool; 3]> = parallel::map(&seeds, |seed| judge(*seed));
    let count = |way: usize| scores.iter().filter(|score| score[way]).count();
    println!(
        "within 2 % of the best in a third of the grid's engine time: tune {}, one flag at a time \
         {}, random {}, of {}",
        count(0),
        count(1),
        count(2),
        scores.len()
    );
    if count(0) * 10 >= scores.len() * 9 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Searches one engine in the three ways, prints a line, and says which of them did well.
fn judge(seed: u64) -> [bool; 3] {
    let planted = Planted::draw(seed);
    let grid_s: f64 = (1..planted.args.len()).map(|index| planted.cost_s(index)).sum();
    let (chosen, spent_s, starts) = planted.tune();
    let (tune, one, random) = (
        planted.share_of_best(chosen),
        planted.share_of_best(planted.one_flag_at_a_time(spent_s)),
        planted.share_of_best(planted.random(spent_s)),
    );
    let good = (1..planted.args.len()).filter(|i| planted.share_of_best(*i) >= GOOD).count();
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    println!(
        "{seed:>6}  {:<13}  {:>9}  {:>8}  {:>9}  {:>6}  {:>6}  {starts:>6}  {:>10}  {:>6}",
        format!("{:?}", planted.kind),
        format!("{good} of {}", planted.args.len() - 1),
        percent(planted.share_of_best(DEFAULTS)),
        percent(planted.share_of_best(planted.least_queue())),
        percent(tune),
        percent(spent_s / grid_s),
        percent(one),
        percent(random),
    );
    [tune >= GOOD && spent_s <= BUDGET_SHARE * grid_s, one >= GOOD, random >= GOOD]
}

impl Planted {
    fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let kind = [Kind::Interacting, Kind::Frontier, Kind::QueueMisleads][(seed % 3) as usize];
        let mut known: Model =
            serde_json::from_str(include_str!("../../models/h100-qwen2.5-7b.json"))
                .expect("the model file is one");
        (known.noise.start_ppm, known.noise.step_ppm) = (0, 0);
        if matches!(kind, Kind::Frontier) {
            // A card of 24 GB, as its label says.
            (known.memory.total_bytes, known.memory.free_bytes) = (25_300_000_000, 25_000_000_000);
        }
        let model = perturbed(&known, kind, &mut random);
        let (flags, memory) = flags(kind);
        let loads = loads(&mut random);
        let fresh = loads.iter().map(reseeded).collect();

        let mut args = vec![Args::new()];
        let mut levels = vec![None];
        grid(&flags, &mut |setting, at| {
            args.push(setting);
            levels.push(Some(at));
        });
        let base = Args::from([("max-model-len".to_owned(), ArgValue::Int(4096))]);
        args.iter_mut().for_each(|args| args.extend(base.clone()));
        let truth: Vec<_> = args.iter().map(|args| simulate(&model, args, 0, &loads)).collect();

        // A limit that a random part of the grid keeps: on the time to a token while the batch is
        // full, or on the wait for the first at a steady rate.
        let (limited, load) = [("tpot_p95_ms", 0), ("ttft_p95_ms", 1)][random.below(2) as usize];
        let mut figures: Vec<f64> =
            truth.iter().flatten().filter_map(|(_, m)| value(limited, &m[load])).collect();
        figures.sort_by(f64::total_cmp);
        let kept = 0.2 + 0.7 * random.uniform();
        // Not at the edge, where luck decides whether it is kept.
        let limit = figures[(kept * figures.len() as f64) as usize] * 1.03;
        let goal = |metric: &str, load, want| Goal { metric: metric.to_owned(), load, want };
        let goals = vec![
            goal("output_tokens_per_s", 0, Want::Most),
            goal(limited, load, Want::AtMost(limit)),
        ];
        let candidates = args
            .iter()
            .zip(levels)
            .map(|(args, levels)| Candidate {
                levels,
                predicted: predict(&known, args, &loads, &goals),
            })
            .collect();
        let problem = Problem {
            memory,
            candidates,
            goals,
            loads: loads.len(),
            budget_s: 0.0,
            confirm_starts: CONFIRM_STARTS,
            seed,
        };
        let mut planted = Self { kind, problem, args, truth, model, fresh, seed };
        let grid_s: f64 = (1..planted.args.len()).map(|index| planted.cost_s(index)).sum();
        planted.problem.budget_s = BUDGET_SHARE * grid_s;
        planted
    }

    /// What a load on a start of a setting is measured to be: the truth, off by the start's luck.
    fn measure(&self, index: usize, load: usize, start: u32) -> Outcome {
        match &self.truth[index] {
            Err(failure) => Outcome::Refused(failure.clone()),
            Ok((start_s, measured)) => self.noisy(index, *start_s, &measured[load], start),
        }
    }

    fn noisy(&self, index: usize, start_s: f64, measured: &Measured, start: u32) -> Outcome {
        let mut random = Random::new(self.seed, 1000 + 100 * index as u64 + u64::from(start));
        let slower = libm::exp(START_NOISE * random.normal());
        let mut measured = measured.clone();
        let summary = &mut measured.summary;
        summary.output_tokens_per_s /= slower;
        summary.requests_per_s /= slower;
        summary.duration_s *= slower;
        summary.ttft.p95_ms *= slower;
        summary.tpot.p95_ms *= slower;
        measured.observed.start_s = Some(start_s * libm::exp(0.05 * random.normal()));
        Outcome::Measured(measured)
    }

    /// The search, then the confirmation: the choice, its engine time, its starts.
    fn tune(&self) -> (usize, f64, usize) {
        let mut evaluations = Vec::new();
        let finalists = loop {
            match self.problem.next(&evaluations) {
                Step::Measure { candidate, load } => {
                    let outcome = self.measure(candidate, load, 0);
                    self.problem.note(&mut evaluations, candidate, &outcome);
                }
                Step::Confirm { candidates, .. } => break candidates,
            }
        };
        let mut spent_s = Problem::spent_s(&evaluations);
        let mut confirmed: Vec<(usize, Vec<f64>)> = Vec::new();
        for index in finalists.iter().copied() {
            let (_, truth) = simulate(&self.model, &self.args[index], 0, &self.fresh)
                .unwrap_or_else(|_| panic!("a finalist has started"));
            let start_s = self.truth[index].as_ref().map_or(0.0, |(start_s, _)| *start_s);
            let mut means = vec![0.0; self.problem.goals.len()];
            for start in 1..=CONFIRM_STARTS {
                spent_s += start_s;
                for (load, measured) in truth.iter().enumerate() {
                    let Outcome::Measured(found) = self.noisy(index, start_s, measured, start)
                    else {
                        continue;
                    };
                    spent_s += found.summary.duration_s;
                    for (mean, goal) in means.iter_mut().zip(&self.problem.goals) {
                        *mean += goal.figure(load, &found).unwrap_or_default()
                            / f64::from(CONFIRM_STARTS);
                    }
                }
            }
            confirmed.push((index, means));
        }
        let starts = evaluations.len() + finalists.len() * CONFIRM_STARTS as usize;
        (self.best_of(&confirmed), spent_s, starts)
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

    /// What a setting truly gives, of the best that the grid gives within the limits; nothing
    /// where it breaks a limit or does not run.
    fn share_of_best(&self, index: usize) -> f64 {
        let objective = |index: usize| {
            let (_, measured) = self.truth[index].as_ref().ok()?;
            let goals = &self.problem.goals;
            let figure = |goal: &Goal| goal.figure(goal.load, &measured[goal.load]);
            // What a start is off by blurs every limit.
            let kept = |goal: &Goal| Some(goal.want.score(figure(goal)?) >= -START_NOISE);
            goals[1..].iter().all(|goal| kept(goal) == Some(true)).then(|| figure(&goals[0]))?
        };
        let best = (0..self.args.len()).filter_map(objective).fold(0.0, f64::max);
        objective(index).unwrap_or_default() / best
    }

    /// The setting of the least queue share: what one would choose who looks at the queue alone.
    fn least_queue(&self) -> usize {
        let share = |index: &usize| {
            let (_, measured) = self.truth[*index].as_ref().ok()?;
            value("queue_share", &measured[0])
        };
        let settings = (0..self.args.len()).filter(|index| share(index).is_some());
        settings
            .min_by(|a, b| share(a).partial_cmp(&share(b)).unwrap_or(Ordering::Equal))
            .unwrap_or(DEFAULTS)
    }

    /// Engine time of a setting with all loads.
    fn cost_s(&self, index: usize) -> f64 {
        match &self.truth[index] {
            Ok((start_s, m)) => start_s + m.iter().map(|m| m.summary.duration_s).sum::<f64>(),
            // It fails at the end of a start.
            Err(_) => self.truth.iter().flatten().map(|(start_s, _)| *start_s).fold(0.0, f64::max),
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

/// Settings measured whole, within the budget.
struct Tried<'a> {
    planted: &'a Planted,
    found: BTreeMap<usize, Option<Vec<f64>>>,
    left_s: f64,
    is_over: bool,
}

impl Tried<'_> {
    fn measure(&mut self, index: usize) {
        if self.found.contains_key(&index) {
            return;
        }
        self.left_s -= self.planted.cost_s(index);
        if self.left_s < 0.0 {
            self.is_over = true;
            return;
        }
        let problem = &self.planted.problem;
        let mut evaluations: Vec<Evaluation> = Vec::new();
        for load in 0..problem.loads {
            problem.note(&mut evaluations, index, &self.planted.measure(index, load, 0));
        }
        self.found.insert(index, evaluations[0].figures.iter().copied().collect());
    }

    fn figures(&self) -> Vec<(usize, Vec<f64>)> {
        self.found.iter().filter_map(|(index, f)| Some((*index, f.clone()?))).collect()
    }
}

/// The engine: every coefficient off by some 25 %, and what its kind is about.
fn perturbed(known: &Model, kind: Kind, random: &mut Random) -> Model {
    let mut model = serde_json::to_value(known).expect("a model is plain JSON");
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

type Flags = Vec<(&'static str, Vec<ArgValue>)>;

/// The flags of a grid with their values, and which way each needs memory.
fn flags(kind: Kind) -> (Flags, Vec<Option<Ordering>>) {
    let ints = |values: &[i64]| values.iter().map(|value| ArgValue::Int(*value)).collect();
    let texts =
        |values: &[&str]| values.iter().map(|value| ArgValue::Text((*value).to_owned())).collect();
    let third = match kind {
        Kind::Frontier => (
            ("gpu-memory-utilization", texts(&["0.80", "0.86", "0.92", "0.95"])),
            // Less leaves too little for the cache, more too little for the sampler.
            None,
        ),
        Kind::Interacting | Kind::QueueMisleads => (("api-server-count", ints(&[1, 2, 4])), None),
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
fn loads(random: &mut Random) -> Vec<Workload> {
    let input = 64 + random.below(900) as u32;
    let output = 48 + random.below(350) as u32;
    let class = Class {
        name: "all".to_owned(),
        share: "1".parse().expect("a decimal"),
        input_tokens: TokenRange { min: input / 2, max: input * 3 / 2 },
        output_tokens: TokenRange { min: output / 2, max: output * 3 / 2 },
        prefix: None,
    };
    let rate = 200.0 * (0.3 + 1.2 * random.uniform()) / f64::from(output) * 10.0;
    let arrival =
        Arrival::Poisson { requests_per_second: format!("{rate:.2}").parse().expect("a decimal") };
    let seed = random.next_u64() >> 12;
    let load = |arrival, size| LoadSpec::drawn(arrival, size, vec![class.clone()], seed).into();
    vec![load(Arrival::AllAtOnce {}, Size::Requests(500)), load(arrival, Size::DurationMs(20_000))]
}

fn reseeded(load: &Workload) -> Workload {
    LoadSpec { seed: load.spec.seed + 1, ..load.spec.clone() }.into()
}

fn value(id: &str, measured: &Measured) -> Option<f64> {
    (metric::find(id).expect("a metric").value)(measured)
}
