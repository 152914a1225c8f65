//! Whether each flag of a candidate does something beside the others.
//!
//! The candidate is held against itself without one flag, on starts that neither chose it nor judge it
//! afterwards ([`first_start`]). A flag stays that is shown to improve the objective or that the limits need;
//! of the others one is left out, and what is left is held against itself again.

use std::{cmp::Ordering, collections::BTreeSet};

use bench_core::{
    schema::{Args, Candidate, Effect, Estimate, FlagReason, Point, Role},
    stats::LEVEL,
};

use super::{
    Configuration, choice, choice::Standing, comparison, decision, lenders::Lenders, limits, merit,
};
use profile::{Profile, flags};

/// Server starts of each setting of a test: `[choose] starts`, else as many as judge a candidate, and at
/// least two. 0: flags are not tested.
pub fn starts(profile: &Profile) -> u32 {
    profile.choose_starts.unwrap_or_else(|| choice::judged_starts(profile).max(2))
}

/// The number of a setting's first start in a test: after all those that may judge it.
pub fn first_start(profile: &Profile, args: &Args) -> u32 {
    let judged = profile.starts_max.max(choice::judged_starts(profile));
    choice::first_judged_start(profile, args) + judged
}

/// Whether the flags of a candidate are tested: a single one is judged against the defaults.
pub fn is_tested(profile: &Profile, candidate: &Candidate) -> bool {
    candidate.args.len() > 1 && starts(profile) > 0
}

/// Server starts that the test of a candidate's flags takes at least and at most, where a candidate may have
/// several flags: of the greatest one that sweeps and search can name.
pub fn planned(profile: &Profile) -> Option<(u32, u32)> {
    let swept = profile.sweeps.iter().flat_map(|sweep| &sweep.values);
    let swept = swept.flat_map(|value| value.args.keys());
    let searched = profile.tune.iter().flat_map(|tune| &tune.flags);
    let flags: BTreeSet<&String> = swept.chain(searched).collect();
    let (flags, starts) = (flags.len() as u32, starts(profile));
    let is_made = profile.stages.iter().any(|stage| stage == "comprehensive") && flags > 1;
    (is_made && starts > 0).then(|| (3 * starts, flags * (flags + 1) / 2 * starts))
}

/// Arguments without a flag.
pub fn without(args: &Args, flag: &str) -> Args {
    let others = args.iter().filter(|(other, _)| *other != flag);
    others.map(|(flag, value)| (flag.clone(), value.clone())).collect()
}

/// A candidate without one of its flags.
#[derive(Clone, Debug)]
pub struct Without {
    /// The flag.
    pub flag: String,
    /// What was measured, or why the other flags do not go together.
    pub points: Result<Vec<Point>, String>,
}

/// What a test says.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// This flag makes no difference worth having.
    Drop(FlagReason),
    /// Every flag does something.
    Keep(Vec<FlagReason>),
}

/// Decides on one test of all flags: `with` are the points of the candidate.
pub fn step(
    profile: &Profile,
    lenders: &Lenders,
    candidate: &Candidate,
    with: &[Point],
    without: &[Without],
) -> Step {
    let Some(whole) = Configuration::of(with, profile, |_| true) else {
        return Step::Keep(candidate.flags.clone());
    };
    let measured = without.iter().filter_map(|one| one.points.as_ref().ok());
    let runs = |points: &Vec<Point>| {
        Configuration::of(points, profile, |_| true).is_some_and(|one| one.is_measured())
    };
    if !whole.is_measured() && !measured.clone().any(runs) {
        return Step::Keep(candidate.flags.clone());
    }
    let mut kept = Vec::new();
    let mut idle: Vec<(Standing, f64, FlagReason)> = Vec::new();
    for one in without {
        let reason = |effect| reason(candidate, &one.flag, effect);
        let points = match &one.points {
            Ok(points) => points,
            Err(why) => {
                kept.push(reason(Effect::Needed { why: why.clone() }));
                continue;
            }
        };
        // What the other settings of the test say of how much starts differ.
        let others = measured.clone().filter(|other| *other != points).flatten();
        let lenders = lenders.and(others);
        match of_flag(profile, &lenders, &whole, with, points) {
            Found::Carries(effect) => kept.push(reason(effect)),
            Found::Idle { effect, standing, merit } => {
                idle.push((standing, merit, reason(effect)));
            }
        }
    }
    let best = |a: &(Standing, f64, _), b: &(Standing, f64, _)| -> Ordering {
        a.0.cmp(&b.0).then_with(|| b.1.total_cmp(&a.1))
    };
    match idle.into_iter().min_by(best) {
        Some((.., reason)) => Step::Drop(reason),
        None => Step::Keep(kept),
    }
}

/// What one flag does.
enum Found {
    Carries(Effect),
    /// Nothing that is shown; with what the setting is without it.
    Idle {
        effect: Effect,
        standing: Standing,
        merit: f64,
    },
}

fn of_flag(
    profile: &Profile,
    lenders: &Lenders,
    whole: &Configuration<'_>,
    with: &[Point],
    without: &[Point],
) -> Found {
    let less = Configuration::of(without, profile, |_| true).filter(Configuration::is_measured);
    let Some(less) = less else {
        let failure = without.iter().find_map(|point| point.failure.as_ref());
        let why = failure.map_or_else(|| "no valid trial".to_owned(), |failure| failure.title());
        return Found::Carries(Effect::Needed { why });
    };
    let limit =
        || Effect::Limit { limits: whole.limits.clone(), default_limits: less.limits.clone() };
    let as_role = |points: &[Point], role| -> Vec<Point> {
        points.iter().map(|point| Point { role, ..point.clone() }).collect()
    };
    let sides = [as_role(without, Role::Default), as_role(with, Role::Tuned)].concat();
    let rows = comparison::goals(&sides, lenders, profile, LEVEL);
    let primary = comparison::primary(&rows, profile);
    let change = primary.and_then(|row| row.change.clone());
    let objective = || Effect::Objective { change: change.clone().unwrap_or_default() };
    let excess = |one: &Configuration<'_>| limits::excess(&one.limits).unwrap_or(f64::INFINITY);
    let (now, before) = (choice::standing(whole), choice::standing(&less));
    // Neither keeps the limits: the flag may bring the setting nearer to them.
    let comes_nearer = now > Standing::Likely && excess(&less) > excess(whole);
    let idle = |effect| Found::Idle {
        effect,
        standing: before,
        merit: less.objective.map_or(f64::NEG_INFINITY, |value: &Estimate| merit(profile, value)),
    };
    match before.cmp(&now) {
        Ordering::Greater => Found::Carries(limit()),
        Ordering::Less => idle(limit()),
        Ordering::Equal if decision::is_better(profile, primary) => Found::Carries(objective()),
        Ordering::Equal if comes_nearer => Found::Carries(limit()),
        Ordering::Equal => idle(objective()),
    }
}

/// What a flag does beside the others, with the sweep that proposed it.
fn reason(candidate: &Candidate, flag: &str, effect: Effect) -> FlagReason {
    let proposed = candidate.flags.iter().find(|reason| reason.args.contains_key(flag));
    let own = candidate.args.iter().filter(|(other, _)| *other == flag);
    let args: Args = own.map(|(flag, value)| (flag.clone(), value.clone())).collect();
    let label = args.iter().map(|(flag, value)| flags::in_words(flag, value)).collect();
    FlagReason {
        from: proposed.map(|reason| reason.from.clone()).unwrap_or_default(),
        label,
        args,
        others: without(&candidate.args, flag),
        effect,
    }
}

/// The candidate without a flag. What is left has the reasons for which it was proposed, until it is tested
/// or, of a single flag, judged.
pub fn reduced(candidate: &Candidate, dropped: FlagReason) -> Candidate {
    let args = dropped.others.clone();
    let left = |reason: &FlagReason| {
        let own = reason.args.iter().filter(|(flag, _)| args.contains_key(*flag));
        let own: Args = own.map(|(flag, value)| (flag.clone(), value.clone())).collect();
        (!own.is_empty()).then(|| FlagReason { args: own, ..reason.clone() })
    };
    let flags = candidate.flags.iter().filter_map(left).collect();
    let dropped = candidate.dropped.iter().cloned().chain([dropped]).collect();
    Candidate { args, for_objective: candidate.for_objective, flags, dropped }
}

/// The candidate before flags were left out of it, to be judged where what is left is not known to meet the
/// limits; `None` where none was left out.
pub fn whole(candidate: &Candidate) -> Option<Candidate> {
    let first = candidate.dropped.first()?;
    let args: Args =
        first.others.iter().chain(&first.args).map(|(f, v)| (f.clone(), v.clone())).collect();
    let needed = |dropped: &FlagReason| FlagReason {
        others: without(&args, dropped.args.keys().next().map_or("", String::as_str)),
        effect: Effect::Needed { why: "judged, they are not known to meet the limits".to_owned() },
        ..dropped.clone()
    };
    let flags =
        candidate.flags.iter().cloned().chain(candidate.dropped.iter().map(needed)).collect();
    Some(Candidate { args, for_objective: false, flags, dropped: Vec::new() })
}

#[cfg(test)]
mod tests {
    use bench_core::schema::{ArgValue, FailureClass, SettingFailure};

    use super::*;
    use crate::fixture::{point, profile};

    /// A candidate of two flags that one value of a sweep set.
    fn candidate() -> Candidate {
        let args = [("max-num-seqs", 64), ("budget", 2_048)];
        let args: Args =
            args.iter().map(|(flag, n)| ((*flag).to_owned(), ArgValue::Int(*n))).collect();
        let flag = FlagReason {
            from: "queue-time".to_owned(),
            label: "both".to_owned(),
            args: args.clone(),
            others: Args::new(),
            effect: Effect::Objective { change: Estimate { mean: 30.0, ..Estimate::default() } },
        };
        Candidate { args, for_objective: true, flags: vec![flag], dropped: Vec::new() }
    }

    /// Three starts of a setting: its throughput, and its TPOT P95 in ms.
    fn measured(label: &str, rate: f64, tpot_ms: f64) -> Vec<Point> {
        let starts = |mean: f64| [mean * 0.99, mean * 1.002, mean * 1.008];
        let figures: [(&str, &[f64]); 2] =
            [("output_tokens_per_s", &starts(rate)), ("tpot_p95_ms", &starts(tpot_ms))];
        vec![point(label, &[], "burst", &figures)]
    }

    fn step_of(
        limit_ms: Option<i64>,
        whole: (f64, f64),
        without_budget: Result<Vec<Point>, String>,
        without_seqs: (f64, f64),
    ) -> Step {
        let profile = profile(limit_ms);
        let without = [
            Without { flag: "budget".to_owned(), points: without_budget },
            Without {
                flag: "max-num-seqs".to_owned(),
                points: Ok(measured("seqs", without_seqs.0, without_seqs.1)),
            },
        ];
        let with = measured("whole", whole.0, whole.1);
        step(&profile, &Lenders::default(), &candidate(), &with, &without)
    }

    fn dropped(step: &Step) -> Option<&str> {
        match step {
            Step::Drop(reason) => reason.args.keys().next().map(String::as_str),
            Step::Keep(_) => None,
        }
    }

    fn kinds(step: &Step) -> Vec<(String, &'static str)> {
        let Step::Keep(flags) = step else { return Vec::new() };
        let kind = |reason: &FlagReason| match reason.effect {
            Effect::Objective { .. } => "objective",
            Effect::Limit { .. } => "limit",
            Effect::Needed { .. } => "needed",
        };
        flags.iter().map(|reason| (reason.label.clone(), kind(reason))).collect()
    }

    #[test]
    fn a_flag_that_makes_no_difference_beside_the_others_is_dropped() {
        let same = |rate| Ok(measured("budget", rate, 10.0));
        let idle = step_of(None, (130.0, 10.0), same(130.5), (100.0, 10.0));
        assert_eq!(dropped(&idle), Some("budget"));
        let Step::Drop(reason) = idle else { unreachable!() };
        let left = reduced(&candidate(), reason);
        assert_eq!(left.args.keys().collect::<Vec<_>>(), ["max-num-seqs"]);
        assert_eq!((left.flags.len(), left.dropped.len()), (1, 1));
        assert_eq!(left.flags[0].args, left.args, "what is left has one reason");
        // Both do something: each keeps its own figure, with the other in place.
        let both = step_of(None, (130.0, 10.0), same(115.0), (100.0, 10.0));
        let expected = ["budget 2048", "max-num-seqs 64"].map(|l| (l.to_owned(), "objective"));
        assert_eq!(kinds(&both), expected);
        let Step::Keep(flags) = both else { unreachable!() };
        assert!(flags.iter().all(|reason| reason.others.len() == 1 && reason.args.len() == 1));
        // Either does what both do: the one without which the setting does best goes first.
        let either = step_of(None, (130.0, 10.0), same(131.0), (130.0, 10.0));
        assert_eq!(dropped(&either), Some("budget"));
        // What chance may do is no reason.
        assert_eq!(
            dropped(&step_of(None, (130.0, 10.0), same(129.0), (100.0, 10.0))),
            Some("budget")
        );
    }

    #[test]
    fn limits_go_first() {
        let of = |rate, tpot_ms| Ok(measured("budget", rate, tpot_ms));
        // The limit needs it, whatever it does to the objective.
        let needed = step_of(Some(20), (100.0, 10.0), of(120.0, 30.0), (150.0, 130.0));
        let expected = ["budget 2048", "max-num-seqs 64"].map(|l| (l.to_owned(), "limit"));
        assert_eq!(kinds(&needed), expected);
        // The limit is met without it, and only so.
        let harms = step_of(Some(20), (150.0, 30.0), of(100.0, 10.0), (150.0, 130.0));
        assert_eq!(dropped(&harms), Some("budget"));
        // Neither meets it, and the flag comes nearer.
        let nearer = step_of(Some(5), (100.0, 30.0), of(100.0, 60.0), (100.0, 130.0));
        assert_eq!(kinds(&nearer), expected);
    }

    #[test]
    fn a_flag_without_which_nothing_runs_stays() {
        let mut broken = measured("budget", 1.0, 1.0);
        broken[0].failure = Some(SettingFailure {
            class: FailureClass::KvCacheMemory,
            evidence: Vec::new(),
            foreseen: None,
        });
        broken[0].metrics.clear();
        for without in [Ok(broken), Err("the budget is below max-model-len".to_owned())] {
            let kept = step_of(None, (130.0, 10.0), without, (100.0, 10.0));
            assert_eq!(kinds(&kept)[0], ("budget 2048".to_owned(), "needed"));
        }
    }

    #[test]
    fn tests_are_made_on_starts_that_judge_nothing() {
        let mut profile = Profile { starts_max: 10, ..profile(None) };
        profile.stages = vec!["choose".to_owned()];
        let args = candidate().args;
        let judged = choice::first_judged_start(&profile, &args);
        assert_eq!(first_start(&profile, &args), judged + 10);
        assert_eq!(starts(&profile), 3);
        assert_eq!(starts(&Profile { starts: 1, ..profile.clone() }), 2, "one shows no spread");
        profile.choose_starts = Some(0);
        assert!(!is_tested(&profile, &candidate()));
    }

    /// What is judged where the flags that are left are not known to meet the limits.
    #[test]
    fn a_reduced_candidate_knows_the_whole() {
        let whole_of = candidate();
        assert_eq!(whole(&whole_of), None);
        let args = |flag: &str| -> Args {
            let own = whole_of.args.iter().filter(|(other, _)| *other == flag);
            own.map(|(flag, value)| (flag.clone(), value.clone())).collect()
        };
        let dropped = FlagReason {
            args: args("budget"),
            others: args("max-num-seqs"),
            ..whole_of.flags[0].clone()
        };
        let less = reduced(&whole_of, dropped);
        assert_eq!(less.args, args("max-num-seqs"));
        let again = whole(&less).expect("a flag was left out");
        assert_eq!((&again.args, again.for_objective), (&whole_of.args, false));
        assert!(matches!(again.flags.last().expect("a flag").effect, Effect::Needed { .. }));
    }
}
