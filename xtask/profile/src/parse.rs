//! From the text of a profile to a [`Profile`].

use std::{collections::BTreeMap, path::Path};

use bench_core::{decimal::Decimal, schema::ArgValue};
use toml::de::{DeTable, DeValue};

use super::{
    ReadModel,
    answers::{self, AnswersConfig},
    args::{Accepted, PlacedArgs, overlay},
    calibrate, capacity, cost,
    diagnostic::Diagnostic,
    engine::{self, Engine},
    executor,
    goals::Goals,
    load::{self, PlacedLoad},
    read::{Item, Problems, Span, Table, absent_or_right},
    remote,
    resolved::{CostConfig, EngineConfig, ExecutorConfig, Gain, Guard, Limit, Objective, Profile},
    stage, sweep, tune,
};

/// Server starts of baseline, defaults and tuned settings where the profile names none: with
/// fewer than three there is no telling a difference from the spread between starts.
const STARTS: u32 = 3;
const STARTS_MAX: u32 = 100;
const ENGINE_MINUTES_MAX: u32 = 1_000_000;

/// Reads and checks a profile.
///
/// # Errors
///
/// Every mistake, in the order of the file; of a text that is not TOML, the first.
pub fn parse(
    name: &str,
    path: &Path,
    source: &str,
    models: &dyn ReadModel,
) -> Result<Profile, Vec<Diagnostic>> {
    let document = DeTable::parse(source).map_err(|error| vec![syntax_problem(source, &error)])?;
    let problems = Problems::default();
    let table = Table::document(&problems, document.get_ref());
    let profile = resolve(&problems, table, models, path.parent().unwrap_or(path));
    if !problems.is_empty() {
        return Err(problems.into_sorted());
    }
    let mut profile = profile.expect("a profile without mistakes is whole");
    profile.name = name.to_owned();
    profile.path = path.to_owned();
    Ok(profile)
}

/// The profile, without its name; `None` only after a reported mistake.
fn resolve(
    problems: &Problems,
    mut document: Table<'_>,
    models: &dyn ReadModel,
    folder: &Path,
) -> Option<Profile> {
    let engine = document
        .require("engine", "an [engine] table")
        .and_then(|item| item.table("[engine]"))
        .and_then(|table| engine::read(problems, table, models));
    let loads = document
        .require("load", "a [[load]] table")
        .map(|item| load::read(problems, &item, folder))
        .unwrap_or_default();
    let cost = document.section("cost", cost::read);
    let known_cost = cost.as_ref().and_then(Option::as_ref);
    let (objective, (slo, guards), (targets, gains), margins_percent) =
        read_goals(&mut document, &Goals { problems, loads: &loads, cost: known_cost });
    let baseline = document.get("baseline");
    let sweeps = document.get("sweep").and_then(|item| item.table("[sweep]"));
    let stages = document.get("stages");
    let reference = document.get("reference").and_then(|item| reference(problems, &item));
    let tune = document.get("tune");
    let is_endpoint = engine
        .as_ref()
        .is_some_and(|engine| matches!(engine.config, Some(EngineConfig::Endpoint(_))));
    let tells_cards = !is_endpoint || known_cost.is_some_and(|cost| cost.cards.is_some());
    let capacity = document.section("capacity", |table| capacity::read(table, &loads, tells_cards));
    let longest = engine.as_ref().and_then(|engine| engine.longest());
    let answers = document.section("answers", |table| answers::read(table, folder, longest));
    let is_simulated =
        engine.as_ref().is_some_and(|engine| matches!(engine.accepted, Accepted::Simulated { .. }));
    let calibrate =
        document.section("calibrate", |table| calibrate::read(table, is_simulated, &loads, models));
    let spreads = document.section("spread", |table| calibrate::read_spread(table, models));
    let choose_starts = document.section("choose", read_choose).flatten();
    let budget = document.section("budget", read_budget).flatten();
    let remote = document.section("remote", remote::read);
    let config = engine.as_ref().and_then(|engine| engine.config.as_ref());
    let executor = document.section("executor", |table| executor::read(table, config));
    document.finish(|_| None);

    // What follows speaks of the engine's flags, and would mislead without it.
    let engine = engine?;
    let baseline_table = baseline.and_then(|item| item.table("[baseline]"));
    let (baseline, starts) = read_baseline(problems, &engine, baseline_table);
    let starts = match &engine.config {
        Some(EngineConfig::Endpoint(endpoint)) => starts.map(|_| (endpoint.start, endpoint.start)),
        _ => starts,
    };
    check_launches(problems, &engine, &baseline, &loads.placed);
    let sweeps = match sweeps {
        Some(table) => {
            let context = sweep::Context {
                problems,
                engine: &engine,
                loads: &loads,
                default_loads: objective.as_ref().map(|objective| judged(objective, &slo)),
            };
            sweep::read(&context, table)
        }
        None => Vec::new(),
    };
    let has_settings = !matches!(engine.accepted, Accepted::Nothing);
    let sweep_names: Vec<_> = sweeps.iter().map(|sweep| sweep.name.as_str()).collect();
    let mut stages = stage::read(stages.as_ref(), &sweep_names, has_settings)?;
    let calibrate = absent_or_right(calibrate)?;
    let tune = absent_or_right(
        tune.map(|item| tune::read(problems, item.table("[tune]")?, &engine, models)),
    )?;
    let capacity = absent_or_right(capacity)?;
    let answers = absent_or_right(answers)?;
    let tables = [
        (tune.is_some(), "[tune]"),
        (capacity.is_some(), "[capacity]"),
        (calibrate.is_some(), "[calibrate]"),
    ];
    let tables = tables.into_iter().filter_map(|(is_there, table)| is_there.then_some(table));
    let tables: Vec<_> = tables.collect();
    stages.extend(stage::of_tables(&tables).map(|stage| stage.name.to_owned()));
    let mut profile = Profile {
        name: String::new(),
        instrument_epoch: bench_core::INSTRUMENT_EPOCH,
        path: std::path::PathBuf::new(),
        engine: engine.config?,
        engine_args: engine.args.args,
        engine_env: engine.env,
        baseline_args: baseline.args,
        starts: starts?.0,
        starts_max: starts?.1,
        choose_starts,
        reference,
        loads: loads.placed.into_iter().map(|placed| placed.load).collect(),
        sweeps,
        objective: objective?,
        slo,
        guards,
        targets,
        gains,
        margins_percent,
        stages,
        calibrate,
        spreads: absent_or_right(spreads)?.unwrap_or_default(),
        tune,
        capacity,
        cost: absent_or_right(cost)?,
        answers,
        budget_engine_minutes: budget,
        remote: absent_or_right(remote)?,
        executor: absent_or_right(executor)?.unwrap_or(ExecutorConfig::Local),
    };
    check_answers(&mut profile, longest);
    if profile.cost.is_none() && profile.has_several_cards() {
        profile.cost = Some(CostConfig::default());
    }
    Some(profile)
}

/// Adds the stage that checks answers, where a setting may change them; without the table by its defaults.
fn check_answers(profile: &mut Profile, longest: Option<u32>) {
    if profile.settings_that_change_answers().is_empty() {
        return;
    }
    let config = profile.answers.get_or_insert_with(|| AnswersConfig::new(longest));
    if config.check {
        profile.stages.push(stage::ANSWERS.name.to_owned());
    }
}

/// The name of a saved baseline.
fn reference(problems: &Problems, item: &Item<'_>) -> Option<String> {
    let name = item.text()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.value.starts_with('.') || !name.value.chars().all(is_plain) {
        problems.report(Diagnostic::new(
            format!("`{}` is no name of a baseline", name.value),
            name.span,
            "expected the NAME of a file baselines/NAME.json",
        ));
        return None;
    }
    Some(name.value.to_owned())
}

/// Limits that a setting must meet, and metrics that it must not make worse.
type Guardrails = (Vec<Limit>, Vec<Guard>);

/// Limits that are hoped for, and gains over the baseline.
type Targets = (Vec<Limit>, Vec<Gain>);

/// Objective, limits, guards, targets and margins.
fn read_goals(
    document: &mut Table<'_>,
    goals: &Goals<'_>,
) -> (Option<Objective>, Guardrails, Targets, BTreeMap<String, Decimal>) {
    let mut objective = document
        .require("objective", "an [objective] table")
        .and_then(|item| item.table("[objective]"))
        .and_then(|table| goals.objective(table));
    let slo = document.get("slo").and_then(|item| item.table("[slo]"));
    let slo = slo.map(|table| goals.limits(table)).unwrap_or_default();
    let guards = document.get("guard").and_then(|item| item.table("[guard]"));
    let guards = guards.map(|table| goals.guards(table, objective.as_ref())).unwrap_or_default();
    let targets = document.get("targets").and_then(|item| item.table("[targets]"));
    let targets = targets.map(|table| goals.targets(table)).unwrap_or_default();
    let compare = document.get("compare").and_then(|item| item.table("[compare]"));
    let margins = compare.map(|table| goals.margins(table)).unwrap_or_default();
    if let Some(objective) = &mut objective {
        objective.margin_percent = margins.get(&objective.metric).copied();
    }
    (objective, (slo, guards), targets, margins)
}

fn read_choose(mut table: Table<'_>) -> Option<u32> {
    let item = table.require("starts", "starts = N");
    table.finish(|_| None);
    let item = item?;
    let starts = item.integer_u32(0..=STARTS_MAX)?;
    if starts == 1 {
        item.report("one start of a setting tells nothing of the spread between starts", "2, or 0");
        return None;
    }
    Some(starts)
}

fn read_budget(mut table: Table<'_>) -> Option<u32> {
    let minutes = table
        .require("engine_minutes", "engine_minutes = N")
        .and_then(|item| item.integer_u32(1..=ENGINE_MINUTES_MAX));
    table.finish(|_| None);
    minutes
}

/// The loads by which settings are judged: the objective's, then those of its limits.
fn judged(objective: &Objective, slo: &[Limit]) -> Vec<String> {
    let mut loads = vec![objective.load.clone()];
    for limit in slo {
        if !loads.contains(&limit.load) {
            loads.push(limit.load.clone());
        }
    }
    loads
}

fn read_baseline(
    problems: &Problems,
    engine: &Engine,
    table: Option<Table<'_>>,
) -> (PlacedArgs, Option<(u32, u32)>) {
    let Some(mut table) = table else {
        return (PlacedArgs::default(), Some((STARTS, STARTS)));
    };
    let starts = match table.get("starts") {
        Some(item) => read_starts(engine, &item),
        None => Some((STARTS, STARTS)),
    };
    let args = table
        .get("args")
        .and_then(|item| item.table("[baseline.args]"))
        .map(|table| engine.accepted.read(problems, table))
        .unwrap_or_default();
    table.finish(|_| None);
    (args, starts)
}

/// Fewest and most server starts: `N`, or `{ min = N, max = M }`. The bench starts no endpoint.
fn read_starts(engine: &Engine, item: &Item<'_>) -> Option<(u32, u32)> {
    if matches!(engine.accepted, Accepted::Nothing) {
        if !item.is_table() && item.integer_u32(1..=STARTS_MAX)? == 1 {
            return Some((1, 1));
        }
        item.report(
            "`starts` of a server that is not started here",
            "restart it yourself and count with `start` in [engine]",
        );
        return None;
    }
    if !item.is_table() {
        let starts = item.integer_u32(1..=STARTS_MAX)?;
        return Some((starts, starts));
    }
    let mut table = item.table("`starts`")?;
    let min = table.require("min", "min = N").and_then(|item| item.integer_u32(2..=STARTS_MAX));
    let max = table.require("max", "max = N");
    let most = max.as_ref().and_then(|item| item.integer_u32(2..=STARTS_MAX));
    table.finish(|_| None);
    let (min, most) = (min?, most?);
    if most < min {
        max?.report("`max` is below `min`", format!("expected {min} or more"));
        return None;
    }
    Some((min, most))
}

/// Checks the launches that every profile has: vLLM's defaults and the baseline.
fn check_launches(
    problems: &Problems,
    engine: &Engine,
    baseline: &PlacedArgs,
    loads: &[PlacedLoad],
) {
    if let Some(refusal) = engine.refusal(&engine.args.args) {
        let span = engine.args.span_of(refusal.flags).unwrap_or(0..0);
        problems.report(sweep::refused(&refusal, span));
    } else if let Some(refusal) = engine.refusal(&overlay(&engine.args.args, &baseline.args)) {
        let span = baseline.span_of(refusal.flags).unwrap_or(0..0);
        problems.report(sweep::refused(&refusal, span));
    }
    let default = engine.defaults.get("max-model-len");
    let limits = [
        (&engine.args, engine.args.args.get("max-model-len").or(default)),
        (baseline, baseline.args.get("max-model-len")),
    ];
    for (placed, limit) in limits {
        let Some(ArgValue::Int(limit)) = limit else { continue };
        for load in loads.iter().filter(|load| load.longest.value > limit.unsigned_abs()) {
            let problem = Diagnostic::new(
                format!("requests of `{}` do not fit max-model-len {limit}", load.load.name),
                load.longest.span.clone(),
                format!("up to {} tokens in and out", load.longest.value),
            );
            problems.report(match placed.span_of(&["max-model-len"]) {
                Some(span) => problem.related(span, "the limit"),
                None => problem,
            });
        }
    }
}

/// A mistake of TOML's own, with the first definition where a name is defined twice.
fn syntax_problem(source: &str, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    if error.message() != "duplicate key" {
        let (what, expected) = match error.message().split_once(", expected ") {
            Some(("string values must be quoted", _)) if span.is_empty() => {
                ("a value is missing", "add it".to_owned())
            }
            Some((what @ "string values must be quoted", _)) => (what, "quote it".to_owned()),
            Some((what, expected)) => (what, format!("expected {expected}")),
            None => (error.message(), String::new()),
        };
        return Diagnostic::new(format!("not TOML: {what}"), span, expected);
    }
    let key = source.get(span.clone()).unwrap_or_default();
    let line_start =
        source.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let (before, line) = source.split_at(line_start);
    let header = line.lines().next().unwrap_or_default();
    let problem = |what: String| Diagnostic::new(what, span.clone(), "rename it, or merge the two");
    match first_definition(before, header) {
        Some((first, true)) => {
            problem(format!("two sweeps named `{key}`")).related(first, "the first")
        }
        Some((first, false)) => {
            problem(format!("`{key}` is defined twice")).related(first, "the first")
        }
        None => problem(format!("`{key}` is defined twice in one table")),
    }
}

/// Where the table of a header such as `[sweep.x]` is first defined in the text before, and
/// whether it is a sweep.
fn first_definition(before: &str, header: &str) -> Option<(Span, bool)> {
    let path = DeTable::parse(header).ok()?;
    let (mut path, document) = (path.get_ref(), DeTable::parse(before).ok()?);
    let (mut found, mut depth, mut is_sweep) = (document.get_ref(), 0, false);
    loop {
        let (key, below) = path.iter().next()?;
        let (first, value) = found.get_key_value(key.get_ref().as_ref())?;
        is_sweep |= depth == 0 && first.get_ref() == "sweep";
        depth += 1;
        match (below.get_ref(), value.get_ref()) {
            (DeValue::Table(inner), DeValue::Table(table)) if !inner.is_empty() => {
                (path, found) = (inner, table);
            }
            _ => return Some((first.span(), is_sweep && depth == 2)),
        }
    }
}
