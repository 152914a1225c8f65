//! `tune`: several flags searched together, and the winner confirmed.
//!
//! What to measure next is [`bench_core::search`]'s to say; here its steps become trials, and what
//! is stored of them becomes its evaluations. A search that was killed finds its trials.

use std::{cell::RefCell, ops::Range};

use anyhow::Result;
use bench_core::{
    schema::{AnswersResult, Args, FailureClass, Outcome, Point, Role, SettingFailure, TuneResult},
    search::{
        self, Candidate, DEFAULTS, Evaluation, Goal, Over, Predicted, Problem, STARTS_MAX, Step,
        Want,
    },
    stats::LEVEL,
};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, StageResult, read_if_upstream, swept, written};
use analysis::{answers::KnownAnswers, comparison, lenders::Lenders};
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    Bound, Layout, NamedLoad,
    flags::{self, Memory},
    role::{of_stage, repeated},
};
use profile::{
    Stage, Trial,
    stage::{PREDICT, TUNE},
};
use report::format;

/// The page of the search.
pub const MARKDOWN: &str = "tuning.md";

/// Beyond the seeds of a profile's loads: requests that the search has not seen.
const FRESH_SEEDS: u64 = 1_000_000;

impl StageResult for TuneResult {
    const STAGE: &'static Stage = &TUNE;
}

pub struct Tune<'a> {
    context: &'a Context<'a>,
    /// The loads with fresh seeds.
    fresh: Vec<NamedLoad>,
    /// How far the stored trials lead. They only become more while a run goes on.
    walked: RefCell<Walk>,
}

/// A search as far as its trials are stored.
#[derive(Clone, Debug, Default)]
struct Walk {
    evaluations: Vec<Evaluation>,
    /// The settings to confirm, once they are known.
    over: Option<(Vec<usize>, Over)>,
}

/// The profile's table.
pub fn tune<'a>(context: &'a Context<'_>) -> &'a profile::Tune {
    context.profile.tune.as_ref().expect("a profile without the table has no such stage")
}

/// The loads by which a setting is judged: the objective's first.
pub fn loads<'a>(context: &'a Context<'_>) -> Vec<&'a NamedLoad> {
    let profile = context.profile;
    let mut loads: Vec<&NamedLoad> = Vec::new();
    let limits = profile.slo.iter().map(|limit| &limit.load);
    for name in std::iter::once(&profile.objective.load).chain(limits) {
        if loads.iter().all(|load| load.name != *name) {
            loads.extend(profile.loads.iter().find(|load| load.name == *name));
        }
    }
    loads
}

/// The objective, then the limits.
pub fn goals(context: &Context<'_>) -> Vec<Goal> {
    let profile = context.profile;
    let loads = loads(context);
    let index = |name: &str| loads.iter().position(|load| load.name == name).unwrap_or(0);
    let objective = &profile.objective;
    let want = if objective.maximize { Want::Most } else { Want::Least };
    let goal = |metric: &str, load: &str, want| Goal {
        metric: metric.to_owned(),
        load: index(load),
        want,
    };
    let limits = profile.slo.iter().map(|limit| {
        let bound = limit.limit.to_f64();
        let want = match limit.bound {
            Bound::Max => Want::AtMost(bound),
            Bound::Min => Want::AtLeast(bound),
        };
        goal(&limit.metric, &limit.load, want)
    });
    std::iter::once(goal(&objective.metric, &objective.load, want)).chain(limits).collect()
}

/// All arguments of each setting, the defaults first.
pub fn settings(context: &Context<'_>) -> Vec<Args> {
    let profile = context.profile;
    let none = Args::new();
    let own = tune(context).settings.iter().map(|setting| &setting.args);
    std::iter::once(&none).chain(own).map(|args| profile.all_args(args)).collect()
}

/// What bears on the search.
pub fn config(context: &Context<'_>) -> Value {
    let profile = context.profile;
    let mut config = json!({
        "tune": tune(context).hashed(),
        "loads": loads(context),
        "objective": profile.objective,
        "slo": profile.slo,
        "starts": profile.starts,
    });
    profile.note_cost(&mut config);
    config
}

impl<'a> Tune<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        let fresh = loads(context).into_iter().map(|load| {
            let mut load = load.clone();
            load.spec.seed = load.spec.seed.wrapping_add(FRESH_SEEDS);
            load
        });
        Self { context, fresh: fresh.collect(), walked: RefCell::default() }
    }

    fn problem(&self, predictions: Vec<Predicted>) -> Problem {
        let tune = tune(self.context);
        let levels = |setting: &profile::TuneSetting| {
            let level = |(index, count): &(usize, usize)| *index as f64 / (*count - 1) as f64;
            setting.levels.iter().map(level).collect()
        };
        let all = std::iter::once(None).chain(tune.settings.iter().map(levels).map(Some));
        let mut layouts: Vec<Layout> = Vec::new();
        let mut layout = |candidate: usize| {
            let layout = self.context.profile.layout(&self.args(candidate));
            layouts.iter().position(|known| *known == layout).unwrap_or_else(|| {
                layouts.push(layout);
                layouts.len() - 1
            })
        };
        let candidates = (0..).zip(all.zip(predictions)).map(|(index, (levels, predicted))| {
            Candidate { levels, layout: layout(index), predicted }
        });
        let memory = |flag: &String| match flags::find(flag).and_then(|f| f.more_needs_memory)? {
            Memory::Increasing => Some(std::cmp::Ordering::Greater),
            Memory::Decreasing => Some(std::cmp::Ordering::Less),
            Memory::Between => None,
        };
        Problem {
            memory: tune.flags.iter().map(memory).collect(),
            candidates: candidates.collect(),
            goals: goals(self.context),
            loads: loads(self.context).len(),
            budget_s: 60.0 * f64::from(tune.budget_engine_minutes),
            confirm_starts: self.context.profile.starts,
            seed: tune.seed.into(),
        }
    }

    fn args(&self, candidate: usize) -> Args {
        match candidate.checked_sub(1) {
            None => Args::new(),
            Some(index) => tune(self.context).settings[index].args.clone(),
        }
    }

    fn label(&self, candidate: usize) -> String {
        format::args_label(&self.args(candidate))
    }

    /// A trial of the search.
    fn leaf(&self, trial: search::Trial, identity: &Value) -> Result<Leaf<Trial>> {
        let search::Trial { candidate, start, load, repeat } = trial;
        let load = loads(self.context)[load];
        let name = repeated(&load.name, repeat);
        let load = NamedLoad { name, spec: load.repeat(repeat), repeats: 1, ..load.clone() };
        let grid = Grid {
            profile: self.context.profile,
            settings: vec![self.setting(candidate, Role::Sweep, start..start + 1)],
            loads: vec![&load],
        };
        let leaf = grid.leaves(identity)?.remove(0);
        Ok(Leaf { role: of_stage("search", &leaf.role), ..leaf })
    }

    fn setting(&self, candidate: usize, role: Role, numbers: Range<u32>) -> Setting {
        let (label, args) = (self.label(candidate), self.args(candidate));
        let (first_start, starts) = (numbers.start, numbers.end - numbers.start);
        Setting { label, role, args, starts, first_start, in_blocks: false }
    }

    /// The settings to confirm, on starts that the search did not see.
    fn confirmation(&self, finalists: &[usize]) -> Grid<'_> {
        let profile = self.context.profile;
        let settings = finalists.iter().map(|candidate| {
            let role = if *candidate == DEFAULTS { Role::Default } else { Role::Sweep };
            self.setting(*candidate, role, STARTS_MAX..STARTS_MAX + profile.starts)
        });
        let (settings, loads) = (settings.collect(), self.fresh.iter().collect());
        Grid { profile, settings, loads }
    }

    /// Goes on as far as trials are stored; the trial that is to be measured next, if it stops at
    /// one.
    fn walk(&self, inputs: &Inputs<'_>, identity: &Value) -> Result<Option<Leaf<Trial>>> {
        let problem = self.problem(inputs.json(PREDICT.name, PREDICT.file())?);
        let judged: Option<AnswersResult> = read_if_upstream(inputs)?;
        let judged = judged.map(|file| file.settings).unwrap_or_default();
        let answers = KnownAnswers { profile: self.context.profile, judged: &judged };
        let mut walk = self.walked.borrow_mut();
        while walk.over.is_none() {
            match problem.next(&walk.evaluations) {
                Step::Measure(trial) if !answers.permits(&self.args(trial.candidate)) => {
                    let seen = problem.seen(trial.load, &refused_for_answers());
                    problem.note(&mut walk.evaluations, trial, &seen);
                }
                Step::Measure(trial) => {
                    let leaf = self.leaf(trial, identity)?;
                    if !inputs.has_leaf(&leaf.role) {
                        return Ok(Some(leaf));
                    }
                    let outcome = self
                        .context
                        .profile
                        .priced(&self.args(trial.candidate), inputs.leaf(&leaf.role)?);
                    let seen = problem.seen(trial.load, &outcome);
                    problem.note(&mut walk.evaluations, trial, &seen);
                }
                Step::Confirm { candidates, reason } => walk.over = Some((candidates, reason)),
            }
        }
        Ok(None)
    }
}

/// What is noted of a setting whose answers did not pass: nothing is measured of it.
fn refused_for_answers() -> Outcome {
    Outcome::Refused(SettingFailure {
        class: FailureClass::BadCombination,
        evidence: vec!["its answers did not pass".to_owned()],
        foreseen: Some("its answers did not pass".to_owned()),
    })
}

impl Task for Tune<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        TUNE.name
    }

    fn epoch(&self) -> u32 {
        TUNE.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&TUNE)
    }

    fn config(&self) -> Value {
        config(self.context)
    }

    fn further_leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        let identity = self.context.identity(inputs)?;
        if let Some(next) = self.walk(inputs, &identity)? {
            return Ok(vec![next]);
        }
        match &self.walked.borrow().over {
            Some((finalists, _)) => self.confirmation(finalists).leaves(&identity),
            None => Ok(Vec::new()),
        }
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let identity = self.context.identity(inputs)?;
        self.walk(inputs, &identity)?;
        let Walk { evaluations, over } = self.walked.borrow().clone();
        let (finalists, reason) = over.expect("the trials of the search are stored");
        let problem = self.problem(inputs.json(PREDICT.name, PREDICT.file())?);
        let profile = self.context.profile;

        let mut points = self.confirmation(&finalists).points(inputs, &identity)?;
        let choice = swept::best(TUNE.name, &points, profile);
        // Where the defaults stay, it is the winner that was not better.
        let is_choice = |point: &Point| point.role == Role::Sweep && point.label == choice.label;
        let compared = match points.iter().any(is_choice) {
            true => choice.label.clone(),
            false => self.label(finalists[0]),
        };
        let compared = points.iter_mut().filter(|p| p.role == Role::Sweep && p.label == compared);
        compared.for_each(|point| point.role = Role::Tuned);
        let comparisons =
            comparison::comparisons(&points, &Lenders::default(), &[], profile, LEVEL);
        let labels: Vec<String> = (0..problem.candidates.len()).map(|c| self.label(c)).collect();
        let page = report::TuningPage {
            profile,
            problem: &problem,
            labels: &labels,
            loads: &loads(self.context),
            evaluations: &evaluations,
            finalists: &finalists,
            over: reason,
            confirmed: &points,
            comparisons: &comparisons,
            choice: &choice,
        };
        let (findings, markdown, csv) = (page.findings(), page.markdown(), page.csv());
        let header = self.context.header(TUNE.name, inputs)?;
        let mut outputs = written(&TuneResult { header, points, choice, comparisons, findings })?;
        outputs.insert(MARKDOWN.to_owned(), markdown.into_bytes());
        outputs.insert("tuning.csv".to_owned(), csv.into_bytes());
        Ok(outputs)
    }
}
