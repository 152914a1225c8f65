//! Suites on an engine that no flag changes, with the noise of cards: how often one ends with a change.

use bench_core::{
    rng::Random,
    schema::{Point, Recommendation, Role},
    stats::LEVEL,
};

use super::{
    Configuration,
    choice::{self, Swept},
    comparison,
    decision::{self, Judged},
    fixture::{point, profile},
    lenders::Lenders,
};

const SUITES: u64 = 200;
/// Of [`SUITES`] so many may end with a change.
const WRONG_MAX: usize = 10;
const VALUES: i64 = 5;
const JUDGED_STARTS: usize = 3;

/// Standard deviations of logarithms: between starts, of a load within a start.
const QUIET: [f64; 2] = [0.01, 0.027];
const LOUD: [f64; 2] = [0.06, 0.027];

/// A setting's point; every setting gives the same but for noise.
fn measured(
    random: &mut Random,
    noise: [f64; 2],
    label: &str,
    args: &[(&str, i64)],
    starts: usize,
) -> Point {
    let (mut rates, mut tpots) = (Vec::new(), Vec::new());
    for _ in 0..starts {
        let slower = noise[0] * random.normal();
        rates.push(7_000.0 * libm::exp(-slower + noise[1] * random.normal()));
        tpots.push(20.0 * libm::exp(slower + noise[1] * random.normal()));
    }
    point(label, args, "burst", &[("output_tokens_per_s", &rates), ("tpot_p95_ms", &tpots)])
}

/// Sweeps of three flags, the candidate that they name, and the decision on fresh starts.
fn recommends_a_change(seed: u64, noise: [f64; 2], starts: usize) -> bool {
    let profile = profile(Some(50));
    let mut random = Random::new(seed, 0);
    let defaults =
        Point { role: Role::Default, ..measured(&mut random, noise, "default", &[], starts) };
    let sweeps: Vec<Vec<Point>> = ["max-num-seqs", "max-num-batched-tokens", "api-server-count"]
        .iter()
        .map(|flag| {
            let value = |n: i64| {
                let label = format!("{flag} {n}");
                measured(&mut random, noise, &label, &[(flag, n)], starts)
            };
            (1..=VALUES).map(value).chain([defaults.clone()]).collect()
        })
        .collect();
    let lenders = Lenders::of(sweeps.iter().flatten());
    let sweeps: Vec<Vec<Point>> = sweeps.iter().map(|points| lenders.figures(points)).collect();
    let swept: Vec<Swept<'_>> = sweeps
        .iter()
        .map(|points| Swept {
            name: "sweep",
            values: Configuration::all(points, &profile, |point| point.role == Role::Sweep),
            default: Configuration::of(points, &profile, |point| point.role == Role::Default),
            lenders: &lenders,
        })
        .collect();
    let candidates = choice::candidates(&swept, None, &profile, &|_| Ok(()));
    let Some(candidate) = candidates.first() else { return false };
    let default = measured(&mut random, noise, "default", &[], JUDGED_STARTS);
    let tuned = Point {
        args: candidate.args.clone(),
        ..measured(&mut random, noise, "tuned", &[], JUDGED_STARTS)
    };
    let lenders = lenders.and([&default, &tuned]);
    let [default, tuned] = [default, tuned].map(|point| lenders.figures(&[point]));
    let compared = comparison::any_two(&default, &tuned, Some(&profile), &lenders, LEVEL);
    let (default, tuned) = (
        Configuration::of(&default, &profile, |_| true),
        Configuration::of(&tuned, &profile, |_| true),
    );
    let judged = Judged {
        default: default.as_ref(),
        baseline: None,
        candidate: Some(candidate).zip(tuned.as_ref()),
        rows: &compared.rows,
        baseline_rows: &[],
        judges: true,
    };
    let decision = decision::decide(&profile, &judged).expect("all was measured");
    decision.recommendation == Recommendation::Change
}

#[test]
fn a_change_is_recommended_in_one_suite_of_twenty_at_most() {
    for (noise, starts) in [(QUIET, 1), (QUIET, 3), (LOUD, 1), (LOUD, 3)] {
        let wrong = (1..=SUITES).filter(|seed| recommends_a_change(*seed, noise, starts)).count();
        println!("noise {noise:?}, {starts} starts a value: {wrong} of {SUITES} suites");
        assert!(wrong <= WRONG_MAX, "{wrong} of {SUITES} with noise {noise:?}, {starts} starts");
    }
}
