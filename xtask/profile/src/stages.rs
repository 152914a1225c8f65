//! `stages`: which built-in stages a profile runs.

use super::{diagnostic::suggest, read::Item};

/// The built-in stages, in their order.
pub(super) const STAGES: [&str; 8] = [
    "provision",
    "baseline",
    "choose",
    "comprehensive",
    "compare",
    "confirm",
    "visualize",
    "document",
];

/// Stages that cannot do without others; what else they read is optional.
const NEEDS: [(&str, &[&str]); 7] = [
    ("baseline", &["provision"]),
    ("choose", &["provision"]),
    ("comprehensive", &["provision", "choose"]),
    ("compare", &["provision", "baseline"]),
    ("confirm", &["provision", "compare"]),
    ("visualize", &["baseline", "compare"]),
    ("document", &["provision", "baseline", "compare"]),
];

/// Stages that name, judge, try and draw settings: a server that runs already has its own.
const OF_SETTINGS: [&str; 4] = ["choose", "comprehensive", "confirm", "visualize"];

/// The stage that every profile with a [calibrate] table runs.
pub(super) const CALIBRATE: &str = "calibrate-simulator";
/// The stages that every profile with a [tune] table runs.
pub(super) const PREDICT: &str = "predict";
pub(super) const TUNE: &str = "tune";
/// The stage that every profile with a [capacity] table runs.
pub(super) const CAPACITY: &str = "capacity";
/// Stages that run by themselves, with their tables.
pub(super) const BY_TABLE: [(&str, &str); 4] =
    [(PREDICT, "[tune]"), (TUNE, "[tune]"), (CAPACITY, "[capacity]"), (CALIBRATE, "[calibrate]")];

/// Whether a stage is one of those that profiles may name, or that a table of theirs runs.
pub fn is_known(stage: &str) -> bool {
    STAGES.contains(&stage) || BY_TABLE.iter().any(|(name, _)| *name == stage)
}

/// The stages to run: all where the profile names none. `has_settings`: whether the engine is started
/// with settings.
pub(super) fn read(
    item: Option<&Item<'_>>,
    sweeps: &[&str],
    has_settings: bool,
) -> Option<Vec<String>> {
    let runs = |stage: &str| has_settings || !OF_SETTINGS.contains(&stage);
    let Some(item) = item else {
        return Some(STAGES.into_iter().filter(|stage| runs(stage)).map(str::to_owned).collect());
    };
    let elements = item.list(100)?;
    let mut stages: Vec<String> = Vec::new();
    for element in &elements {
        let name = element.text()?.value;
        if sweeps.contains(&name) {
            element.report(format!("`{name}` is a sweep"), "take it out: sweeps run by themselves");
        } else if let Some((_, table)) = BY_TABLE.iter().find(|(stage, _)| *stage == name) {
            element.report(
                format!("`{name}` runs by itself"),
                format!("take it out: a {table} table is enough"),
            );
        } else if !STAGES.contains(&name) {
            element.report(format!("no stage `{name}`"), suggest(name, STAGES));
        } else if !runs(name) {
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
        let needs = NEEDS.iter().filter(|(stage, _)| *stage == name).flat_map(|(_, needs)| *needs);
        for missing in needs.filter(|need| !stages.iter().any(|stage| stage == *need)) {
            element.report(
                format!("`{name}` without `{missing}`, which it reads"),
                format!("add \"{missing}\""),
            );
        }
    }
    Some(stages)
}
