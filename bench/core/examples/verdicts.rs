//! How often verdicts are wrong, and how often they find what is there, on starts drawn from the noise of
//! cards:
//! `cargo run --release --example verdicts -- --seed 1 --comparisons 1000`.
//!
//! *Equals*: both sides are one setting; every better or worse is wrong. *Power*: one side is made
//! better by a known share. Beside each verdict stand a test that knows the variance, on the same data, and
//! the method of one burst a start, Welch's t and Holm's correction over all goals.

use bench_core::{
    metric, parallel,
    rng::Random,
    schema::Verdict,
    stats::{self, Costs, LEVEL, Looks, Question, QuestionRole, Spread, Start, student},
};

/// What the method before had for one of seven goals: half of the level, by Holm.
const LEVEL_BEFORE: f64 = LEVEL * 0.5 / 7.0;

/// A burst of 1,000 requests, with its pause.
const BURST_S: f64 = 15.0;

const GUARDRAILS: [&str; 3] = ["ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms"];

/// How a start's luck is distributed, with a standard deviation of about 1 but for the outliers.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Normal,
    /// One start in ten is so many deviations slower.
    Outliers(f64),
    /// A share of deviations is so many times as large: the tails of `bench/models`.
    Tails(f64, f64),
    /// A share of starts is in a mode so many deviations away.
    Modes(f64, f64),
}

impl Luck {
    fn draw(self, random: &mut Random) -> f64 {
        let (share, distance) = match self {
            Self::Tails(share, times) => {
                return random.normal() * if random.uniform() < share { times } else { 1.0 };
            }
            Self::Normal => (0.0, 0.0),
            Self::Outliers(distance) => (0.1, distance),
            Self::Modes(share, distance) => (share, distance),
        };
        let shift = if random.uniform() < share { distance } else { 0.0 };
        random.normal() + shift
    }

    fn mean(self) -> f64 {
        match self {
            Self::Normal | Self::Tails(..) => 0.0,
            Self::Outliers(distance) => 0.1 * distance,
            Self::Modes(share, distance) => share * distance,
        }
    }

    fn variance(self) -> f64 {
        match self {
            Self::Normal => 1.0,
            Self::Tails(share, times) => 1.0 - share + share * times * times,
            Self::Outliers(distance) => 1.0 + 0.09 * distance * distance,
            Self::Modes(share, distance) => 1.0 + share * (1.0 - share) * distance * distance,
        }
    }
}

/// How settings measured before spread.
#[derive(Clone, Copy, Debug)]
enum Others {
    Alike,
    /// Half of them as one side, half as the other.
    LikeEither,
    /// Evenly between the sides, on a scale of logarithms.
    Between,
}

/// Where comparisons are made: standard deviations of logarithms.
#[derive(Clone, Copy, Debug)]
struct World {
    between: f64,
    within: f64,
    /// Between blocks of starts.
    drift: f64,
    luck: Luck,
    /// Spreads of the two sides, as multiples of `between`.
    sides: [f64; 2],
    /// Of settings measured before.
    others: Others,
    /// How many those are, of three starts each.
    settings: u32,
}

const QUIET: World = World {
    between: 0.01,
    within: 0.027,
    drift: 0.005,
    luck: Luck::Normal,
    sides: [1.0; 2],
    others: Others::Alike,
    settings: 12,
};

/// 7 % between starts of one burst each, in all: `√(0.0634² + 0.027² + 0.012²)`.
const LOUD: World = World { between: 0.0634, drift: 0.012, ..QUIET };

impl World {
    /// A setting's starts, whose logarithms are shifted by `effect`.
    fn starts(
        &self,
        random: &mut Random,
        (spread, effect): (f64, f64),
        repeats: u32,
        drift: &[f64],
    ) -> Vec<Start> {
        let start = |(block, drift): (usize, &f64)| {
            let level = effect + drift + spread * self.between * self.luck.draw(random);
            let mut repeat = || 100.0 * (level + spread * self.within * random.normal()).exp();
            Start { block: Some(block as u32), repeats: (0..repeats).map(|_| repeat()).collect() }
        };
        drift.iter().enumerate().map(start).collect()
    }

    fn drifts(&self, random: &mut Random, blocks: u32) -> Vec<f64> {
        (0..blocks).map(|_| self.drift * random.normal()).collect()
    }

    fn lent(&self, random: &mut Random, repeats: u32, metric: &str) -> Vec<Spread> {
        let metric = metric::find(metric).expect("a metric");
        let setting = |_| {
            let drift = self.drifts(random, 3);
            let spread = match self.others {
                Others::Alike => 1.0,
                Others::LikeEither => self.sides[random.below(2) as usize],
                Others::Between => self.sides[1].powf(random.uniform()),
            };
            let starts = self.starts(random, (spread, 0.0), repeats, &drift);
            stats::spread(metric, &starts).expect("starts")
        };
        (0..self.settings).map(setting).collect()
    }

    fn ask<'a>(
        metric: &str,
        sides: &'a [Vec<Start>; 2],
        lent: &'a [Spread],
        role: QuestionRole,
    ) -> Question<'a> {
        let metric = metric::find(metric).expect("a metric");
        Question {
            metric,
            load: "burst",
            before: &sides[0],
            after: &sides[1],
            lent,
            requests: None,
            margin_percent: metric.margin().percent,
            role,
        }
    }

    fn sides(
        &self,
        random: &mut Random,
        effect: f64,
        starts: u32,
        repeats: u32,
    ) -> [Vec<Start>; 2] {
        let drift = self.drifts(random, starts);
        [(self.sides[0], 0.0), (self.sides[1], effect)]
            .map(|side| self.starts(random, side, repeats, &drift))
    }

    /// Standard error of a difference, as one who knows the world has it.
    fn standard_error(&self, starts: u32, repeats: u32) -> f64 {
        let start = self.between * self.between * self.luck.variance()
            + self.within * self.within / f64::from(repeats);
        let sides: f64 = self.sides.iter().map(|spread| spread * spread * start).sum();
        (sides / f64::from(starts)).sqrt()
    }
}

fn difference(sides: &[Vec<Start>; 2], starts: usize) -> f64 {
    let mean = |side: &[Start]| {
        let logs = side[..starts].iter().flat_map(|start| &start.repeats).map(|v| v.ln());
        logs.clone().sum::<f64>() / logs.count() as f64
    };
    mean(&sides[1]) - mean(&sides[0])
}

fn is_change(verdict: Option<Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Better | Verdict::Worse))
}

/// Of comparisons of equals: the primary question wrong, any guardrail wrong, intervals that cover, of the change
/// and of the louder side's own figure, and the known variance and the method before, wrong.
fn equals(seed: u64, world: &World, starts: u32, repeats: u32) -> [bool; 6] {
    let mut random = Random::new(seed, 1);
    let ids = ["output_tokens_per_s"].into_iter().chain(GUARDRAILS);
    let measured: Vec<_> = ids
        .map(|id| {
            let lent = world.lent(&mut random, repeats, id);
            (id, world.sides(&mut random, 0.0, starts, repeats), lent)
        })
        .collect();
    let questions: Vec<_> = measured
        .iter()
        .enumerate()
        .map(|(i, (id, sides, lent))| {
            let role = if i == 0 { QuestionRole::Primary } else { QuestionRole::Guardrail };
            World::ask(id, sides, lent, role)
        })
        .collect();
    let judged = stats::judge(&questions, LEVEL);
    let interval = judged[0].change.as_ref().expect("measured");
    let primary = &measured[0].1;
    let z = difference(primary, starts as usize) / world.standard_error(starts, repeats);
    [
        is_change(judged[0].verdict),
        judged[1..].iter().any(|guardrail| is_change(guardrail.verdict)),
        interval.low <= Some(0.0) && Some(0.0) <= interval.high,
        covers(world, &measured[0]),
        student::two_sided_p(z, f64::INFINITY) <= LEVEL,
        before(primary, starts as usize),
    ]
}

/// Whether the interval of the second side's own figure holds what its starts vary around. The first side lends, too.
fn covers(world: &World, (id, sides, lent): &(&str, [Vec<Start>; 2], Vec<Spread>)) -> bool {
    let repeats = sides[1].iter().map(|start| start.repeats.clone()).collect();
    let figure = stats::estimate_of_repeats(repeats).expect("starts");
    let metric = metric::find(id).expect("a metric");
    let mut lent = lent.clone();
    lent.extend(stats::spread(metric, &sides[0]));
    let figure = stats::borrowed(&figure, metric.is_share(), &lent);
    let truth = 100.0 * (world.sides[1] * world.between * world.luck.mean()).exp();
    figure.low <= Some(truth) && Some(truth) <= figure.high
}

/// Whether the method before calls the primary question: one burst a start, no block, no history.
fn before(sides: &[Vec<Start>; 2], starts: usize) -> bool {
    let first = sides.each_ref().map(|side| {
        side[..starts].iter().map(|start| Start::single(start.repeats[0])).collect::<Vec<_>>()
    });
    let question = World::ask("output_tokens_per_s", &first, &[], QuestionRole::Primary);
    is_change(stats::judge(&[question], LEVEL_BEFORE)[0].verdict)
}

/// How one way of deciding fared in one comparison.
#[derive(Clone, Copy, Default)]
struct Fared {
    found: bool,
    starts: u32,
}

/// Looks at a growing comparison until it is decided: the verdict, the test with known variance at the same
/// looks and levels, and the method before.
fn grow(seed: u64, world: &World, effect: f64, looks: &Looks, repeats: u32) -> [Fared; 3] {
    let mut random = Random::new(seed, 2);
    let lent = world.lent(&mut random, repeats, "output_tokens_per_s");
    let most = *looks.starts().last().expect("a look");
    let sides = world.sides(&mut random, effect, most, repeats);
    let mut fared: [Option<Fared>; 3] = [None; 3];
    for starts in looks.starts() {
        let level = looks.level(*starts);
        let n = *starts as usize;
        let so_far = sides.each_ref().map(|side| side[..n].to_vec());
        let is_last = looks.next(*starts).is_none();
        let verdict = fared[0].is_none().then(|| {
            let question = World::ask("output_tokens_per_s", &so_far, &lent, QuestionRole::Primary);
            stats::judge(&[question], level)[0].verdict
        });
        let z = difference(&sides, n) / world.standard_error(*starts, repeats);
        let known = student::two_sided_p(z, f64::INFINITY) <= level;
        let is_open = verdict == Some(Some(Verdict::Inconclusive));
        let ways = [
            (verdict == Some(Some(Verdict::Better)), !is_open),
            (known && z > 0.0, known),
            (is_last && before(&sides, n), false),
        ];
        for (fared, (found, is_decided)) in fared.iter_mut().zip(ways) {
            if fared.is_none() && (is_decided || is_last) {
                *fared = Some(Fared { found, starts: *starts });
            }
        }
    }
    fared.map(Option::unwrap_or_default)
}

struct Run {
    seed: u64,
    comparisons: u64,
}

impl Run {
    fn each<T: Send>(&self, of: impl Fn(u64) -> T + Sync) -> Vec<T> {
        let seeds: Vec<u64> =
            (0..self.comparisons).map(|i| self.seed.wrapping_mul(1_000_003) + i).collect();
        parallel::map(&seeds, |seed| of(*seed))
    }

    fn equals(&self, name: &str, world: &World, starts: u32, repeats: u32) {
        let outcomes = self.each(|seed| equals(seed, world, starts, repeats));
        let percent = |i: usize| {
            100.0 * outcomes.iter().filter(|o| o[i]).count() as f64 / outcomes.len() as f64
        };
        println!(
            "| {name} | {starts} × {repeats} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            percent(0),
            percent(1),
            percent(2),
            percent(3),
            percent(4),
            percent(5)
        );
    }

    fn power(&self, name: &str, world: &World, percent: f64, looks: &Looks, repeats: u32) {
        let effect = (percent / 100.0).ln_1p();
        let outcomes = self.each(|seed| grow(seed, world, effect, looks, repeats));
        let count = outcomes.len() as f64;
        let found =
            |way: usize| 100.0 * outcomes.iter().filter(|o| o[way].found).count() as f64 / count;
        let starts = outcomes.iter().map(|o| f64::from(o[0].starts)).sum::<f64>() / count;
        let minutes = |start_s: f64| 2.0 * starts * (start_s + f64::from(repeats) * BURST_S) / 60.0;
        println!(
            "| {name} | +{percent} % | {:?} × {repeats} | {:.1} | {:.1} | {:.1} | {starts:.1} | {:.0} | {:.0} |",
            looks.starts(),
            found(0),
            found(1),
            found(2),
            minutes(90.0),
            minutes(17.0)
        );
    }
}

fn main() {
    let mut run = Run { seed: 1, comparisons: 1000 };
    let mut settings = QUIET.settings;
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{name} lacks its value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{name} takes a number"));
        match name.as_str() {
            "--seed" => run.seed = number(),
            "--comparisons" => run.comparisons = number(),
            "--settings" => settings = number() as u32,
            _ => panic!("unknown argument {name}: --seed N --comparisons N --settings N"),
        }
    }
    let (quiet, loud) = (World { settings, ..QUIET }, World { settings, ..LOUD });
    println!(
        "seed {}, {} comparisons, {settings} other settings known\n",
        run.seed, run.comparisons
    );
    println!(
        "| Equals | starts × repeats | primary wrong % | any guardrail wrong % | intervals cover % | of one side cover % | known variance wrong % | before wrong % |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for starts in [2, 3, 5, 10] {
        run.equals("quiet", &quiet, starts, 3);
        run.equals("loud", &loud, starts, 1);
        for (name, others, settings) in [
            ("others spread like either", Others::LikeEither, settings),
            ("others between", Others::Between, settings),
            ("one other known, like either", Others::LikeEither, 1),
            ("one other known, between", Others::Between, 1),
            ("one other known, 1", Others::Alike, 1),
            ("two others known, like either", Others::LikeEither, 2),
            ("no others known", Others::Alike, 0),
            ("others all 1", Others::Alike, settings),
        ] {
            let world = World { sides: [1.0, 3.0], others, settings, ..loud };
            run.equals(&format!("spreads 1 to 3, {name}"), &world, starts, 1);
        }
        for distance in [4.0, 13.0] {
            let world = World { luck: Luck::Outliers(distance), ..quiet };
            run.equals(&format!("one start in ten {distance} spreads slower"), &world, starts, 3);
        }
        let tails = World { luck: Luck::Tails(0.1, 3.0), ..loud };
        run.equals("one start in ten three times as far off", &tails, starts, 1);
        for share in [0.5, 0.2] {
            let world = World { luck: Luck::Modes(share, 6.0), ..quiet };
            run.equals(&format!("two modes, {share} in the slower"), &world, starts, 3);
        }
    }
    println!(
        "\n| Power | effect | starts × repeats | found % | known variance % | before % | starts a side | minutes at 90 s | at 17 s |"
    );
    println!("|---|---|---|---:|---:|---:|---:|---:|---:|");
    for (name, world) in [("quiet", quiet), ("loud", loud)] {
        let variances = (world.between * world.between, world.within * world.within);
        for start_s in [90.0, 17.0] {
            let costs = Costs { start_s, repeat_s: BURST_S };
            let repeats = stats::repeats(variances.0, variances.1, costs);
            for looks in [Looks::between(3, 3), Looks::between(3, 10)] {
                for percent in [20.0, 10.0, 5.0] {
                    run.power(name, &world, percent, &looks, repeats);
                }
            }
        }
    }
}
