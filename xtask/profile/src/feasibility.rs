//! Feasibility: which settings start, and which others then need not be tried.
//!
//! Pure. Only starts that an engine really refused count as known; what is foreseen proves nothing.

use bench_core::schema::{ArgValue, Args, FailureClass, Outcome, SettingFailure};

use crate::{
    Trial,
    flags::{self, Memory},
};

/// What became of the starts so far, of one engine.
#[derive(Clone, Debug, Default)]
pub struct Feasibility {
    refused: Vec<(Trial, SettingFailure)>,
    started: Vec<Trial>,
}

impl Feasibility {
    /// Takes note of what a trial says of its start.
    pub fn note(&mut self, trial: &Trial, outcome: &Outcome) {
        match outcome {
            // Of a start from a file, the file may be to blame.
            Outcome::Refused(_) if trial.config_file.is_some() => {}
            Outcome::Refused(failure) if failure.foreseen.is_some() => {}
            // Such a server had started.
            Outcome::Refused(failure) if failure.class == FailureClass::OutOfMemory => {
                self.started.push(trial.clone());
            }
            Outcome::Refused(failure) => self.refused.push((trial.clone(), failure.clone())),
            Outcome::Measured(_) => self.started.push(trial.clone()),
        }
    }

    /// Why a start is bound to fail, if it is: the same setting failed and never started, or one
    /// that needs less memory failed.
    pub fn foresee(&self, trial: &Trial) -> Option<SettingFailure> {
        let alike = |other: &Trial| other.env == trial.env && other.identity == trial.identity;
        if self.started.iter().any(|other| alike(other) && other.args == trial.args) {
            return None;
        }
        self.refused.iter().filter(|(other, _)| alike(other)).find_map(|(other, failure)| {
            let why = if other.args == trial.args {
                "the same setting failed at another start".to_owned()
            } else if failure.class.is_memory_of_start() {
                self.beyond(trial, other)?
            } else {
                return None;
            };
            Some(SettingFailure { foreseen: Some(why), ..failure.clone() })
        })
    }

    /// In words that `trial` needs at least the memory that `refused` did not get.
    fn beyond(&self, trial: &Trial, refused: &Trial) -> Option<String> {
        let turned = differences(&refused.args, &trial.args)?;
        let needs_more = |&(flag, from, to): &(&str, f64, f64)| {
            match flags::find(flag).and_then(|flag| flag.more_needs_memory) {
                Some(Memory::Increasing) => to > from,
                Some(Memory::Decreasing) => to < from,
                // The way is known only where one argument turns, and from which side it failed.
                Some(Memory::Between) => {
                    turned.len() == 1 && self.starts_before(refused, flag, from, to)
                }
                None => false,
            }
        };
        let sides = |side: fn(&(&str, f64, f64)) -> f64| {
            let pairs = turned.iter().map(|turn| format!("{} {}", turn.0, side(turn)));
            pairs.collect::<Vec<_>>().join(" with ")
        };
        turned.iter().all(needs_more).then(|| {
            format!(
                "{} failed, and {} lies further out",
                sides(|turn| turn.1),
                sides(|turn| turn.2)
            )
        })
    }

    /// Whether a setting starts from which `from` lies on the way to `to`.
    fn starts_before(&self, refused: &Trial, flag: &str, from: f64, to: f64) -> bool {
        self.started.iter().any(|started| {
            started.env == refused.env
                && started.identity == refused.identity
                && differences(&started.args, &refused.args).is_some_and(|turned| {
                    matches!(turned[..], [(turned, start, _)]
                        if turned == flag && (from - start) * (to - from) > 0.0)
                })
        })
    }
}

/// The arguments that differ, with their values as numbers; `None` where one is set on one side
/// alone or is no number.
fn differences<'a>(a: &'a Args, b: &Args) -> Option<Vec<(&'a str, f64, f64)>> {
    if !a.keys().eq(b.keys()) {
        return None;
    }
    a.iter()
        .filter(|(flag, value)| b[*flag] != **value)
        .map(|(flag, value)| Some((flag.as_str(), value.as_f64()?, ArgValue::as_f64(&b[flag])?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trial::example_trial as trial;

    fn refused(class: FailureClass) -> Outcome {
        let evidence = vec!["no memory".to_owned()];
        Outcome::Refused(SettingFailure { class, evidence, foreseen: None })
    }

    /// Marks a start that served, as far as the feasibility is concerned.
    fn started() -> Outcome {
        refused(FailureClass::OutOfMemory)
    }

    fn feasibility(known: &[(&[(&str, &str)], Outcome)]) -> Feasibility {
        let mut feasibility = Feasibility::default();
        known.iter().for_each(|(args, outcome)| feasibility.note(&trial(args), outcome));
        feasibility
    }

    fn why(feasibility: &Feasibility, args: &[(&str, &str)]) -> Option<String> {
        feasibility.foresee(&trial(args))?.foreseen
    }

    #[test]
    fn what_needs_more_memory_than_one_that_failed_is_not_tried() {
        let known =
            feasibility(&[(&[("max-num-seqs", "4096")], refused(FailureClass::SamplerWarmUp))]);
        let foreseen = known.foresee(&trial(&[("max-num-seqs", "8192")])).expect("it needs more");
        assert_eq!(foreseen.class, FailureClass::SamplerWarmUp);
        assert_eq!(foreseen.evidence, ["no memory"]);
        assert_eq!(
            foreseen.foreseen.as_deref(),
            Some("max-num-seqs 4096 failed, and max-num-seqs 8192 lies further out")
        );
        assert_eq!(why(&known, &[("max-num-seqs", "2048")]), None);
        assert_eq!(why(&known, &[("max-num-batched-tokens", "8192")]), None, "another flag");
        let two = [("max-num-seqs", "8192"), ("seed", "1")];
        assert_eq!(why(&known, &two), None, "the default of seed is not known to be the same");

        let known = feasibility(&[(
            &[("max-num-seqs", "64"), ("tensor-parallel-size", "2"), ("seed", "0")],
            refused(FailureClass::ModelMemory),
        )]);
        let with = |seqs, parallel, seed| {
            [("max-num-seqs", seqs), ("tensor-parallel-size", parallel), ("seed", seed)]
        };
        assert!(why(&known, &with("128", "1", "0")).is_some());
        assert_eq!(why(&known, &with("128", "4", "0")), None);
        assert_eq!(why(&known, &with("128", "1", "1")), None, "nothing is known of seed");
    }

    #[test]
    fn a_combination_says_nothing_of_others_but_all_of_itself() {
        let known =
            feasibility(&[(&[("max-num-seqs", "512")], refused(FailureClass::BadCombination))]);
        assert_eq!(why(&known, &[("max-num-seqs", "1024")]), None);
        let again = Trial { replicate: 1, ..trial(&[("max-num-seqs", "512")]) };
        assert!(known.foresee(&again).is_some());
        let mut both = feasibility(&[(&[("max-num-seqs", "512")], started())]);
        both.note(&trial(&[("max-num-seqs", "512")]), &refused(FailureClass::KvCacheMemory));
        assert_eq!(both.foresee(&again), None, "it may start again");
        let mut from_file = Feasibility::default();
        let file = Trial { config_file: Some("max-num-seqs: 512".to_owned()), ..again.clone() };
        from_file.note(&file, &refused(FailureClass::BadCombination));
        assert_eq!(from_file.foresee(&again), None, "the file may be to blame");
        let elsewhere = Trial { identity: "another engine".into(), ..again };
        assert_eq!(known.foresee(&elsewhere), None);
    }

    #[test]
    fn a_flag_of_two_edges_needs_a_start_to_see_which_one() {
        let at = |value| [("gpu-memory-utilization", value)];
        let low = (at("0.2"), refused(FailureClass::KvCacheMemory));
        let high = (at("0.96"), refused(FailureClass::SamplerWarmUp));
        let runs = (at("0.9"), started());
        let known = feasibility(&[(&low.0, low.1), (&high.0, high.1)]);
        assert_eq!(why(&known, &at("0.1")), None, "it might be the upper edge");
        let known = feasibility(&[
            (&at("0.2"), refused(FailureClass::KvCacheMemory)),
            (&at("0.96"), refused(FailureClass::SamplerWarmUp)),
            (&runs.0, runs.1),
        ]);
        assert!(why(&known, &at("0.1")).is_some() && why(&known, &at("0.98")).is_some());
        assert_eq!(why(&known, &at("0.3")), None);
        assert_eq!(why(&known, &at("0.95")), None);
    }

    #[test]
    fn what_is_foreseen_proves_nothing() {
        let mut known = Feasibility::default();
        let foreseen = SettingFailure {
            class: FailureClass::KvCacheMemory,
            evidence: Vec::new(),
            foreseen: Some("another failed".to_owned()),
        };
        known.note(&trial(&[("max-num-seqs", "8")]), &Outcome::Refused(foreseen));
        assert_eq!(why(&known, &[("max-num-seqs", "9")]), None);
    }

    proptest! {
        /// Where an engine has one upper edge, no value that runs is ever left out.
        #[test]
        fn no_value_that_runs_is_left_out(edge in 2_i64..100, tried in prop::collection::vec(1_i64..100, 0..8), next in 1_i64..100) {
            let mut known = Feasibility::default();
            for value in tried {
                let outcome = if value < edge { started() } else { refused(FailureClass::KvCacheMemory) };
                known.note(&trial(&[("max-num-seqs", &value.to_string())]), &outcome);
                known.note(&trial(&[("gpu-memory-utilization", &value.to_string())]), &outcome);
            }
            for flag in ["max-num-seqs", "gpu-memory-utilization"] {
                let foreseen = why(&known, &[(flag, &next.to_string())]);
                prop_assert!(foreseen.is_none() || next >= edge);
            }
        }
    }
}
