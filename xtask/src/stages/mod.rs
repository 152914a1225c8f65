//! The stages, one a file; [`tasks`] is the registry.

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
mod names;
mod predict;
mod provision;
mod sweep;
mod trial;
mod tune;
mod visualize;

pub use baseline::{DEFAULT_ROLE, FILE as BASELINE_FILE, NAME as BASELINE};
pub use choose::NAME as CHOOSE;
pub use compare::{FILE as COMPARISON_FILE, NAME as COMPARE};
pub use comprehensive::{FILE as COMPREHENSIVE_FILE, NAME as COMPREHENSIVE};
pub use document::{NAME as DOCUMENT, RECOMMENDED};
pub use provision::{FILE as IDENTITY_FILE, NAME as PROVISION};

pub use context::{Context, Stage, StageResult};
use context::{digest_of, goals, one_file, read, read_if_upstream, written};
pub use trial::{Grid, Setting};

/// A built-in stage.
pub struct Definition {
    /// Name; `cargo xtask stage NAME`.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What it writes into `results/<profile>/`.
    pub files: &'static str,
    make: for<'a> fn(&'a Context<'a>) -> Stage<'a>,
}

/// Every built-in stage, in the order of the report. Each `[sweep.NAME]` of a profile is one more,
/// after `baseline`.
pub const BUILT_IN: [Definition; 12] = [
    Definition {
        name: provision::NAME,
        about: "find or install the engine and say what it is",
        files: provision::FILE,
        make: |context| Box::new(provision::Provision { context }),
    },
    Definition {
        name: baseline::NAME,
        about: "the comprehensive benchmark at the settings to beat and at the engine's defaults",
        files: baseline::FILE,
        make: |context| Box::new(baseline::Baseline { context }),
    },
    Definition {
        name: predict::NAME,
        about: "with [tune]: what the simulator says of every setting of the search",
        files: predict::FILE,
        make: |context| Box::new(predict::Predict { context }),
    },
    Definition {
        name: tune::NAME,
        about: "with [tune]: several flags searched together, and the winner confirmed",
        files: tune::FILES,
        make: |context| Box::new(tune::Tune::new(context)),
    },
    Definition {
        name: choose::NAME,
        about: "the best value of each sweep, put together",
        files: choose::FILE,
        make: |context| Box::new(choose::Choose { context }),
    },
    Definition {
        name: comprehensive::NAME,
        about: "the comprehensive benchmark at the chosen settings",
        files: comprehensive::FILE,
        make: |context| Box::new(comprehensive::Comprehensive { context }),
    },
    Definition {
        name: capacity::NAME,
        about: "with [capacity]: the highest rate within the limits, and the curve to it",
        files: capacity::FILES,
        make: |context| Box::new(capacity::Capacity { context }),
    },
    Definition {
        name: compare::NAME,
        about: "baseline, defaults and chosen settings side by side, with verdicts and targets",
        files: compare::FILE,
        make: |context| Box::new(compare::Compare { context }),
    },
    Definition {
        name: confirm::NAME,
        about: "one start from recommended.yaml as it is: ready, a first token, the settings measured",
        files: confirm::FILE,
        make: |context| Box::new(confirm::Confirm { context }),
    },
    Definition {
        name: visualize::NAME,
        about: "the plots",
        files: "*.svg, *.png",
        make: |context| Box::new(visualize::Visualize { context }),
    },
    Definition {
        name: document::NAME,
        about: "the report and the configuration to deploy",
        files: "OPTIMIZATION_RESULTS.md, report.html, recommended.yaml",
        make: |context| Box::new(document::Document { context, stages: tasks }),
    },
    Definition {
        name: calibrate::NAME,
        about: "with [calibrate]: the simulator's model fitted to measured trials, and its errors",
        files: calibrate::FILES,
        make: |context| Box::new(calibrate::CalibrateSimulator { context }),
    },
];

/// The stages of a profile.
pub fn tasks<'a>(context: &'a Context<'a>) -> Vec<Stage<'a>> {
    let mut tasks = Vec::new();
    for definition in &BUILT_IN {
        if context.has(definition.name) {
            tasks.push((definition.make)(context));
        }
        if definition.name == baseline::NAME {
            let sweeps = context.profile.sweeps.iter();
            tasks
                .extend(sweeps.map(|sweep| Box::new(sweep::Sweep { context, sweep }) as Stage<'a>));
        }
    }
    tasks
}

/// Files of the built-in stages that a profile does not run.
pub fn files_of_others(profile: &profile::Profile) -> impl Iterator<Item = &'static str> {
    let has = |stage: &str| profile.stages.iter().any(|name| name == stage);
    let others = BUILT_IN.iter().filter(move |definition| !has(definition.name));
    others.flat_map(|definition| definition.files.split(", ")).filter(|file| !file.contains('*'))
}

/// Whether a stage measures, or yields what one that measures asks for: all but those that only
/// show.
pub fn bears_on_trials(stage: &str) -> bool {
    ![visualize::NAME, document::NAME, calibrate::NAME].contains(&stage)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_built_in_stage_is_known_to_profiles() {
        for stage in &super::BUILT_IN {
            assert!(profile::is_known_stage(stage.name), "{}", stage.name);
            let written = stage.files.split(", ").filter(|file| file.ends_with(".json"));
            for file in written {
                assert!(profile::OTHER_FILES.contains(&file), "a sweep could write {file} too");
            }
        }
    }
}
