//! What the stages do, one a file; [`tasks`] makes them. What else is known of each is in the table
//! [`profile::stage`].

mod answers;
mod baseline;
mod calibrate;
mod capacity;
mod choose;
mod compare;
mod comprehensive;
mod confirm;
mod context;
mod document;
mod hardware;
mod predict;
mod provision;
mod pruning;
mod sweep;
mod swept;
mod trial;
mod tune;
mod visualize;

pub use comprehensive::with_all_starts;
pub use document::RECOMMENDED;

pub use context::{Context, Node, StageResult, spread_points};
use context::{digest_of, goals, one_file, read, read_if_upstream, written};
use profile::{
    Stage,
    stage::{
        ANSWERS, BASELINE, CALIBRATE, CAPACITY, CHOOSE, COMPARE, COMPREHENSIVE, CONFIRM, DOCUMENT,
        PREDICT, PROVISION, Runs, STAGES, TUNE, VISUALIZE,
    },
};
pub use trial::{Grid, Setting};

type Make = for<'a> fn(&'a Context<'a>) -> Node<'a>;

/// What each stage of the table does; each sweep is a [`sweep::Sweep`].
const BUILT_IN: [(&Stage, Make); 13] = [
    (&PROVISION, |context| Box::new(provision::Provision { context })),
    (&BASELINE, |context| Box::new(baseline::Baseline { context })),
    (&PREDICT, |context| Box::new(predict::Predict { context })),
    (&ANSWERS, |context| Box::new(answers::Check::new(context))),
    (&TUNE, |context| Box::new(tune::Tune::new(context))),
    (&CHOOSE, |context| Box::new(choose::Choose { context })),
    (&COMPREHENSIVE, |context| Box::new(comprehensive::Comprehensive { context })),
    (&CAPACITY, |context| Box::new(capacity::Capacity { context })),
    (&COMPARE, |context| Box::new(compare::Compare { context })),
    (&CONFIRM, |context| Box::new(confirm::Confirm { context })),
    (&VISUALIZE, |context| Box::new(visualize::Visualize { context })),
    (&DOCUMENT, |context| Box::new(document::Document { context, stages: tasks })),
    (&CALIBRATE, |context| Box::new(calibrate::CalibrateSimulator { context })),
];

/// The stages of a profile.
pub fn tasks<'a>(context: &'a Context<'a>) -> Vec<Node<'a>> {
    let mut tasks = Vec::new();
    for stage in STAGES {
        if stage.runs == Runs::EachSweep {
            let sweeps = context.profile.sweeps.iter();
            tasks.extend(sweeps.map(|sweep| Box::new(sweep::Sweep { context, sweep }) as Node<'a>));
        } else if context.has(stage) {
            let (_, make) = BUILT_IN
                .iter()
                .find(|(of, _)| of.name == stage.name)
                .expect("a test holds the two tables to each other");
            tasks.push(make(context));
        }
    }
    tasks
}

/// Files of the built-in stages that a profile does not run.
pub fn files_of_others(profile: &profile::Profile) -> impl Iterator<Item = &'static str> {
    let has = |stage: &Stage| profile.stages.iter().any(|name| name == stage.name);
    let others = BUILT_IN.iter().filter(move |(stage, _)| !has(stage));
    others.flat_map(|(stage, _)| stage.files).copied().filter(|file| !file.contains('*'))
}

/// Whether a stage bears on what is measured ([`Stage::bears_on_trials`]); sweeps do.
pub fn bears_on_trials(name: &str) -> bool {
    STAGES.iter().find(|stage| stage.name == name).is_none_or(|stage| stage.bears_on_trials())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_of_the_table_is_made() {
        let table = STAGES.iter().filter(|stage| stage.runs != Runs::EachSweep);
        assert!(table.map(|stage| stage.name).eq(BUILT_IN.iter().map(|(stage, _)| stage.name)));
    }
}
