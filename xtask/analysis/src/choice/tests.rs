use bench_core::schema::{ArgValue, Point};
use proptest::prelude::*;

use super::*;
use crate::fixture::{point, profile};

const RATE: &str = "output_tokens_per_s";
const TPOT: &str = "tpot_p95_ms";

/// A value with its throughput and its TPOT P95, three starts each.
fn value(label: &str, flag: &str, n: i64, rate: f64, tpot: f64) -> Point {
    let starts = |mean: f64| [mean * 0.999, mean, mean * 1.001];
    point(label, &[(flag, n)], "burst", &[(RATE, &starts(rate)), (TPOT, &starts(tpot))])
}

fn default(rate: f64, tpot: f64) -> Point {
    let mut point = value("default", "none", 0, rate, tpot);
    point.args.clear();
    point.role = bench_core::schema::Role::Default;
    point
}

/// By the starts of each value and of the defaults alone.
fn swept<'a>(name: &'a str, points: &'a [Point], profile: &Profile) -> Swept<'a> {
    swept_among(Box::leak(Box::default()), name, points, profile)
}

fn swept_among<'a>(
    lenders: &'a Lenders,
    name: &'a str,
    points: &'a [Point],
    profile: &Profile,
) -> Swept<'a> {
    let is_default = |point: &Point| point.role == bench_core::schema::Role::Default;
    Swept {
        name,
        values: Configuration::all(points, profile, |point| !is_default(point)),
        default: Configuration::of(points, profile, is_default),
        lenders,
    }
}

fn named(sweeps: &[Swept<'_>], profile: &Profile) -> Vec<Args> {
    let candidates = candidates(sweeps, None, profile, &|_| Ok(()));
    candidates.into_iter().map(|candidate| candidate.args).collect()
}

fn args(pairs: &[(&str, i64)]) -> Args {
    pairs.iter().map(|(flag, n)| ((*flag).to_owned(), ArgValue::Int(*n))).collect()
}

#[test]
fn a_value_within_the_limit_goes_before_a_faster_one_beyond() {
    let profile = profile(Some(20));
    let points = [
        value("32", "max-num-seqs", 32, 4_000.0, 10.0),
        value("128", "max-num-seqs", 128, 6_752.0, 18.8),
        value("256", "max-num-seqs", 256, 9_000.0, 40.0),
        default(6_997.0, 130.0),
    ];
    let sweeps = [swept("max-num-seqs", &points, &profile)];
    let expected = [args(&[("max-num-seqs", 128)]), args(&[("max-num-seqs", 32)])];
    assert_eq!(named(&sweeps, &profile), expected);
}

#[test]
fn where_nothing_keeps_the_limits_the_nearest_is_judged() {
    let profile = profile(Some(20));
    let seqs = [value("64", "max-num-seqs", 64, 4_000.0, 31.0), default(6_997.0, 130.0)];
    let budget = [value("2048", "budget", 2_048, 7_000.0, 90.0), default(6_997.0, 130.0)];
    let sweeps = [swept("seqs", &seqs, &profile), swept("budget", &budget, &profile)];
    let expected = [
        args(&[("budget", 2_048), ("max-num-seqs", 64)]),
        args(&[("max-num-seqs", 64)]),
        args(&[("budget", 2_048)]),
    ];
    assert_eq!(named(&sweeps, &profile), expected);
}

#[test]
fn what_may_be_chance_is_judged_alone() {
    let profile = profile(None);
    let noisy = |label: &str, rate: [f64; 3]| {
        point(label, &[(label, 1)], "burst", &[(RATE, &rate), (TPOT, &[1.0, 1.0, 1.0])])
    };
    let default = || {
        let mut default = noisy("default", [100.0, 102.0, 98.0]);
        default.args.clear();
        default.role = bench_core::schema::Role::Default;
        default
    };
    // Both means are beyond the margin; the interval of the second holds nothing.
    let sure = [noisy("sure", [150.0, 151.0, 149.0]), default()];
    let hint = [
        noisy("hint", [106.0, 104.0, 107.0]),
        noisy("b", [100.0, 101.0, 99.0]),
        noisy("c", [99.0, 100.0, 101.0]),
        default(),
    ];
    let chance = [noisy("chance", [90.0, 100.0, 120.0]), default()];
    let sweep = |name, points| swept(name, points, &profile);
    let both = [sweep("sure", &sure), sweep("hint", &hint), sweep("chance", &chance)];
    let first = candidates(&both, None, &profile, &|_| Ok(())).remove(0);
    assert_eq!(first.args, args(&[("sure", 1)]), "the others would ride along");
    assert!(first.for_objective);
    let alone = candidates(&[sweep("hint", &hint)], None, &profile, &|_| Ok(()));
    assert!(alone[0].for_objective && alone[0].args == args(&[("hint", 1)]));
    let none = candidates(&[sweep("chance", &chance)], None, &profile, &|_| Ok(()));
    assert!(none.iter().all(|candidate| !candidate.for_objective), "{none:?}");
}

/// Two starts of a value and of the defaults leave a gain of a tenth open; what else was swept says that starts differ
/// less.
#[test]
fn what_else_was_swept_says_how_much_starts_differ() {
    let profile = profile(None);
    let rate = |label: &str, rate: [f64; 2]| point(label, &[(label, 1)], "burst", &[(RATE, &rate)]);
    let default =
        Point { role: bench_core::schema::Role::Default, ..rate("default", [99.0, 101.0]) };
    let points = [rate("value", [109.0, 112.0]), default];
    let others = ["a", "b", "c"].map(|label| rate(label, [50.0, 50.6]));
    let verdict = |lenders: &Lenders| {
        let swept = swept_among(lenders, "sweep", &points, &profile);
        swept.changes(&profile)[0].1
    };
    assert_eq!(verdict(&Lenders::default()), Some(Verdict::Inconclusive));
    assert_eq!(verdict(&Lenders::of(points.iter().chain(&others))), Some(Verdict::Better));
}

#[test]
fn flags_that_do_not_go_together_are_left_out() {
    let profile = profile(None);
    let a = [value("a", "a", 1, 9_000.0, 1.0), default(6_000.0, 1.0)];
    let b = [value("b", "b", 1, 8_000.0, 1.0), default(6_000.0, 1.0)];
    let sweeps = [swept("a", &a, &profile), swept("b", &b, &profile)];
    let apart = |args: &Args| {
        if args.len() > 1 { Err("not both".to_owned()) } else { Ok(()) }
    };
    let found = candidates(&sweeps, None, &profile, &apart);
    assert_eq!(found[0].args, args(&[("a", 1)]));
    assert_eq!(named(&sweeps, &profile)[0], args(&[("a", 1), ("b", 1)]));
}

#[test]
fn other_candidates_follow_for_the_limits_alone() {
    let candidate = |for_objective| Candidate {
        args: Args::new(),
        for_objective,
        flags: vec![],
        dropped: vec![],
    };
    let list = [candidate(true), candidate(true), candidate(false)];
    let next = |default, judged: &[_]| next(default, &list, judged);
    let (met, open) = (Some(LimitState::Met), Some(LimitState::Open));
    assert_eq!(next(met, &[]), Some(0));
    assert_eq!(next(met, &[met]), None, "whatever its objective is");
    assert_eq!(next(met, &[open]), Some(1));
    assert_eq!(next(met, &[open, None]), None, "the defaults meet them");
    assert_eq!(next(open, &[open, None]), Some(2));
    assert_eq!(next(open, &[open, open, open]), None);
    assert_eq!(next(None, &[Some(LimitState::OneStart)]), None, "one start settles nothing");
}

#[test]
fn a_limit_takes_two_starts() {
    let starts = |limit, starts| judged_starts(&Profile { starts, ..profile(limit) });
    assert_eq!([1, 2, 3].map(|n| starts(Some(20), n)), [2, 2, 3]);
    assert_eq!(starts(None, 1), 1, "nothing is asked of them that one start cannot tell");
}

proptest! {
    /// Every flag of a candidate comes from one of its reasons.
    #[test]
    fn each_flag_has_its_reason(
        rates in prop::collection::vec((50.0..200.0_f64, 1.0..40.0_f64), 1..8),
        default_rate in 50.0..200.0_f64, default_tpot in 1.0..40.0_f64, limit in 1_i64..40,
    ) {
        let profile = profile(Some(limit));
        let sweeps: Vec<Vec<Point>> = rates
            .iter()
            .enumerate()
            .map(|(i, (rate, tpot))| {
                let flag = format!("flag-{}", i % 3);
                vec![value(&i.to_string(), &flag, i as i64, *rate, *tpot), default(default_rate, default_tpot)]
            })
            .collect();
        let names: Vec<String> = (0..sweeps.len()).map(|i| i.to_string()).collect();
        let sweeps: Vec<Swept<'_>> =
            names.iter().zip(&sweeps).map(|(name, points)| swept(name, points, &profile)).collect();
        let mut seen = Vec::new();
        for candidate in candidates(&sweeps, None, &profile, &|_| Ok(())) {
            let mut of_reasons = Args::new();
            candidate.flags.iter().for_each(|reason| of_reasons.extend(reason.args.clone()));
            prop_assert_eq!(&of_reasons, &candidate.args);
            prop_assert!(!candidate.args.is_empty() && !seen.contains(&candidate.args));
            seen.push(candidate.args);
        }
    }
}
