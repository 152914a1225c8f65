//! The stages: one table with all that profiles, the DAG, commands and documents know of each. What a
//! stage does is in `xtask/src/stages/`.

use super::{diagnostic::suggest, read::Item};

/// A stage.
#[derive(Debug)]
pub struct Stage {
    /// Name; `cargo xtask stage NAME`.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What it cannot do without.
    pub needs: &'static [&'static Stage],
    /// What it reads too, where the profile runs it.
    pub reads: &'static [&'static Stage],
    /// What it writes into `results/<profile>/`, its result first.
    pub files: &'static [&'static str],
    /// Number of what it does, raised by hand when what it writes changes.
    pub epoch: u32,
    /// Which profiles run it.
    pub runs: Runs,
}

/// Which profiles run a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// All but those whose `stages` leaves it out.
    Named,
    /// Of these, those that start their engine: it names, judges, tries or draws settings, and a
    /// server that runs already has its own.
    OfSettings,
    /// Those with this table.
    Table(&'static str),
    /// Once for each `[sweep.NAME]`, under that name and with that sweep's file.
    EachSweep,
}

impl Stage {
    /// The file of its result.
    pub const fn file(&self) -> &'static str {
        self.files[0]
    }

    /// Whether it measures, or yields what one that measures asks for; the others only show.
    pub fn bears_on_trials(&self) -> bool {
        ![VISUALIZE.name, DOCUMENT.name, CALIBRATE.name].contains(&self.name)
    }
}

/// `provision`.
pub const PROVISION: Stage = Stage {
    name: "provision",
    about: "find or install the engine and say what it is",
    needs: &[],
    reads: &[],
    files: &["identity.json"],
    epoch: 1,
    runs: Runs::Named,
};

/// `baseline`.
pub const BASELINE: Stage = Stage {
    name: "baseline",
    about: "the comprehensive benchmark at the settings to beat and at the engine's defaults",
    needs: &[&PROVISION],
    reads: &[],
    files: &["baseline.json"],
    epoch: 4,
    runs: Runs::Named,
};

/// `[sweep.NAME]`.
pub const SWEEP: Stage = Stage {
    name: "[sweep.NAME]",
    about: "one flag's values, each a launch",
    needs: &[&PROVISION],
    reads: &[&BASELINE],
    files: &["NAME_optimization.json"],
    epoch: 9,
    runs: Runs::EachSweep,
};

/// `predict`.
pub const PREDICT: Stage = Stage {
    name: "predict",
    about: "with [tune]: what the simulator says of every setting of the search",
    needs: &[],
    reads: &[],
    files: &["predictions.json"],
    epoch: 2,
    runs: Runs::Table("[tune]"),
};

/// `answers`.
pub const ANSWERS: Stage = Stage {
    name: "answers",
    about: "with settings that may change answers: their answers, held to those of the defaults",
    needs: &[&PROVISION],
    reads: &[],
    files: &["answers.json", "answers.md"],
    epoch: 1,
    runs: Runs::Table("[answers]"),
};

/// `tune`.
pub const TUNE: Stage = Stage {
    name: "tune",
    about: "with [tune]: several flags searched together, and the winner confirmed",
    needs: &[&PROVISION, &PREDICT],
    reads: &[&ANSWERS],
    files: &["tune.json", "tuning.md", "tuning.csv"],
    epoch: 5,
    runs: Runs::Table("[tune]"),
};

/// `choose`.
pub const CHOOSE: Stage = Stage {
    name: "choose",
    about: "the best value of each sweep, put together, and of these flags those that do something",
    needs: &[&PROVISION],
    reads: &[&ANSWERS, &TUNE, &SWEEP],
    files: &["recommendation.json"],
    epoch: 7,
    runs: Runs::OfSettings,
};

/// `comprehensive`.
pub const COMPREHENSIVE: Stage = Stage {
    name: "comprehensive",
    about: "the comprehensive benchmark at the chosen settings",
    needs: &[&PROVISION, &CHOOSE],
    reads: &[&ANSWERS, &SWEEP],
    files: &["comprehensive_optimized_benchmark.json"],
    epoch: 11,
    runs: Runs::OfSettings,
};

/// `capacity`.
pub const CAPACITY: Stage = Stage {
    name: "capacity",
    about: "with [capacity]: the highest rate within the limits, and the curve to it",
    needs: &[&PROVISION],
    reads: &[&CHOOSE],
    files: &["capacity.json", "capacity.md", "capacity.svg", "capacity.png"],
    epoch: 4,
    runs: Runs::Table("[capacity]"),
};

/// `compare`.
pub const COMPARE: Stage = Stage {
    name: "compare",
    about: "baseline, defaults and chosen settings side by side, with verdicts and targets",
    needs: &[&PROVISION, &BASELINE],
    reads: &[&ANSWERS, &CHOOSE, &COMPREHENSIVE, &SWEEP],
    files: &["comparison.json"],
    epoch: 14,
    runs: Runs::Named,
};

/// `confirm`.
pub const CONFIRM: Stage = Stage {
    name: "confirm",
    about: "one start from recommended.yaml as it is: ready, a first token, the settings measured",
    needs: &[&PROVISION, &COMPARE],
    reads: &[],
    files: &["confirmation.json"],
    epoch: 2,
    runs: Runs::OfSettings,
};

/// `visualize`.
pub const VISUALIZE: Stage = Stage {
    name: "visualize",
    about: "the plots",
    needs: &[&PROVISION, &BASELINE, &COMPARE],
    reads: &[&COMPREHENSIVE, &SWEEP],
    files: &["*.svg", "*.png", "layouts.json"],
    epoch: 15,
    runs: Runs::OfSettings,
};

/// `document`.
pub const DOCUMENT: Stage = Stage {
    name: "document",
    about: "the report and the configuration to deploy",
    needs: &[&PROVISION, &BASELINE, &COMPARE],
    reads: &[&CHOOSE, &COMPREHENSIVE, &CONFIRM, &VISUALIZE, &SWEEP, &ANSWERS, &TUNE, &CAPACITY],
    files: &["OPTIMIZATION_RESULTS.md", "report.html", "recommended.yaml"],
    epoch: 20,
    runs: Runs::Named,
};

/// `calibrate-simulator`.
pub const CALIBRATE: Stage = Stage {
    name: "calibrate-simulator",
    about: "with [calibrate]: the simulator's model fitted to measured trials, and its errors",
    needs: &[],
    reads: &[&PROVISION],
    files: &[
        "calibrated_model.json",
        "calibration.csv",
        "calibration.md",
        "calibration.svg",
        "calibration.png",
    ],
    epoch: 4,
    runs: Runs::Table("[calibrate]"),
};

/// Every stage, in the order of the report: each comes after what it needs and reads.
pub const STAGES: [&Stage; 14] = [
    &PROVISION,
    &BASELINE,
    &SWEEP,
    &PREDICT,
    &ANSWERS,
    &TUNE,
    &CHOOSE,
    &COMPREHENSIVE,
    &CAPACITY,
    &COMPARE,
    &CONFIRM,
    &VISUALIZE,
    &DOCUMENT,
    &CALIBRATE,
];

/// The stages that a profile may name, in their order.
pub(super) fn named() -> impl Iterator<Item = &'static Stage> + Clone {
    STAGES.into_iter().filter(|stage| matches!(stage.runs, Runs::Named | Runs::OfSettings))
}

/// The stages that run with one of these tables, in their order.
pub(super) fn of_tables(tables: &[&str]) -> impl Iterator<Item = &'static Stage> {
    let runs = |stage: &&Stage| matches!(stage.runs, Runs::Table(table) if tables.contains(&table));
    STAGES.into_iter().filter(runs)
}

/// Whether a built-in stage writes a file of this name.
pub(super) fn is_written(file: &str) -> bool {
    let mut built_in = STAGES.iter().filter(|stage| stage.runs != Runs::EachSweep);
    built_in.any(|stage| stage.files.contains(&file))
}

/// The stages to run: all where the profile names none. `has_settings`: whether the engine is started
/// with settings.
pub(super) fn read(
    item: Option<&Item<'_>>,
    sweeps: &[&str],
    has_settings: bool,
) -> Option<Vec<String>> {
    let runs = |stage: &Stage| has_settings || stage.runs != Runs::OfSettings;
    let Some(item) = item else {
        return Some(
            named().filter(|stage| runs(stage)).map(|stage| stage.name.to_owned()).collect(),
        );
    };
    let elements = item.list(100)?;
    let mut stages: Vec<String> = Vec::new();
    for element in &elements {
        let name = element.text()?.value;
        let known = STAGES.into_iter().find(|stage| stage.name == name);
        if sweeps.contains(&name) {
            element.report(format!("`{name}` is a sweep"), "take it out: sweeps run by themselves");
        } else if let Some(Stage { runs: Runs::Table(table), .. }) = known {
            element.report(
                format!("`{name}` runs by itself"),
                format!("take it out: a {table} table is enough"),
            );
        } else if known.is_none_or(|stage| stage.runs == Runs::EachSweep) {
            let names = named().map(|stage| stage.name);
            element.report(format!("no stage `{name}`"), suggest(name, names));
        } else if !known.is_some_and(runs) {
            element.report(
                format!("`{name}` of a server that runs already"),
                "take it out: it is one configuration, and there are no others to try",
            );
        } else if stages.iter().any(|other| other == name) {
            element.report(format!("stage `{name}` twice"), "name it once");
        } else {
            stages.push(name.to_owned());
        }
    }
    for element in &elements {
        let name = element.text()?.value;
        let needs = named().filter(|stage| stage.name == name).flat_map(|stage| stage.needs);
        for Stage { name: missing, .. } in
            needs.filter(|need| !stages.iter().any(|s| s == need.name))
        {
            element.report(
                format!("`{name}` without `{missing}`, which it reads"),
                format!("add \"{missing}\""),
            );
        }
    }
    Some(stages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_comes_after_what_it_reads_and_its_files_are_its_own() {
        for (place, stage) in STAGES.iter().enumerate() {
            let before = |other: &&&Stage| STAGES[..place].iter().any(|s| s.name == other.name);
            let late = stage.needs.iter().chain(stage.reads).find(|other| !before(other));
            assert!(late.is_none(), "{} stands before {late:?}", stage.name);
            for other in &STAGES[..place] {
                assert_ne!(stage.name, other.name);
                assert!(!stage.files.iter().any(|file| other.files.contains(file)), "{stage:?}");
            }
        }
    }
}
