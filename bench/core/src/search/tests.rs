use std::cmp::Ordering;

use libm::exp;
use proptest::prelude::*;

use super::*;
use crate::{
    schema::{Args, FailureClass, Outcome, SettingFailure},
    sim::{Model, predict::simulate},
};

const SIDE: usize = 7;
const START_S: f64 = 60.0;
const LOAD_S: f64 = 20.0;

/// What each setting of a grid of two flags gives: objective, a latency, or no start.
type Surface = dyn Fn(f64, f64) -> Option<[f64; 2]>;

/// A grid of two flags, with a limit of 1 on the latency of the second load.
fn problem(predicted: &Surface, budget_s: f64) -> Problem {
    let levels = |i: usize| i as f64 / (SIDE - 1) as f64;
    let places = (0..SIDE * SIDE).map(|i| Some(vec![levels(i % SIDE), levels(i / SIDE)]));
    let candidate = |levels: Option<Vec<f64>>| {
        let at = levels.as_deref().unwrap_or(&[0.5, 0.5]);
        let predicted = match predicted(at[0], at[1]) {
            Some(figures) => Predicted::Runs {
                figures: figures.map(Some).into(),
                start_s: START_S,
                loads_s: 2.0 * LOAD_S,
                within: None,
            },
            None => Predicted::Refused,
        };
        Candidate { levels, layout: 0, predicted }
    };
    let goal = |load, want| Goal { metric: String::new(), load, want };
    Problem {
        memory: vec![Some(Ordering::Greater); 2],
        candidates: std::iter::once(None).chain(places).map(candidate).collect(),
        goals: vec![goal(0, Want::Most), goal(1, Want::AtMost(1.0))],
        loads: 2,
        budget_s,
        confirm_starts: 2,
        seed: 1,
    }
}

/// Searches a surface to the end.
fn search(problem: &Problem, truth: &Surface) -> (Vec<Evaluation>, Vec<usize>, Over) {
    let mut evaluations: Vec<Evaluation> = Vec::new();
    loop {
        let trial = match problem.next(&evaluations) {
            Step::Measure(trial) => trial,
            Step::Confirm { candidates, reason } => return (evaluations, candidates, reason),
        };
        let levels = problem.candidates[trial.candidate].levels.as_deref().unwrap_or(&[0.5, 0.5]);
        let seen = match truth(levels[0], levels[1]) {
            None => Seen::Refused { memory: true, foreseen: false },
            Some(figures) => {
                let told = (0..2).map(|goal| (goal == trial.load).then_some(figures[goal]));
                let figures = Some(told.collect());
                Seen::Served { start_s: START_S, duration_s: LOAD_S, figures }
            }
        };
        problem.note(&mut evaluations, trial, &seen);
        let last = evaluations.last().expect("one was noted");
        assert_eq!((last.candidate, last.start), (trial.candidate, trial.start));
    }
}

/// A ridge along which both flags must rise together, with a limit beyond it.
fn ridge(x: f64, y: f64) -> Option<[f64; 2]> {
    let (along, across) = ((x + y) / 2.0, x - y);
    Some([1000.0 * exp(along - 4.0 * across * across), 0.47 + 0.6 * along])
}

fn best(problem: &Problem, truth: &Surface) -> f64 {
    let at = problem.candidates[1..].iter().filter_map(|candidate| candidate.levels.as_deref());
    let feasible = at.filter_map(|at| truth(at[0], at[1])).filter(|figures| figures[1] <= 1.0);
    feasible.map(|figures| figures[0]).fold(0.0, f64::max)
}

fn of(problem: &Problem, candidate: usize, truth: &Surface) -> f64 {
    let levels = problem.candidates[candidate].levels.as_deref().unwrap_or(&[0.5, 0.5]);
    truth(levels[0], levels[1]).expect("it runs")[0]
}

const WHOLE_S: f64 = START_S + 2.0 * LOAD_S;

#[test]
fn a_ridge_is_climbed_with_a_prediction_that_is_off_and_with_none() {
    let off = |x: f64, y: f64| ridge(x, y).map(|[a, b]| [0.6 * a * exp(0.3 * x), b * 1.2]);
    let problem = problem(&off, 20.0 * WHOLE_S);
    let (evaluations, finalists, _) = search(&problem, &ridge);
    assert!(of(&problem, finalists[0], &ridge) > 0.98 * best(&problem, &ridge));
    assert_eq!(finalists.last(), Some(&DEFAULTS));
    assert!(evaluations.len() < 20, "{} of 49", evaluations.len());

    let mut blind = problem;
    blind.candidates.iter_mut().for_each(|candidate| candidate.predicted = Predicted::Unknown);
    blind.budget_s = 36.0 * WHOLE_S;
    let (_, finalists, _) = search(&blind, &ridge);
    assert!(of(&blind, finalists[0], &ridge) > 0.98 * best(&blind, &ridge));
}

#[test]
fn nothing_beyond_a_failure_for_want_of_memory_is_tried() {
    let truth = |x: f64, y: f64| ridge(x, y).filter(|_| x + y < 0.9);
    let problem = problem(&ridge, 40.0 * WHOLE_S);
    let (evaluations, finalists, _) = search(&problem, &truth);
    let mut failed: Vec<&[f64]> = Vec::new();
    for evaluation in &evaluations {
        let Some(levels) = problem.candidates[evaluation.candidate].levels.as_deref() else {
            continue;
        };
        assert!(failed.iter().all(|f| levels[0] < f[0] || levels[1] < f[1]), "{levels:?}");
        if evaluation.failure.is_some() {
            failed.push(levels);
        }
    }
    assert!(!failed.is_empty(), "the prediction said that it runs");
    assert!(of(&problem, finalists[0], &truth) > 0.98 * best(&problem, &truth));
}

fn trial(candidate: usize, load: usize) -> Trial {
    Trial { candidate, start: 0, load, repeat: 0 }
}

/// What a load tells of its goal.
fn served(load: usize, figure: f64) -> Seen {
    let figures = Some((0..2).map(|goal| (goal == load).then_some(figure)).collect());
    Seen::Served { start_s: START_S, duration_s: LOAD_S, figures }
}

#[test]
fn a_setting_far_behind_gets_no_other_load() {
    let problem = problem(&ridge, 1e6);
    let mut defaults = Vec::new();
    problem.note(&mut defaults, trial(DEFAULTS, 0), &served(0, 1000.0));
    assert_eq!(problem.next(&defaults), Step::Measure(trial(DEFAULTS, 1)), "whatever it gave");
    problem.note(&mut defaults, trial(DEFAULTS, 1), &served(1, 0.5));
    let goes_on = |figure| {
        let mut evaluations = defaults.clone();
        problem.note(&mut evaluations, trial(3, 0), &served(0, figure));
        problem.next(&evaluations) == Step::Measure(trial(3, 1))
    };
    assert!(goes_on(990.0), "a start may be off by as much");
    assert!(!goes_on(850.0));
}

#[test]
fn what_may_be_the_best_is_measured_again() {
    // All settings are alike, but for noise.
    let flat = |_: f64, _: f64| Some([1000.0, 0.5]);
    let problem = problem(&flat, 40.0 * WHOLE_S);
    let mut evaluations: Vec<Evaluation> = Vec::new();
    let mut random = crate::rng::Random::new(3, 0);
    while let Step::Measure(trial) = problem.next(&evaluations) {
        let off = exp(0.03 * random.normal());
        let figure = if trial.load == 0 { 1000.0 * off } else { 0.5 };
        problem.note(&mut evaluations, trial, &served(trial.load, figure));
    }
    let again = evaluations.iter().filter(|evaluation| evaluation.start > 0).count();
    assert!(again > 2, "{again} of {} starts", evaluations.len());
    assert!(evaluations.iter().any(|evaluation| evaluation.served[0] > 1));
    assert!(evaluations.iter().all(|evaluation| evaluation.start < STARTS_MAX));
}

#[test]
fn a_model_that_is_wrong_about_one_value_is_left_behind() {
    // The best column is predicted to be a quarter worse than it is.
    let truth = |x: f64, y: f64| Some([1000.0 * exp(-(x - 0.5) * (x - 0.5) - 0.2 * y), 0.5]);
    let told =
        move |x: f64, y: f64| truth(x, y).map(|[a, b]| [if x == 0.5 { 0.75 * a } else { a }, b]);
    let problem = problem(&told, 30.0 * WHOLE_S);
    let (_, finalists, _) = search(&problem, &truth);
    assert!(of(&problem, finalists[0], &truth) > 0.99 * best(&problem, &truth));
}

#[test]
fn limits_are_weighed_by_what_the_defaults_do() {
    let problem = problem(&ridge, 1e6);
    let acceptable = |default_ms: f64, ms: [f64; 3]| {
        let mut evaluations = Vec::new();
        let trials = [(DEFAULTS, [default_ms; 3]), (3, ms)];
        for (candidate, ms) in trials {
            for (start, ms) in (0..).zip(ms) {
                for load in 0..2 {
                    let figure = if load == 0 { 1000.0 } else { ms };
                    let trial = Trial { candidate, start, load, repeat: 0 };
                    problem.note(&mut evaluations, trial, &served(load, figure));
                }
            }
        }
        problem.acceptable(&evaluations, &[3])
    };
    assert_eq!(acceptable(0.5, [0.8, 0.81, 0.79]), (vec![3], true));
    assert_eq!(acceptable(0.5, [1.3, 1.31, 1.29]), (vec![], true));
    assert_eq!(acceptable(0.5, [0.9, 1.08, 0.98]), (vec![], true), "it may break the limit");
    assert_eq!(acceptable(2.0, [0.9, 1.06, 0.94]), (vec![3], false), "the defaults do");
}

#[test]
fn a_refusal_costs_a_start_unless_it_was_foreseen() {
    let problem = problem(&ridge, 1e6);
    let refused = |foreseen: Option<&str>| {
        Outcome::Refused(SettingFailure {
            class: FailureClass::SamplerWarmUp,
            evidence: Vec::new(),
            foreseen: foreseen.map(str::to_owned),
        })
    };
    let model: Model = serde_json::from_str(include_str!("../../../models/tiny.json"))
        .expect("the model file is one");
    let mut evaluations = Vec::new();
    let load = crate::schema::LoadSpec::drawn(
        crate::schema::Arrival::AllAtOnce {},
        crate::schema::Size::Requests(3),
        vec![crate::schema::Class {
            name: "all".to_owned(),
            share: "1".parse().expect("a decimal"),
            input_tokens: crate::schema::TokenRange { min: 4, max: 8 },
            output_tokens: crate::schema::TokenRange { min: 4, max: 8 },
            prefix: None,
        }],
        1,
    );
    let (start_s, mut measured) =
        simulate(&model, &Args::new(), 0, &[load.into()]).expect("it starts");
    let duration_s = measured[0].summary.duration_s;
    let note = |evaluations: &mut Vec<Evaluation>, candidate, outcome: &Outcome| {
        problem.note(evaluations, trial(candidate, 0), &problem.seen(0, outcome));
    };
    note(&mut evaluations, DEFAULTS, &Outcome::Measured(measured.remove(0)));
    assert_eq!(evaluations[0].cost_s, start_s + duration_s);
    note(&mut evaluations, 1, &refused(None));
    assert_eq!((evaluations[1].failure, evaluations[1].cost_s), (Some(Failure::Memory), start_s));
    note(&mut evaluations, 2, &refused(Some("1 failed")));
    assert_eq!(evaluations[2].cost_s, 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// A search that is cut off anywhere goes on as it would have, and it keeps to its budget.
    #[test]
    fn a_search_is_a_function_of_what_was_measured(
        starts in 8.0..25.0_f64,
        bend in -1.0..1.0_f64,
        edge in 0.5..2.5_f64,
    ) {
        let truth = move |x: f64, y: f64| {
            ridge(x, y).filter(|_| x + y < edge).map(|[a, b]| [a * exp(bend * x * y), b])
        };
        let problem = problem(&ridge, starts * WHOLE_S);
        let (evaluations, finalists, reason) = search(&problem, &truth);
        prop_assert_eq!(
            problem.next(&evaluations),
            Step::Confirm { candidates: finalists.clone(), reason }
        );
        for cut in 1..evaluations.len() {
            let Evaluation { candidate, start, .. } = evaluations[cut];
            let next = Step::Measure(Trial { candidate, start, load: 0, repeat: 0 });
            prop_assert_eq!(problem.next(&evaluations[..cut]), next);
        }
        let confirmed_s = finalists.len() as f64 * 2.0 * WHOLE_S;
        prop_assert!(Problem::spent_s(&evaluations) + confirmed_s <= problem.budget_s);
    }
}

/// Of each layout what is predicted best is started before anything else is searched, the best layout first.
#[test]
fn layouts_come_first_and_those_that_are_surely_behind_not_at_all() {
    fn truth(x: f64, y: f64) -> Option<[f64; 2]> {
        Some([100.0 * (1.0 + x) * (1.0 - 0.1 * y), 0.5])
    }
    let layouts = |within: f64| {
        let mut problem = problem(&truth, 1e6);
        for candidate in &mut problem.candidates {
            // The first flag is the layout.
            let level = candidate.levels.as_ref().map_or(0.0, |levels| levels[0]);
            candidate.layout = (level * (SIDE - 1) as f64).round() as usize;
            if let Predicted::Runs { figures, within: ends, .. } = &mut candidate.predicted {
                let figure = figures[0].expect("a figure");
                *ends = Some([figure / within, figure * within]);
            }
        }
        problem
    };
    let first = |within: f64| {
        let problem = layouts(within);
        let (evaluations, ..) = search(&problem, &truth);
        let started: Vec<usize> =
            evaluations.iter().map(|e| problem.candidates[e.candidate].layout).collect();
        (problem.candidates, evaluations, started)
    };
    let (candidates, evaluations, started) = first(1.0);
    let before_the_rest = |started: &[usize]| {
        let mut layouts = started[1..SIDE].to_vec();
        layouts.sort_unstable();
        layouts
    };
    assert_eq!(started[1], SIDE - 1, "the layout that is predicted best: {started:?}");
    let levels = candidates[evaluations[1].candidate].levels.as_ref().expect("on the grid");
    assert_eq!(levels[1], 0.0, "its best setting");
    assert!(!before_the_rest(&started).contains(&1), "predicted far behind: {started:?}");
    let (.., started) = first(4.0);
    assert_eq!(before_the_rest(&started), [1, 2, 3, 4, 5, 6], "any may be best");
}
