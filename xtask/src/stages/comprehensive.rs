//! `comprehensive`: the comprehensive benchmark at the candidate's settings, on starts that took no
//! part in the choice.
//!
//! Where a candidate does not meet the limits, the next one is measured, after each of its flags was tested. Of the one that is settled on,
//! and of the defaults, further starts are made while the comparison of the two is undecided
//! (`[baseline] starts = { min, max }`).

use std::collections::BTreeMap;

use anyhow::Result;
use bench_core::{
    schema::{
        Args, Candidate, Choice, ChooseResult, ComprehensiveResult, LimitState, Outcome, Point,
        Role, Stopping,
    },
    stats::Looks,
};
use serde_json::{Value, json};

use super::{
    Context, Grid, Node, Setting, StageResult, baseline,
    pruning::{self, Pruned, SPENT, Stored, pruned},
    read,
    sweep::Sweep,
    written,
};
use analysis::{
    Configuration, choice, comparison, decision,
    lenders::Lenders,
    stopping::{self, Spent},
};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    Stage, Trial,
    role::{self, of_stage},
    stage::{BASELINE, CHOOSE, COMPREHENSIVE},
};
use report::{format, words};

impl StageResult for ComprehensiveResult {
    const STAGE: &'static Stage = &COMPREHENSIVE;
}

pub struct Comprehensive<'a> {
    pub context: &'a Context<'a>,
}

/// How far the stored trials lead.
#[derive(Default)]
struct Walk {
    /// The points of each candidate that was measured, and the candidate.
    judged: Vec<Vec<Point>>,
    candidates: Vec<Candidate>,
    /// What its flags were tested by, where `choose` did not.
    tested: Vec<Point>,
    /// Of the defaults, beside the candidate that was settled on.
    default: Vec<Point>,
    stopping: Option<Stopping>,
    /// What is to be measured next; empty at the end.
    wanted: Vec<Leaf<Trial>>,
}

impl Walk {
    /// What says how much starts differ, and so by which intervals limits are judged.
    fn lenders(&self, others: &Lenders) -> Lenders {
        others.and(self.default.iter().chain(self.judged.iter().flatten()))
    }
}

impl Comprehensive<'_> {
    fn candidate(&self, index: usize, args: Args, starts: u32) -> Grid<'_> {
        let label =
            if index == 0 { role::TUNED.to_owned() } else { format!("candidate-{}", index + 1) };
        self.grid(&label, Role::Tuned, args, starts)
    }

    fn default(&self, starts: u32) -> Grid<'_> {
        self.grid(role::DEFAULT, Role::Default, Args::new(), starts)
    }

    fn grid(&self, label: &str, role: Role, args: Args, starts: u32) -> Grid<'_> {
        let profile = self.context.profile;
        let setting = Setting { starts, ..Setting::judged(profile, label, role, args) };
        Grid { profile, settings: vec![setting], loads: profile.loads.iter().collect() }
    }

    /// The points of these grids, or their trials where one of them is not stored.
    fn points(
        grids: &[&Grid<'_>],
        inputs: &Inputs<'_>,
        identity: &Value,
    ) -> Result<Stored<Vec<Vec<Point>>>> {
        let mut leaves = Vec::new();
        for grid in grids {
            leaves.extend(grid.leaves(identity)?);
        }
        if leaves.iter().any(|leaf| !inputs.has_leaf(&leaf.role)) {
            return Ok(Err(leaves));
        }
        let points = grids.iter().map(|grid| grid.points(inputs, identity));
        Ok(Ok(points.collect::<Result<_>>()?))
    }

    fn walk(&self, inputs: &Inputs<'_>, candidates: &[Candidate]) -> Result<Walk> {
        let profile = self.context.profile;
        let identity = self.context.identity(inputs)?;
        let lenders = self.context.lenders(inputs)?;
        let state = |points: &[Point], walk: &Walk| {
            let points = walk.lenders(&lenders).figures(points);
            Configuration::of(&points, profile, |_| true).and_then(|one| state(&one))
        };
        let starts = choice::judged_starts(profile);
        let (mut walk, mut states, mut default) = (Walk::default(), Vec::new(), None);
        if !candidates.is_empty() {
            let mut grids = vec![self.default(starts)];
            // One that is judged in any case shares the defaults' blocks.
            let first = candidates.first().filter(|first| first.for_objective);
            grids.extend(first.map(|first| self.candidate(0, first.args.clone(), starts)));
            match Self::points(&grids.iter().collect::<Vec<_>>(), inputs, &identity)? {
                Err(wanted) => return Ok(Walk { wanted, ..walk }),
                Ok(mut points) => walk.default = points.swap_remove(0),
            }
            default = state(&walk.default, &walk);
        }
        while let Some(next) = choice::next(default, candidates, &states) {
            // `choose` has tested the flags of the first one, and of the whole that it was.
            let is_tested = next == 0
                || analysis::pruning::whole(&candidates[0])
                    .is_some_and(|whole| whole.args == candidates[next].args);
            let candidate = match is_tested {
                true => candidates[next].clone(),
                false => match pruned(self.context, inputs, &candidates[next])? {
                    Err(wanted) => return Ok(Walk { wanted, ..walk }),
                    Ok(Pruned { candidate, tested }) => {
                        walk.tested.extend(tested);
                        candidate
                    }
                },
            };
            let grid = self.candidate(next, candidate.args.clone(), starts);
            walk.candidates.push(candidate);
            match Self::points(&[&grid], inputs, &identity)? {
                Err(wanted) => return Ok(Walk { wanted, ..walk }),
                Ok(points) => walk.judged.extend(points),
            }
            let points = walk.judged.last().expect("it was just added");
            states.push(state(points, &walk));
        }
        if walk.judged.is_empty() {
            // Nothing is to be judged: the defaults stand in its place.
            let grids = [self.default(starts), self.candidate(0, Args::new(), starts)];
            let points = Self::points(&grids.each_ref(), inputs, &identity)?;
            walk.wanted = points.err().unwrap_or_default();
        } else if profile.starts_max > starts {
            self.go_on(inputs, &identity, starts, &mut walk)?;
        }
        Ok(walk)
    }

    /// Further starts of the defaults and of the candidate that is settled on, until the comparison
    /// is decided; each has `first` starts by now.
    fn go_on(
        &self,
        inputs: &Inputs<'_>,
        identity: &Value,
        first: u32,
        walk: &mut Walk,
    ) -> Result<()> {
        let profile = self.context.profile;
        let lenders = self.context.lenders(inputs)?;
        let Some(settled) = self.settled(&lenders, walk) else { return Ok(()) };
        let mut spent = match self.spent(inputs)? {
            Ok(spent) => spent,
            Err(wanted) => {
                walk.wanted = wanted;
                return Ok(());
            }
        };
        for (index, points) in walk.judged.iter().enumerate() {
            let grid = self.candidate(index, points[0].args.clone(), first);
            Self::add_spent(&mut spent, &grid, inputs, identity)?;
        }
        let looks = Looks::between(first, profile.starts_max);
        let mut starts = first;
        loop {
            let args = walk.judged[settled][0].args.clone();
            let grids = [self.default(starts), self.candidate(settled, args, starts)];
            match Self::points(&grids.each_ref(), inputs, identity)? {
                Err(wanted) => {
                    (walk.wanted, walk.stopping) = (wanted, None);
                    return Ok(());
                }
                Ok(mut points) => {
                    walk.judged[settled] = points.swap_remove(1);
                    walk.default = points.swap_remove(0);
                }
            }
            for grid in &grids {
                Self::add_spent(&mut spent, grid, inputs, identity)?;
            }
            let mut points = walk.default.clone();
            points.extend(walk.judged[settled].iter().cloned());
            let level = looks.level(starts);
            let rows = comparison::goals(&points, &lenders, profile, level);
            let next = looks.next(starts);
            let budget = profile.budget_engine_minutes.map(f64::from);
            let points = walk.lenders(&lenders).figures(&points);
            let reason =
                stopping::reason(profile, &points, &rows, next.map(|n| n - starts), &spent, budget);
            walk.stopping = reason.map(|reason| Stopping {
                starts,
                looks: looks.starts().to_vec(),
                level,
                reason,
                engine_minutes: bench_core::hist::round(spent.minutes()),
            });
            match next {
                Some(next) if reason.is_none() => starts = next,
                _ => return Ok(()),
            }
        }
    }

    /// Adds what the trials of a grid took.
    fn add_spent(
        spent: &mut Spent,
        grid: &Grid,
        inputs: &Inputs<'_>,
        identity: &Value,
    ) -> Result<()> {
        for leaf in grid.leaves(identity)? {
            spent.add(&leaf.what, &inputs.leaf::<Outcome>(&leaf.role)?);
        }
        Ok(())
    }

    /// What baseline, sweeps and the test of the first candidate's flags took (the search has a budget of its own), or their trials where one of them
    /// is not stored; nothing where nobody asks.
    fn spent(&self, inputs: &Inputs<'_>) -> Result<Stored<Spent>> {
        let mut spent = Spent::default();
        if self.context.profile.budget_engine_minutes.is_none() {
            return Ok(Ok(spent));
        }
        let mut leaves: BTreeMap<_, Leaf<Trial>> = BTreeMap::new();
        let context = self.context;
        let sweeps = context.profile.sweeps.iter();
        let sweeps = sweeps.map(|sweep| Box::new(Sweep { context, sweep }) as Node<'_>);
        let baseline = Box::new(baseline::Baseline { context }) as Node<'_>;
        for task in context.has(&BASELINE).then_some(baseline).into_iter().chain(sweeps) {
            for leaf in task.leaves(inputs)? {
                let role = of_stage(SPENT, &of_stage(task.name(), &leaf.role));
                leaves.entry(leaf.key).or_insert(Leaf { role, ..leaf });
            }
        }
        for leaf in pruning::shown(context, inputs, &read::<ChooseResult>(inputs)?.tested)? {
            let role = of_stage(SPENT, &of_stage(CHOOSE.name, &leaf.role));
            leaves.entry(leaf.key).or_insert(Leaf { role, ..leaf });
        }
        if leaves.values().any(|leaf| !inputs.has_leaf(&leaf.role)) {
            return Ok(Err(leaves.into_values().collect()));
        }
        for leaf in leaves.values() {
            spent.add(&leaf.what, &inputs.leaf::<Outcome>(&leaf.role)?);
        }
        Ok(Ok(spent))
    }

    /// Index of the candidate to decide on; `None` where none was judged.
    fn settled(&self, others: &Lenders, walk: &Walk) -> Option<usize> {
        let lenders = walk.lenders(others);
        let judged: Vec<Vec<Point>> =
            walk.judged.iter().map(|points| lenders.figures(points)).collect();
        let of = |points| Configuration::of(points, self.context.profile, |_| true);
        let settings: Vec<_> = judged.iter().filter_map(|points| of(points)).collect();
        let decided = decision::nearest(&settings.iter().collect::<Vec<_>>())?;
        settings.iter().position(|setting| setting.args == decided.args)
    }

    /// The trials behind its points, further starts included.
    pub fn shown(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let identity = self.context.identity(inputs)?;
        let mut labels: Vec<String> = Vec::new();
        let mut leaves = Vec::new();
        let result = read::<ComprehensiveResult>(inputs)?;
        leaves.extend(pruning::shown(self.context, inputs, &result.tested)?);
        for point in result.points {
            let numbers = || point.trials.iter().map(|trial| trial.replicate);
            let (Some(first_start), Some(last)) = (numbers().min(), numbers().max()) else {
                continue;
            };
            if labels.contains(&point.label) {
                continue;
            }
            let mut grid = self.grid(&point.label, point.role, point.args, last + 1 - first_start);
            grid.settings[0].first_start = first_start;
            leaves.extend(grid.leaves(&identity)?);
            labels.push(point.label);
        }
        Ok(leaves)
    }

    /// In the order in which they are judged: after the first one the whole that it was before `choose` left
    /// flags out.
    fn candidates(inputs: &Inputs<'_>) -> Result<Vec<Candidate>> {
        let mut candidates = read::<ChooseResult>(inputs)?.candidates;
        if let Some(whole) = candidates.first().and_then(analysis::pruning::whole) {
            candidates.retain(|other| other.args != whole.args);
            candidates.insert(1, whole);
        }
        Ok(candidates)
    }
}

/// How a configuration does against the limits; `None` where it gave no figures.
fn state(configuration: &Configuration<'_>) -> Option<LimitState> {
    configuration.is_measured().then(|| configuration.state())
}

/// Points of the defaults with all their starts, in place of those that `baseline` has of the first.
pub fn with_all_starts(baseline: &mut Vec<Point>, comprehensive: &mut Vec<Point>) {
    let (default, others) =
        std::mem::take(comprehensive).into_iter().partition(|p| p.role == Role::Default);
    *comprehensive = others;
    for point in default {
        let is_same = |other: &&mut Point| other.role == point.role && other.load == point.load;
        match baseline.iter_mut().find(is_same) {
            Some(other) => *other = point,
            None => baseline.push(point),
        }
    }
}

impl Task for Comprehensive<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        COMPREHENSIVE.name
    }

    fn epoch(&self) -> u32 {
        COMPREHENSIVE.epoch
    }

    fn needs(&self) -> Vec<String> {
        let mut needs = self.context.needs(&COMPREHENSIVE);
        let profile = self.context.profile;
        // Their starts say how much starts differ, by which limits and looks are judged.
        if profile.starts_max == profile.starts && profile.slo.is_empty() {
            needs.retain(|need| self.context.sweep_names().all(|sweep| sweep != *need));
        }
        needs
    }

    fn config(&self) -> Value {
        let profile = self.context.profile;
        let mut config = json!({
            "loads": profile.loads,
            "starts": profile.starts,
            "goals": super::goals(profile),
            "spread": profile.spreads.hashed(),
        });
        if profile.starts_max > profile.starts {
            config["starts_max"] = profile.starts_max.into();
            config["margins_percent"] = json!(profile.margins_percent);
            config["budget"] = json!(profile.budget_engine_minutes);
        }
        config
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        self.further_leaves(inputs)
    }

    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        Ok(self.walk(inputs, &Self::candidates(inputs)?)?.wanted)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let candidates = Self::candidates(inputs)?;
        let walk = self.walk(inputs, &candidates)?;
        let header = self.context.header(COMPREHENSIVE.name, inputs)?;
        let starts = choice::judged_starts(profile);
        let lenders = self.context.lenders(inputs)?;
        let Some(settled) = self.settled(&lenders, &walk) else {
            let identity = self.context.identity(inputs)?;
            let of = |grid: Grid<'_>| grid.points(inputs, &identity);
            let mut points = of(self.candidate(0, Args::new(), starts))?;
            if starts > profile.starts {
                points.extend(of(self.default(starts))?);
            }
            let reason = "no candidate to judge".to_owned();
            let choice = Choice { label: role::DEFAULT.to_owned(), args: Args::new(), reason };
            return written(&ComprehensiveResult {
                header,
                points,
                choice,
                candidate: None,
                tested: Vec::new(),
                stopping: None,
            });
        };
        let candidate = walk.candidates[settled].clone();
        let args = candidate.args.clone();
        let reason = words::flags(&candidate.flags, profile);
        let choice = Choice { label: role::TUNED.to_owned(), args: args.clone(), reason };
        let mut all = Vec::new();
        for (index, points) in walk.judged.into_iter().enumerate() {
            // Two of them may have come down to the same flags.
            let is_repeated = index != settled && points.iter().any(|point| point.args == args);
            for mut point in points.into_iter().filter(|_| !is_repeated) {
                if index == settled {
                    point.label = role::TUNED.to_owned();
                } else {
                    point.label = format::args_label(&point.args);
                    point.role = Role::Sweep;
                }
                all.push(point);
            }
        }
        let starts = walk.stopping.as_ref().map_or(starts, |stopping| stopping.starts);
        if starts > profile.starts {
            all.extend(walk.default);
        }
        let stopping = walk.stopping;
        let (candidate, tested) = (Some(candidate), walk.tested);
        written(&ComprehensiveResult { header, points: all, choice, candidate, tested, stopping })
    }
}
