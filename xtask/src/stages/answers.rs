//! `answers`: settings that may change answers, held to the reference setting (the defaults) by what they
//! answer to a fixed set of prompts.
//!
//! The prompts are one more load point on starts that a sweep makes anyway.

use anyhow::Result;
use bench_core::{
    answers::{Margins, Prompt, judge},
    canonical::Digest,
    schema::{AnswerState, Answers, AnswersResult, Args, JudgedAnswers, Outcome, Role, TrialRef},
};
use serde_json::{Value, json};

use super::{Context, Grid, Setting, StageResult, written};
use analysis::choice;
use dag::{Inputs, Leaf, Outputs, Task};
use profile::{
    AnswersConfig, NamedLoad, Stage, Trial, flags,
    stage::{ANSWERS, PROVISION},
};
use report::{AnswersPage, format};

/// The page of the answers.
pub const MARKDOWN: &str = "answers.md";

/// Starts of the reference setting: what two of them differ by is the noise.
const REFERENCE_STARTS: u32 = 2;

impl StageResult for AnswersResult {
    const STAGE: &'static Stage = &ANSWERS;
}

pub struct Check<'a> {
    context: &'a Context<'a>,
    load: NamedLoad,
}

/// What a start answered, or why it says nothing.
type Said = std::result::Result<Answers, String>;

impl<'a> Check<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        Self { context, load: config(context).load() }
    }

    /// A setting that is asked, on starts from this one on.
    fn grid(&self, label: &str, args: Args, first_start: u32, starts: u32) -> Grid<'_> {
        let (label, role) = (label.to_owned(), Role::Sweep);
        let setting = Setting { label, role, args, starts, first_start, in_blocks: false };
        Grid { profile: self.context.profile, settings: vec![setting], loads: vec![&self.load] }
    }

    fn reference(&self) -> Grid<'_> {
        self.grid("default", Args::new(), 0, REFERENCE_STARTS)
    }

    /// Each set of arguments that may change answers, on a start that is made anyway.
    fn settings(&self) -> Vec<(Args, Grid<'_>)> {
        let profile = self.context.profile;
        let grid = |(changing, bearer): (Args, Args)| {
            let is_baseline = bearer == profile.baseline_args;
            let first = if is_baseline { choice::first_judged_start(profile, &bearer) } else { 0 };
            let label = format::args_label(&changing);
            (changing, self.grid(&label, bearer, first, 1))
        };
        profile.settings_that_change_answers().into_iter().map(grid).collect()
    }

    /// What each start of a grid said.
    fn said(grid: &Grid<'_>, inputs: &Inputs<'_>, identity: &Value) -> Result<Vec<(Digest, Said)>> {
        let of = |leaf: Leaf<Trial>| {
            let said = match inputs.leaf::<Outcome>(&leaf.role)? {
                Outcome::Refused(failure) => Err(format!("it does not run: {}", failure.title())),
                Outcome::Measured(record) => {
                    let failed = record.checks.iter().find(|check| !check.passed);
                    match (failed, record.answers) {
                        (Some(check), _) => Err(check.detail.clone()),
                        (None, None) => Err("it gave no answers".to_owned()),
                        (None, Some(answers)) => Ok(answers),
                    }
                }
            };
            Ok((leaf.key, said))
        };
        grid.leaves(identity)?.into_iter().map(of).collect()
    }
}

/// How answers are judged.
fn config<'a>(context: &'a Context<'_>) -> &'a AnswersConfig {
    let config = context.profile.answers.as_ref();
    config.expect("a profile without settings that change answers has no such stage")
}

impl Task for Check<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        ANSWERS.name
    }

    fn epoch(&self) -> u32 {
        ANSWERS.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&ANSWERS)
    }

    fn needs_for_leaves(&self) -> Vec<String> {
        vec![PROVISION.name.to_owned()]
    }

    fn config(&self) -> Value {
        let settings = self.settings();
        let grids: Vec<_> =
            settings.iter().map(|(args, grid)| json!([args, grid.config()])).collect();
        json!({ "answers": config(self.context), "settings": grids })
    }

    fn leaves(&self, inputs: &Inputs<'_>) -> Result<Vec<Leaf<Trial>>> {
        if self.context.profile.answers_say_nothing().is_some() {
            return Ok(Vec::new());
        }
        let identity = self.context.identity(inputs)?;
        let mut leaves = self.reference().leaves(&identity)?;
        for (_, grid) in self.settings() {
            leaves.extend(grid.leaves(&identity)?);
        }
        Ok(leaves)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let (config, profile) = (config(self.context), self.context.profile);
        let identity = self.context.identity(inputs)?;
        let nothing = profile.answers_say_nothing();
        let reference = match nothing {
            None => Self::said(&self.reference(), inputs, &identity)?,
            Some(_) => Vec::new(),
        };
        let starts: Vec<&Answers> =
            reference.iter().filter_map(|(_, said)| said.as_ref().ok()).collect();
        let margins = Margins {
            nll_increase_percent_max: config.nll_increase_percent_max.to_f64(),
            right_change_points_min: config.exact_match_change_points_min.to_f64(),
        };
        let prompts = config.prompts();
        let asked = |id: &str| prompts.iter().find(|prompt| prompt.id == id).map(Prompt::asked);
        let verdict = |said: Said| -> std::result::Result<_, String> {
            let said = said?;
            if starts.is_empty() {
                let why = reference.iter().find_map(|(_, said)| said.as_ref().err().cloned());
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                return Err(format!("the defaults gave no answers to compare with{why}"));
            }
            let found = judge(&starts, &said, margins, &asked);
            found.ok_or_else(|| "no prompt was answered by both".to_owned())
        };
        let mut settings = Vec::new();
        for (args, grid) in self.settings() {
            let said = match nothing {
                Some(why) => Err(why.to_owned()),
                None => Self::said(&grid, inputs, &identity)?.remove(0).1,
            };
            let (verdict, problem) = match verdict(said) {
                Ok(verdict) => (Some(verdict), None),
                Err(why) => (None, Some(why)),
            };
            let why = args.iter().filter_map(|(flag, value)| {
                flags::changes_answers(flag, value).map(|why| format!("{flag}: {why}"))
            });
            settings.push(JudgedAnswers {
                why: why.collect(),
                state: verdict.as_ref().map_or(AnswerState::Unchecked, |verdict| verdict.state),
                args,
                verdict,
                problem,
            });
        }
        let reference = reference.iter().zip(0..).map(|((key, said), start)| TrialRef {
            invalid: said.as_ref().err().cloned(),
            ..TrialRef::new(*key, start)
        });
        let reference = reference.collect();
        let header = self.context.header(ANSWERS.name, inputs)?;
        let result = AnswersResult { header, settings, reference };
        let page = AnswersPage { config, prompts: &prompts, result: &result, nothing };
        let markdown = page.markdown();
        let mut outputs = written(&result)?;
        outputs.insert(MARKDOWN.to_owned(), markdown.into_bytes());
        Ok(outputs)
    }
}
