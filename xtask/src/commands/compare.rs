//! `compare A B`: any two results or baselines, metric by metric.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bench_core::{
    metric,
    schema::{Figures, Point, Role, Stopping},
    stats::{self, LEVEL},
};

use super::{Root, read_figures};
use crate::{
    cli::{CompareArgs, CompareFormat, MessageFormat},
    error::{self, Code},
    output,
    stages::spread_points,
};
use analysis::{comparison, gate::Gate, lenders::Lenders};
use profile::{Profile, stage};
use report::{Page, Side, terminal};

/// Prints the comparison and says what a gate would.
pub fn run(args: &CompareArgs, message_format: MessageFormat) -> Result<Gate> {
    let root = Root::find()?;
    let (mut before, mut after) = (side(&root, args, &args.a)?, side(&root, args, &args.b)?);
    let (a, b) = (&before.side, &after.side);
    // Of somebody else's figures nobody takes the change for the setting's alone; and two servers, or
    // one before and after a restart, are what is compared there.
    let is_own = !is_reference(a) && !is_reference(b);
    let is_endpoint = |found| profile_of(&root, found).is_some_and(|p| p.endpoint().is_some());
    let are_endpoints = is_endpoint(&before) && is_endpoint(&after);
    let differ = a.engine.identity != b.engine.identity;
    if is_own && differ && !args.across_engines && !are_endpoints {
        let message = format!(
            "{} ran on {} ({}), {} on {} ({}): a change may be the engine's; --across-engines \
             compares them all the same",
            a.name,
            a.engine.title,
            a.engine.identity.short(),
            b.name,
            b.engine.title,
            b.engine.identity.short()
        );
        return Err(Code::NotComparable.error(message));
    }
    let profile = match &args.profile {
        Some(name) => Some(profile::load(name, root.given())?),
        None => profile_of(&root, &after).or_else(|| profile_of(&root, &before)),
    };
    let lent = [(a.name.clone(), kin(&root, &before)?), (b.name.clone(), kin(&root, &after)?)];
    let lenders = Lenders::of(lent.iter().flat_map(|(_, points)| points));
    for found in [&mut before, &mut after] {
        found.side.points = lenders.figures(&found.side.points);
    }
    let (a, b) = (&before.side, &after.side);
    let compared = match &profile {
        Some(profile) if is_reference(a) != is_reference(b) => {
            comparison::with_reference(&a.points, &b.points, profile)
        }
        _ => {
            let level = level(&before, &after);
            comparison::any_two(&a.points, &b.points, profile.as_ref(), &lenders, level)
        }
    };
    if compared.rows.is_empty() && compared.broken.is_empty() && compared.unknown.is_empty() {
        let message = match compared.other_loads.as_slice() {
            [] => format!(
                "{} and {} have no load in common: {} and {}",
                a.name,
                b.name,
                loads(&a.points),
                loads(&b.points)
            ),
            names => format!(
                "the loads of {} and {} have the same names and are different ones: {}",
                a.name,
                b.name,
                names.join(", ")
            ),
        };
        return Err(Code::NotComparable.error(message));
    }
    let lenders = count(lent, a, b, profile.as_ref());
    let page = Page::new(a, b, &compared, profile.as_ref(), lenders);
    match args.format {
        _ if message_format == MessageFormat::Json => output::answer("compare", &page.json())?,
        CompareFormat::Table => output::print(terminal::compared(&page, args.all))?,
        CompareFormat::Markdown => output::print(page.markdown())?,
        CompareFormat::Json => outln!("{:#}", page.json())?,
    }
    Ok(page.gate())
}

/// Whether a side is figures of another system under a load of its own.
fn is_reference(side: &Side) -> bool {
    side.points.iter().all(|point| point.role == Role::Reference)
}

/// A side, and what its files tell besides.
struct Found {
    side: Side,
    /// The profile that they name.
    profile: String,
    files: Vec<PathBuf>,
    /// Every configuration in them.
    points: Vec<Point>,
    /// When the comparison of the tuned settings with the defaults in them was stopped, if it was.
    stopping: Option<Stopping>,
}

/// What was measured on a side's engine and card, by which its profile judges how much starts differ: the
/// configurations of its results, its sweeps, and the trials that it names.
fn kin(root: &Root, found: &Found) -> Result<Vec<Point>> {
    let mut points = found.points.clone();
    let Some(profile) = profile_of(root, found) else { return Ok(points) };
    let engine = found.side.engine.identity;
    let own = found.files.first().and_then(|file| file.parent()).map(PathBuf::from);
    let folders = [own.unwrap_or_default(), root.results(&profile)];
    for sweep in &profile.sweeps {
        let mut files = folders.iter().map(|folder| folder.join(&sweep.file));
        let Some(file) = files.find(|file| file.is_file()) else { continue };
        let sweep = read_figures(&file)?;
        points.extend(sweep.points.into_iter().filter(|_| sweep.header.engine.identity == engine));
    }
    points.extend(spread_points(&profile, engine));
    Ok(points)
}

/// The level at which two sides are judged: that of the look at which their own suite stopped comparing
/// them.
fn level(a: &Found, b: &Found) -> f64 {
    let role = |found: &Found| found.side.points.first().map(|point| point.role);
    let of_suite = [role(a), role(b)];
    let is_of_suite = a.files == b.files
        && (of_suite == [Some(Role::Default), Some(Role::Tuned)]
            || of_suite == [Some(Role::Tuned), Some(Role::Default)]);
    a.stopping.as_ref().filter(|_| is_of_suite).map_or(LEVEL, |stopping| stopping.level)
}

/// How many other settings of whose results say how much starts differ in the objective.
fn count(
    lent_by: [(String, Vec<Point>); 2],
    a: &Side,
    b: &Side,
    profile: Option<&Profile>,
) -> Vec<(String, usize)> {
    let Some(objective) = profile.map(|profile| &profile.objective) else { return Vec::new() };
    let on = |side: &'_ Side| side.points.iter().find(|p| p.load == objective.load).cloned();
    let Some((before, after)) = on(a).zip(on(b)) else { return Vec::new() };
    let Some(metric) = metric::find(&objective.metric) else { return Vec::new() };
    let lent = |points: &mut dyn Iterator<Item = &Point>| {
        Lenders::of(points).to_change(metric, &before, &after)
    };
    let [(first, of_first), (second, of_second)] = lent_by;
    let all = lent(&mut of_first.iter().chain(&of_second));
    if !stats::are_enough(&all, 2) {
        return Vec::new();
    }
    // What both have counts for the first.
    let own = lent(&mut of_first.iter()).len();
    vec![(first, own), (second, all.len() - own)]
}

fn profile_of(root: &Root, found: &Found) -> Option<Profile> {
    let path = root.given().join("bench/profiles").join(format!("{}.toml", found.profile));
    // A baseline outlives its profile; then no goals are known.
    path.is_file().then(|| profile::load(&found.profile, root.given()).ok()).flatten()
}

fn loads(points: &[Point]) -> String {
    let mut names: Vec<&str> = points.iter().map(|point| point.load.as_str()).collect();
    names.dedup();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What `NAME[#LABEL]` stands for: a baseline, a profile's results by name or folder, a result
/// file, or else a configuration in the results of the profile that the command line names.
fn side(root: &Root, args: &CompareArgs, name: &str) -> Result<Found> {
    let (source, label) = name.split_once('#').map_or((name, None), |(s, l)| (s, Some(l)));
    let mut existing = files(root, source);
    let mut label = label;
    if existing.is_empty() && label.is_none() {
        let profile = args.profile.as_deref().unwrap_or("sim");
        let results = files(root, profile);
        let known = labels(&read(&results)?);
        if known.iter().any(|known| known == source) {
            (existing, label) = (results, Some(source));
        }
    }
    if existing.is_empty() {
        let is_profile =
            root.given().join("bench/profiles").join(format!("{source}.toml")).is_file();
        return Err(match is_profile {
            true => Code::NoResults.error(format!(
                "profile `{source}` has no results yet: `cargo xtask suite --profile {source}` measures it"
            )),
            false => {
                let known = known(root)?;
                Code::UnknownName.error(error::no_such("result or baseline", source, &known))
            }
        });
    }
    let results = read(&existing)?;
    let first = results.first().with_context(|| format!("{source} holds no result"))?;
    let (engine, profile) = (first.header.engine.clone(), first.header.profile.clone());
    let stage = first.header.stage.clone();
    let known = labels(&results);
    let stopping = results.iter().find_map(|result| result.stopping.clone());
    let mut all: Vec<Point> = Vec::new();
    // Of the defaults the file that has their further starts comes first.
    for point in results.into_iter().flat_map(|result| result.points) {
        let is_same = |other: &Point| other.label == point.label && other.load == point.load;
        if !all.iter().any(is_same) {
            all.push(point);
        }
    }
    // Without a label: the tuned settings, else the first configuration there is.
    let tuned = || all.iter().find(|point| point.role == Role::Tuned).or(all.first());
    let label = match label {
        Some(label) => label.to_owned(),
        None => match tuned() {
            Some(point) => point.label.clone(),
            None => {
                let message = format!(
                    "{source} is no baseline: it holds no measured configuration (stage {stage}); \
                     expected what cargo xtask baseline save wrote, or the results of a profile"
                );
                return Err(Code::FileRefused.error(message));
            }
        },
    };
    let points: Vec<Point> = all.iter().filter(|point| point.label == label).cloned().collect();
    if points.is_empty() {
        return Err(Code::UnknownName.error(error::no_such("configuration", &label, &known)));
    }
    let side = Side { name: name.to_owned(), engine, points };
    Ok(Found { side, profile, files: existing, points: all, stopping })
}

/// The files that a name stands for; those that there are.
fn files(root: &Root, source: &str) -> Vec<PathBuf> {
    let mut files = vec![root.baselines().join(format!("{source}.json"))];
    files.extend(of_folder(&root.path().join("results").join(source)));
    files.extend(of_folder(Path::new(source)));
    files.push(PathBuf::from(source));
    files.retain(|path| path.is_file());
    files
}

/// The files of a profile's results that hold configurations to compare; those that there are.
fn of_folder(folder: &Path) -> Vec<PathBuf> {
    let files = [stage::COMPREHENSIVE.file(), stage::BASELINE.file()].map(|file| folder.join(file));
    files.into_iter().filter(|path| path.is_file()).collect()
}

fn read(files: &[PathBuf]) -> Result<Vec<Figures>> {
    files.iter().map(|path| read_figures(path)).collect()
}

/// Labels of the configurations, each once.
fn labels(results: &[Figures]) -> Vec<String> {
    let mut labels: Vec<String> = Vec::new();
    for point in results.iter().flat_map(|result| &result.points) {
        if !labels.contains(&point.label) {
            labels.push(point.label.clone());
        }
    }
    labels
}

/// Names that `compare` knows: saved baselines and profiles with results.
fn known(root: &Root) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in [root.baselines(), root.path().join("results")] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.strip_suffix(".json") {
                Some(name) => names.push(name.to_owned()),
                None if !of_folder(&entry.path()).is_empty() => names.push(name),
                None => {}
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}
