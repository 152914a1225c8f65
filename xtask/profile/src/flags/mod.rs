//! What is known of vLLM's flags.
//!
//! Any flag of `vllm serve` works without being known here. Knowledge buys better messages, a
//! canonical value (so that `0.9` and `0.90` are one key), refusals before a start instead of
//! after, and sweeps that skip values which need still more memory than one that failed.
//! Checked against vLLM 0.32.0 (`vllm/engine/arg_utils.py`, `vllm/config/`); a new flag is one
//! entry of [`known::FLAGS`].

mod answers;
mod command_line;
mod environment;
mod known;
mod rules;

pub use answers::{changes_answers, that_change_answers};
pub use command_line::{shell_word, to_command_line, to_shell, to_yaml};
pub use environment::{argument, in_words, label, split, variable};
pub use known::{FLAGS, find};
pub use rules::{Refusal, check_combination};

use bench_core::{decimal::Decimal, schema::ArgValue};

/// Every long flag of `vllm serve` 0.32.0, one a line.
static NAMES: &str = include_str!("names-0.32.txt");

/// What is known of one flag.
#[derive(Debug)]
pub struct Flag {
    /// Name without the dashes.
    pub name: &'static str,
    /// Values it takes.
    pub kind: Kind,
    /// vLLM's default, in words where it depends on the machine or the model.
    pub default: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// `Some` where the flag moves the memory that a start needs: which values need more.
    pub more_needs_memory: Option<Memory>,
    /// Whether another value finds the same torch.compile cache, so that a start stays short.
    pub compile_cache_ignores: bool,
    /// Whether another value may change what the model answers.
    pub answers: Answers,
}

/// Whether a flag may change what the model answers, beyond the noise of another batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// By design it does not.
    Same,
    /// It may.
    MayChange {
        /// Why, in words that stand alone.
        why: &'static str,
        /// Values that are the default under a name.
        except: &'static [&'static str],
    },
}

/// Which values of a flag need more memory to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Larger values: once one failed for want of memory, larger ones fail too.
    Increasing,
    /// Smaller values.
    Decreasing,
    /// Neither: too little leaves no room for one thing, too much none for another. Beyond one
    /// that failed, seen from one that runs, all fail.
    Between,
}

/// The values that a flag takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `--flag` or `--no-flag`.
    Bool,
    /// An integer of a range.
    Int {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// An integer of a range, or `auto`.
    IntOrAuto {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A decimal number of a range.
    Decimal {
        /// Least, in millionths; with `min_excluded`, already too small.
        min: i64,
        /// Whether `min` itself is refused.
        min_excluded: bool,
        /// Greatest, in millionths.
        max: i64,
    },
    /// One of these.
    Choice(&'static [&'static str]),
    /// One of these in the versions that were looked at; others may know more.
    Named(&'static [&'static str]),
    /// A list of integers.
    Ints,
    /// JSON, or a table of TOML.
    Json,
}

/// Whether vLLM has a flag of that name, as far as is known.
pub fn exists(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Every name that is known to be a flag's.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    NAMES.lines()
}

/// The flag that was meant, where a name looks like a slip of one.
///
/// Versions differ in their flags, so a name that is merely unknown is none.
pub fn slip(name: &str) -> Option<&'static str> {
    let distance = |known: &str| strsim::damerau_levenshtein(name, known);
    let nearest = names().min_by_key(|known| distance(known))?;
    (1..=2).contains(&distance(nearest)).then_some(nearest)
}

/// Why the bench sets this flag itself, where it does.
pub fn reserved(name: &str) -> Option<&'static str> {
    Some(match name {
        "model" | "model-tag" => "the model is `model` in [engine]",
        "served-model-name" | "host" | "port" | "uds" | "root-path" => {
            "the bench decides where the server listens and under which name it serves"
        }
        "config" => "its flags belong here, where they are part of every key",
        "api-key" | "ssl-keyfile" | "ssl-certfile" | "ssl-ca-certs" => {
            "the bench talks to its own server, in the clear on the loopback interface"
        }
        "disable-log-stats" => "without it /metrics is empty and queue time cannot be told",
        "headless" | "grpc" => "such a server has no OpenAI API to measure",
        _ => return None,
    })
}

impl Kind {
    /// The value in its canonical form, so that equal settings have equal keys.
    ///
    /// # Errors
    ///
    /// What the flag expects, as in "expected an integer from 1 to 8".
    pub fn normalize(&self, value: ArgValue) -> Result<ArgValue, String> {
        let fits = match (self, &value) {
            (Self::Bool, ArgValue::Bool(_)) | (Self::Json, ArgValue::Int(_)) => true,
            (Self::Json, ArgValue::Text(text)) => {
                match serde_json::from_str::<serde_json::Value>(text) {
                    Ok(json) => return Ok(ArgValue::Text(json.to_string())),
                    Err(_) => false,
                }
            }
            (Self::Int { min, max } | Self::IntOrAuto { min, max }, ArgValue::Int(n)) => {
                (min..=max).contains(&n)
            }
            (Self::IntOrAuto { .. }, ArgValue::Text(text)) => text == "auto",
            (Self::Decimal { min, min_excluded, max }, ArgValue::Int(_) | ArgValue::Text(_)) => {
                let decimal = value.to_string().parse::<Decimal>().ok();
                let fits = decimal.is_some_and(|d| {
                    (*min..=*max).contains(&d.millionths())
                        && !(*min_excluded && d.millionths() == *min)
                });
                if let (true, Some(decimal)) = (fits, decimal) {
                    return Ok(ArgValue::Text(decimal.to_string()));
                }
                false
            }
            (Self::Choice(choices) | Self::Named(choices), ArgValue::Text(text)) => {
                choices.contains(&text.as_str())
            }
            (Self::Ints, ArgValue::List(items)) => {
                items.iter().all(|item| item.parse::<i64>().is_ok())
            }
            _ => false,
        };
        if fits { Ok(value) } else { Err(format!("expected {}", self.expected())) }
    }

    /// The values, in words that follow "expected".
    fn expected(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int { min, max } => format!("an integer from {min} to {max}"),
            Self::IntOrAuto { min, max } => {
                format!("an integer from {min} to {max}, or \"auto\"")
            }
            Self::Decimal { min, min_excluded, max } => format!(
                "a number {} {} up to {}",
                if *min_excluded { "above" } else { "from" },
                Decimal::from_millionths(*min),
                Decimal::from_millionths(*max)
            ),
            Self::Choice(choices) | Self::Named(choices) => {
                format!("one of {}", choices.join(", "))
            }
            Self::Ints => "a list of integers".to_owned(),
            Self::Json => "a table, or text in JSON".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_exist() {
        let mut seen = std::collections::BTreeSet::new();
        for flag in FLAGS {
            assert!(seen.insert(flag.name), "{} is defined twice", flag.name);
            assert!(exists(flag.name), "vLLM 0.32 has no {}", flag.name);
            assert!(!flag.help.is_empty() && !flag.default.is_empty(), "{}", flag.name);
            assert!(reserved(flag.name).is_none(), "{}", flag.name);
        }
        let sorted: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert!(sorted.is_sorted(), "keep the slice in alphabetical order");
        assert!(NAMES.lines().is_sorted());
    }

    #[test]
    fn equal_numbers_have_one_value() {
        let kind = find("gpu-memory-utilization").expect("known").kind;
        for text in ["0.90", "0.9", "0.900000"] {
            let value = kind.normalize(ArgValue::Text(text.into()));
            assert_eq!(value, Ok(ArgValue::Text("0.9".into())));
        }
        assert_eq!(kind.normalize(ArgValue::Int(1)), Ok(ArgValue::Text("1".into())));
    }

    #[test]
    fn values_outside_the_domain_are_refused() {
        let text = |text: &str| ArgValue::Text(text.into());
        for (name, value) in [
            ("gpu-memory-utilization", text("0")),
            ("gpu-memory-utilization", text("1.000001")),
            ("gpu-memory-utilization", ArgValue::Bool(true)),
            ("max-num-seqs", ArgValue::Int(0)),
            ("max-num-seqs", text("256")),
            ("max-model-len", text("4k")),
            ("enforce-eager", ArgValue::Int(1)),
            ("scheduling-policy", text("lifo")),
            ("cudagraph-capture-sizes", ArgValue::List(vec!["a".into()])),
        ] {
            let flag = find(name).expect("known");
            assert!(flag.kind.normalize(value.clone()).is_err(), "{name} = {value}");
        }
    }
}
