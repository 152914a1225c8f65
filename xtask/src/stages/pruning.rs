//! A candidate held against itself without each of its flags: what [`analysis::pruning`] decides by, measured.

use std::collections::BTreeMap;

use anyhow::Result;
use bench_core::schema::{AnswersResult, Args, Candidate, Outcome, Point, Role};

use super::{Context, Grid, Setting, read_if_upstream, sweep::Sweep, tune};
use analysis::{
    answers::KnownAnswers,
    choice,
    pruning::{self, Step, Without},
    stopping::Spent,
};
use dag::{Inputs, Leaf, Task};
use profile::{Trial, flags, role::of_stage};
use report::format;

/// With this begin the roles of trials that are read for what they took alone.
pub const SPENT: &str = "spent";

/// What stored trials say, or the trials that it takes next.
pub type Stored<T> = std::result::Result<T, Vec<Leaf<Trial>>>;

/// A candidate of which every flag does something, and the points that show it.
#[derive(Debug)]
pub struct Pruned {
    pub candidate: Candidate,
    pub tested: Vec<Point>,
}

/// Tests the flags of a candidate as far as its trials are stored.
///
/// # Errors
/// When a record cannot be read. Inside are the trials that it takes next.
pub fn pruned(
    context: &Context<'_>,
    inputs: &Inputs<'_>,
    candidate: &Candidate,
) -> Result<Stored<Pruned>> {
    let profile = context.profile;
    let lenders = context.lenders(inputs)?;
    let answers: Option<AnswersResult> = read_if_upstream(inputs)?;
    let answers = KnownAnswers::from_result(profile, answers.as_ref());
    let (mut candidate, mut tested) = (candidate.clone(), Vec::<Point>::new());
    while pruning::is_tested(profile, &candidate) {
        let less: Vec<(String, Result<Args, String>)> = candidate
            .args
            .keys()
            .map(|flag| {
                let args = pruning::without(&candidate.args, flag);
                (flag.clone(), fits(&args, &answers).map(|()| args))
            })
            .collect();
        let settings = less.iter().filter_map(|(_, args)| args.as_ref().ok());
        let settings: Vec<&Args> = std::iter::once(&candidate.args).chain(settings).collect();
        // A candidate of k flags takes at most so many settings: one flag less after the other.
        let flags = candidate.args.len();
        if tested.is_empty() {
            match is_affordable(context, inputs, flags * (flags + 1) / 2)? {
                Ok(true) => {}
                Ok(false) => break,
                Err(wanted) => return Ok(Err(wanted)),
            }
        }
        let points = match points(context, inputs, &settings)? {
            Ok(points) => points,
            Err(wanted) => return Ok(Err(wanted)),
        };
        let points = lenders.and(&points).figures(&points);
        let of = |args: &Args| -> Vec<Point> {
            points.iter().filter(|point| point.args == *args).cloned().collect()
        };
        let with = of(&candidate.args);
        let without: Vec<Without> = less
            .into_iter()
            .map(|(flag, args)| Without { flag, points: args.map(|args| of(&args)) })
            .collect();
        let step = pruning::step(profile, &lenders, &candidate, &with, &without);
        tested.extend(points);
        match step {
            Step::Keep(flags) => {
                candidate.flags = flags;
                break;
            }
            Step::Drop(flag) => candidate = pruning::reduced(&candidate, flag),
        }
    }
    // What is left over of one test is the whole of the next one.
    let mut seen: Vec<(Args, String)> = Vec::new();
    tested.retain(|point| {
        let key = (point.args.clone(), point.load.clone());
        let is_new = !seen.contains(&key);
        seen.push(key);
        is_new
    });
    Ok(Ok(Pruned { candidate, tested }))
}

/// Why arguments are not recommended together, whatever they gain: their answers, or the engine refuses them.
pub fn fits(args: &Args, answers: &KnownAnswers<'_>) -> Result<(), String> {
    answers.why_withheld(args).map_or(Ok(()), Err)?;
    match flags::check_combination(&answers.profile.all_args(args), &Args::new()) {
        None => Ok(()),
        Some(why) => Err(why.message),
    }
}

/// The trials behind the points of a test.
///
/// # Errors
/// When the identity holds a float.
pub fn shown(
    context: &Context<'_>,
    inputs: &Inputs<'_>,
    tested: &[Point],
) -> Result<Vec<Leaf<Trial>>> {
    let mut settings: Vec<&Args> = Vec::new();
    for point in tested {
        if !settings.contains(&&point.args) {
            settings.push(&point.args);
        }
    }
    grid(context, &settings).leaves(&context.identity(inputs)?)
}

/// Whether `[budget]` leaves room for a test of so many settings, beside the starts that judge baseline,
/// defaults and candidate: by what the starts of the sweeps took. Or their trials, where one of them is not
/// stored.
fn is_affordable(
    context: &Context<'_>,
    inputs: &Inputs<'_>,
    settings: usize,
) -> Result<Stored<bool>> {
    let profile = context.profile;
    let Some(budget) = profile.budget_engine_minutes else { return Ok(Ok(true)) };
    let mut leaves: BTreeMap<_, Leaf<Trial>> = BTreeMap::new();
    for sweep in &profile.sweeps {
        for leaf in (Sweep { context, sweep }).leaves(inputs)? {
            let role = of_stage(SPENT, &of_stage(&sweep.name, &leaf.role));
            leaves.entry(leaf.key).or_insert(Leaf { role, ..leaf });
        }
    }
    if leaves.values().any(|leaf| !inputs.has_leaf(&leaf.role)) {
        return Ok(Err(leaves.into_values().collect()));
    }
    let mut spent = Spent::default();
    for leaf in leaves.values() {
        spent.add(&leaf.what, &inputs.leaf::<Outcome>(&leaf.role)?);
    }
    let judged = 3 * choice::judged_starts(profile);
    let more = judged + settings as u32 * pruning::starts(profile);
    Ok(Ok(spent.minutes() + spent.minutes_of_any(more) <= f64::from(budget)))
}

fn grid<'a>(context: &'a Context<'_>, settings: &[&Args]) -> Grid<'a> {
    let profile = context.profile;
    // They take turns, and come before the blocks of those that are compared.
    let setting = |args: &&Args| Setting {
        label: format::args_label(args),
        role: Role::Sweep,
        args: (*args).clone(),
        starts: pruning::starts(profile),
        first_start: pruning::first_start(profile, args),
        in_blocks: false,
    };
    let settings = settings.iter().map(setting).collect();
    Grid { profile, settings, loads: tune::loads(context) }
}

/// The points of these settings on the loads of objective and limits, or their trials where one of them is
/// not stored.
fn points(
    context: &Context<'_>,
    inputs: &Inputs<'_>,
    settings: &[&Args],
) -> Result<Stored<Vec<Point>>> {
    let identity = context.identity(inputs)?;
    let grid = grid(context, settings);
    let leaves = grid.leaves(&identity)?;
    if leaves.iter().any(|leaf| !inputs.has_leaf(&leaf.role)) {
        return Ok(Err(leaves));
    }
    Ok(Ok(grid.points(inputs, &identity)?))
}
