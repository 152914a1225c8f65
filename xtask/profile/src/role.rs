//! Roles of trials in stages: names by which a stage finds the trials that it asked for.

use std::fmt;

/// Label of the setting that runs today.
pub const BASELINE: &str = "baseline";
/// Label of the engine's defaults.
pub const DEFAULT: &str = "default";
/// Label of the candidate that the choice, or the search, names first.
pub const TUNED: &str = "tuned";

/// `tuned/burst/0`: setting, load, start. Of the load's second repeat `tuned/burst~2/0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrialRole {
    /// Label of the setting: any text.
    pub setting: String,
    /// Name of the load, with the number of its repeat.
    pub load: String,
    /// Start replicate.
    pub start: u32,
}

impl TrialRole {
    /// A setting's trial under a load.
    pub fn new(setting: &str, load: &str, start: u32) -> Self {
        Self { setting: setting.to_owned(), load: load.to_owned(), start }
    }

    /// The role that a text is; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, start) = text.rsplit_once('/')?;
        let (setting, load) = rest.rsplit_once('/')?;
        Some(Self::new(setting, load, start.parse().ok()?))
    }
}

impl fmt::Display for TrialRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.setting, self.load, self.start)
    }
}

/// Name of a load's repeat, counted from 0: `burst`, `burst~2`, `burst~3`.
pub fn repeated(load: &str, repeat: u32) -> String {
    if repeat == 0 { load.to_owned() } else { format!("{load}~{}", repeat + 1) }
}

/// The role of another stage's trial, in a stage that reads it: `baseline/tuned/burst/0`.
pub fn of_stage(stage: &str, role: &str) -> String {
    format!("{stage}/{role}")
}

/// Back from [`of_stage`]: the stage and the trial's role there.
pub fn split_stage(role: &str) -> Option<(&str, TrialRole)> {
    let (stage, role) = role.split_once('/')?;
    Some((stage, TrialRole::parse(role)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_role_is_read_as_it_was_written(
            setting in "[a-z0-9/ =.,~]{0,20}",
            load in "[a-z@.0-9-]{1,12}",
            repeat in 0_u32..4,
            start: u32,
        ) {
            let role = TrialRole::new(&setting, &repeated(&load, repeat), start);
            prop_assert_eq!(TrialRole::parse(&role.to_string()), Some(role.clone()));
            let elsewhere = of_stage("max-num-seqs", &role.to_string());
            prop_assert_eq!(split_stage(&elsewhere), Some(("max-num-seqs", role)));
        }
    }

    #[test]
    fn what_is_no_role_is_not_read() {
        for text in ["", "burst/0", "a/b/c"] {
            assert_eq!(TrialRole::parse(text), None, "{text}");
        }
        assert_eq!(split_stage("tuned/burst/0"), None);
    }
}
