//! `choose`: the settings worth being judged, from the sweeps.

use anyhow::Result;
use bench_core::schema::{Args, Choice, ChooseResult, Point, Role, SweepResult, TuneResult};
use serde_json::Value;

use super::{Context, StageResult, goals, read_if_upstream, written};
use analysis::{
    Configuration,
    choice::{self, Swept},
};
use dag::{Inputs, Outputs, Task};
use profile::{Profile, Stage, Trial, flags, role, stage::CHOOSE};
use report::{format, words};

impl StageResult for ChooseResult {
    const STAGE: &'static Stage = &CHOOSE;
}

pub struct Choose<'a> {
    pub context: &'a Context<'a>,
}

impl Task for Choose<'_> {
    type Leaf = Trial;

    fn name(&self) -> &str {
        CHOOSE.name
    }

    fn epoch(&self) -> u32 {
        CHOOSE.epoch
    }

    fn needs(&self) -> Vec<String> {
        self.context.needs(&CHOOSE)
    }

    fn config(&self) -> Value {
        goals(self.context.profile)
    }

    fn run(&self, inputs: &Inputs<'_>) -> Result<Outputs> {
        let profile = self.context.profile;
        let mut files: Vec<(&str, SweepResult)> = Vec::new();
        for sweep in &profile.sweeps {
            files.push((&sweep.name, inputs.json(&sweep.name, &sweep.file)?));
        }
        let searched: Option<TuneResult> = read_if_upstream(inputs)?;
        let sweeps: Vec<Swept<'_>> =
            files.iter().map(|(name, file)| swept(name, &file.points, profile)).collect();
        let tuned = searched.as_ref().map(|file| swept(choice::TUNE, &file.points, profile));
        let fits = |args: &Args| fits(args, profile);

        let candidates = choice::candidates(&sweeps, tuned.as_ref(), profile, &fits);
        let proposed = files.iter().filter_map(|(name, file)| Some((*name, file.choice.as_ref()?)));
        let proposed = searched.iter().map(|file| (choice::TUNE, &file.choice)).chain(proposed);
        let findings =
            proposed.map(|(name, choice)| format!("{name}: {}", choice.reason)).collect();
        let is_well = |swept: &Swept<'_>| {
            swept.default.as_ref().is_none_or(|default| choice::is_default_well(Some(default)))
        };
        let first = candidates.first();
        let first = first.filter(|first| first.for_objective || !sweeps.iter().all(is_well));
        let choice = match first {
            None => Choice {
                label: role::DEFAULT.to_owned(),
                args: Args::new(),
                reason: "no value promises more than vLLM's defaults".to_owned(),
            },
            Some(first) => Choice {
                label: role::TUNED.to_owned(),
                args: first.args.clone(),
                reason: words::flags(&first.flags, profile),
            },
        };
        let header = self.context.header(CHOOSE.name, inputs)?;
        written(&ChooseResult { header, choice, candidates, findings })
    }
}

/// Why arguments do not go together on this engine.
fn fits(args: &Args, profile: &Profile) -> Result<(), String> {
    match flags::check_combination(&profile.all_args(args), &Args::new()) {
        None => Ok(()),
        Some(why) => Err(why.message),
    }
}

/// The points of a sweep as configurations.
pub fn swept<'a>(name: &'a str, points: &'a [Point], profile: &Profile) -> Swept<'a> {
    let is_value = |point: &Point| matches!(point.role, Role::Sweep | Role::Tuned);
    Swept {
        name,
        values: Configuration::all(points, profile, is_value),
        default: Configuration::of(points, profile, |point| point.role == Role::Default),
    }
}

/// The best value of a sweep in words, or why the defaults do as well.
pub fn best(name: &str, points: &[Point], profile: &Profile) -> Choice {
    let swept = swept(name, points, profile);
    if let Some((value, reason)) = choice::best(&swept, profile) {
        return Choice {
            label: value.label.to_owned(),
            args: value.args.clone(),
            reason: words::flag(&reason, profile),
        };
    }
    let measured = swept.values.iter().any(Configuration::is_measured);
    let objective =
        format!("{} on `{}`", format::name(&profile.objective.metric), profile.objective.load);
    let reason = if measured {
        format!("no value is worth a change by {objective} within the limits")
    } else {
        format!("no value gave a valid {objective}")
    };
    Choice { label: role::DEFAULT.to_owned(), args: Args::new(), reason }
}
