//! How often verdicts are wrong, and how often they find what is there:
//! `cargo run --release -p bench-core --example verdicts -- --seed 1 --comparisons 200 --starts 3,5`.
//!
//! On the simulated H100 with its noise between starts and steps. *A against A*: fresh starts of one
//! setting on both sides, all metrics of three loads judged together. *Planted*: the second side's
//! engine is made slower until a metric changes by twice the smallest change that the comparison
//! of A against A said it could see. Last, how far the tests keep their level for other spreads
//! than the simulator's.

use std::collections::BTreeMap;

use bench_core::{
    metric::{self, Direction, METRICS},
    rng::Random,
    schema::{Args, Arrival, Class, LoadSpec, Size, TokenRange, Verdict},
    sim::{self, Model},
    stats::{self, Judgement, Question, student},
    summarize::Summarizer,
    workload::Workload,
};

/// What a profile would name: its objective, limits and targets.
const GOALS: [(&str, &str); 7] = [
    ("output_tokens_per_s", "burst"),
    ("requests_per_s", "burst"),
    ("queue_share", "burst"),
    ("ttft_p95_ms", "production"),
    ("tpot_p95_ms", "production"),
    ("e2e_p95_ms", "production"),
    ("long_e2e_p95_ms", "lengths"),
];

/// Goals in which a change is planted.
const PLANTED: [(&str, &str); 2] = [GOALS[0], GOALS[5]];

/// Values of one side by metric and load, one a start.
type Values = BTreeMap<(&'static str, &'static str), Vec<f64>>;

fn class(name: &str, share: &str, input: (u32, u32), output: (u32, u32)) -> Class {
    Class {
        name: name.to_owned(),
        share: share.parse().expect("a decimal"),
        input_tokens: TokenRange { min: input.0, max: input.1 },
        output_tokens: TokenRange { min: output.0, max: output.1 },
        prefix: None,
    }
}

fn loads() -> [(&'static str, Workload); 3] {
    let rate = Arrival::Poisson { requests_per_second: "4".parse().expect("a decimal") };
    let mix = vec![
        class("short", "0.6", (64, 256), (32, 128)),
        class("medium", "0.3", (256, 1024), (128, 300)),
        class("long", "0.1", (512, 2048), (300, 600)),
    ];
    let lengths =
        vec![class("100", "1", (128, 128), (100, 100)), class("500+", "1", (128, 128), (500, 600))];
    let burst = vec![class("all", "1", (128, 384), (64, 192))];
    [
        ("burst", LoadSpec::drawn(Arrival::AllAtOnce {}, Size::Requests(1000), burst, 7).into()),
        ("production", LoadSpec::drawn(rate, Size::DurationMs(60_000), mix, 11).into()),
        (
            "lengths",
            LoadSpec::drawn(
                Arrival::ClosedLoop { concurrency: 8 },
                Size::Requests(160),
                lengths,
                13,
            )
            .into(),
        ),
    ]
}

/// So many fresh starts, each under all loads.
fn measure(model: &Model, starts: u32, next: &mut u32) -> Values {
    let mut values = Values::new();
    for _ in 0..starts {
        *next += 1;
        let server = sim::launch(model, &Args::new(), *next).expect("the defaults start");
        for (name, load) in loads() {
            let mut summarizer = Summarizer::new(&load);
            let observation = server.run(&load, &mut |s| summarizer.push(&s), &mut |_| {});
            let measured = summarizer.finish(&observation, &server.observed(), "", None);
            for metric in &METRICS {
                if let Some(value) = (metric.value)(&measured) {
                    values.entry((metric.id, name)).or_default().push(value);
                }
            }
        }
    }
    values
}

fn judge(before: &Values, after: &Values) -> BTreeMap<(&'static str, &'static str), Judgement> {
    let keys: Vec<_> = before.keys().filter(|key| after.contains_key(*key)).collect();
    let question = |key: &&(&'static str, &'static str)| {
        let metric = metric::find(key.0).expect("a metric");
        let is_goal = GOALS.contains(*key);
        let margin_percent = metric.margin().percent;
        Question { metric, before: &before[*key], after: &after[*key], margin_percent, is_goal }
    };
    let questions: Vec<_> = keys.iter().map(question).collect();
    keys.into_iter().copied().zip(stats::judge(&questions)).collect()
}

/// The model with every time of a step and of the front end longer by that share.
fn slower(model: &Model, share: f64) -> Model {
    let mut json = serde_json::to_value(model).expect("a model is JSON");
    for part in ["step", "front_end"] {
        for time in json[part].as_object_mut().expect("a table").values_mut() {
            let scaled = time.as_u64().expect("whole units") as f64 * (1.0 + share);
            *time = (scaled.round() as u64).into();
        }
    }
    serde_json::from_value(json).expect("still a model")
}

fn compare(model: &Model, starts: u32, comparisons: u32, next: &mut u32) {
    let (mut any, mut metrics, mut passed) = (0, 0, 0);
    let mut verdicts: BTreeMap<String, u32> = BTreeMap::new();
    let mut detectable = [(); PLANTED.len()].map(|()| Vec::new());
    let mut found = [0; PLANTED.len()];
    for _ in 0..comparisons {
        let before = measure(model, starts, next);
        let judged = judge(&before, &measure(model, starts, next));
        let is_change = |j: &Judgement| matches!(j.verdict, Some(Verdict::Better | Verdict::Worse));
        any += u32::from(judged.values().any(is_change));
        metrics = judged.values().filter(|judgement| judgement.verdict.is_some()).count();
        passed += u32::from(GOALS.iter().all(|goal| judged[goal].excludes_worse));
        for goal in &GOALS {
            let verdict = format!("{:?}", judged[goal].verdict.expect("goals have a way"));
            *verdicts.entry(verdict.to_lowercase()).or_default() += 1;
        }
        for (i, goal) in PLANTED.iter().enumerate() {
            let smallest = judged[goal].detectable.expect("starts differ");
            detectable[i].push(smallest);
            let after = measure(&slower(model, slowdown(goal.0, 2.0 * smallest)), starts, next);
            let verdict = judge(&before, &after)[goal].verdict;
            found[i] += u32::from(verdict == Some(Verdict::Worse));
        }
    }
    println!("{starts} and {starts} starts, {comparisons} comparisons, {metrics} metrics each");
    let percent = |n: u32| 100.0 * f64::from(n) / f64::from(comparisons);
    println!("  A against A: better or worse in any metric: {any} ({:.1} %)", percent(any));
    println!("    verdicts on the {} goals: {verdicts:?}; the gate passes {passed}", GOALS.len());
    for (i, (metric, load)) in PLANTED.iter().enumerate() {
        detectable[i].sort_by(f64::total_cmp);
        let median = detectable[i][detectable[i].len() / 2];
        println!(
            "  planted in {metric} on {load}, twice what is detectable (median {median:.1} %): \
             found {} ({:.1} %)",
            found[i],
            percent(found[i])
        );
    }
}

/// By how much times must grow for the metric to be worse by that many percent.
fn slowdown(metric: &str, percent: f64) -> f64 {
    match metric::find(metric).expect("a metric").direction {
        Direction::Higher => 1.0 / (1.0 - (percent / 100.0).min(0.9)) - 1.0,
        _ => percent / 100.0,
    }
}

type Draw = fn(&mut Random) -> f64;

/// Rejections of equals at each level, as multiples of it: with whole degrees of freedom by Welch
/// and Satterthwaite as verdicts use them, and with a pooled variance.
fn levels(random: &mut Random) {
    const LEVELS: [f64; 3] = [0.05, 0.005, 0.0005];
    const DRAWS: u32 = 400_000;
    let outliers: Draw = |random| {
        let outlier = if random.uniform() < 0.1 { 4.0 } else { 0.0 };
        outlier + 0.3 * random.normal()
    };
    let kinds: [(&str, Draw, f64); 5] = [
        ("normal, equal spread", Random::normal, 1.0),
        ("normal, 1 to 3", Random::normal, 3.0),
        ("normal, 1 to 10", Random::normal, 10.0),
        ("exponential", Random::exponential, 1.0),
        ("10 % outliers", outliers, 1.0),
    ];
    println!("\nrejections of equals over the nominal level, at {LEVELS:?}");
    for starts in [3, 5] {
        for (name, draw, ratio) in &kinds {
            let mut rejected = [[0_u32; 3]; 2];
            for _ in 0..DRAWS {
                let mean = if *name == "exponential" { 1.0 } else { 0.0 };
                let mut side = |scale: f64| -> (f64, f64) {
                    let values: Vec<f64> =
                        (0..starts).map(|_| scale * (draw(random) - mean)).collect();
                    let mean = values.iter().sum::<f64>() / f64::from(starts);
                    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
                    (mean, squares / f64::from(starts - 1) / f64::from(starts))
                };
                let ((a, v), (b, w)) = (side(1.0), side(*ratio));
                let t = (a - b) / (v + w).sqrt();
                let welch = (v + w) * (v + w) / (v * v + w * w) * f64::from(starts - 1);
                for (i, freedom) in [welch as u32, 2 * starts - 2].into_iter().enumerate() {
                    let p = student::two_sided_p(t, freedom);
                    for (count, level) in rejected[i].iter_mut().zip(LEVELS) {
                        *count += u32::from(p <= level);
                    }
                }
            }
            let shown = rejected.map(|counts| {
                let over = counts.iter().zip(LEVELS);
                let over = over.map(|(n, level)| f64::from(*n) / f64::from(DRAWS) / level);
                over.map(|over| format!("{over:.2}")).collect::<Vec<_>>().join(" / ")
            });
            println!("  {starts} and {starts}, {name:<22} used {}   pooled {}", shown[0], shown[1]);
        }
    }
}

/// How often 95 % percentile intervals of resampled starts miss no change.
fn bootstrap(random: &mut Random) {
    const DRAWS: u32 = 10_000;
    const RESAMPLES: usize = 1_000;
    for starts in [3_u32, 5, 10] {
        let mut missed = 0;
        for _ in 0..DRAWS {
            let sides = [(); 2].map(|()| (0..starts).map(|_| random.normal()).collect::<Vec<_>>());
            let mut resampled = |side: &[f64]| -> f64 {
                (0..starts).map(|_| side[random.below(u64::from(starts)) as usize]).sum()
            };
            let mut differences: Vec<f64> =
                (0..RESAMPLES).map(|_| resampled(&sides[0]) - resampled(&sides[1])).collect();
            differences.sort_by(f64::total_cmp);
            let (low, high) =
                (differences[RESAMPLES / 40], differences[RESAMPLES - RESAMPLES / 40]);
            missed += u32::from(low > 0.0 || high < 0.0);
        }
        let percent = 100.0 * f64::from(missed) / f64::from(DRAWS);
        println!("  {starts} and {starts}, percentile bootstrap misses {percent:.1} % (nominal 5)");
    }
}

fn main() {
    let (mut seed, mut comparisons, mut starts) = (1_u32, 200, vec![3, 5]);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{name} lacks its value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{name} takes a number"));
        match name.as_str() {
            "--seed" => seed = number(),
            "--comparisons" => comparisons = number(),
            "--starts" => {
                let list = value.split(',').map(|n| n.parse().expect("numbers, as in 3,5"));
                starts = list.collect();
            }
            _ => panic!("unknown argument {name}: --seed N --comparisons N --starts N,N"),
        }
    }
    let model: Model = serde_json::from_str(include_str!("../../models/h100-qwen2.5-7b.json"))
        .expect("the model file is one");
    println!(
        "seed {seed}; simulated {}, {} ppm between starts, {} ppm between steps",
        model.title, model.noise.start_ppm, model.noise.step_ppm
    );
    // Starts of one setting are told apart by their number alone.
    let mut next = seed.wrapping_mul(1_000_000);
    for starts in starts {
        compare(&model, starts, comparisons, &mut next);
    }
    let mut random = Random::new(seed.into(), 0);
    levels(&mut random);
    bootstrap(&mut random);
}
