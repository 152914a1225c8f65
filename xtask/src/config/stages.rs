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

/// The stage that every profile with a [calibrate] table runs.
pub(super) const CALIBRATE: &str = "calibrate-simulator";

/// The stages to run: all where the profile names none.
pub(super) fn read(item: Option<&Item<'_>>, sweeps: &[&str]) -> Option<Vec<String>> {
    let Some(item) = item else {
        return Some(STAGES.map(str::to_owned).to_vec());
    };
    let mut stages: Vec<String> = Vec::new();
    for element in item.list(100)? {
        let name = element.text()?.value;
        if sweeps.contains(&name) {
            element.report(format!("`{name}` is a sweep"), "take it out: sweeps run by themselves");
        } else if name == CALIBRATE {
            element.report(
                format!("`{name}` runs by itself"),
                "take it out: a [calibrate] table is enough",
            );
        } else if !STAGES.contains(&name) {
            element.report(format!("no stage `{name}`"), suggest(name, STAGES));
        } else if stages.iter().any(|other| other == name) {
            element.report(format!("stage `{name}` twice"), "name it once");
        } else {
            stages.push(name.to_owned());
        }
    }
    Some(stages)
}
