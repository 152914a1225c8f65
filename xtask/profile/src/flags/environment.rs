//! Environment variables among the arguments of a setting.
//!
//! A setting is one map, so that sweeps, combinations, tests of single arguments and results treat a variable
//! as they treat a flag: the variable `NAME` is the argument `env.NAME`, which no flag can be called. Where
//! a server is started or its command written, the two are taken apart.

use std::collections::BTreeMap;

use bench_core::schema::{ArgValue, Args};

const PREFIX: &str = "env.";

/// The argument that stands for an environment variable.
pub fn argument(variable: &str) -> String {
    format!("{PREFIX}{variable}")
}

/// The environment variable that an argument stands for; `None` for a flag.
pub fn variable(argument: &str) -> Option<&str> {
    argument.strip_prefix(PREFIX)
}

/// Flags and variables of a setting, apart.
pub fn split(args: Args) -> (Args, BTreeMap<String, String>) {
    let mut env = BTreeMap::new();
    let mut flags = Args::new();
    for (name, value) in args {
        match variable(&name) {
            Some(variable) => drop(env.insert(variable.to_owned(), value.to_string())),
            None => drop(flags.insert(name, value)),
        }
    }
    (flags, env)
}

/// One argument in words: `max-num-seqs 256`, `VLLM_USE_X=1`.
pub fn in_words(name: &str, value: &ArgValue) -> String {
    match variable(name) {
        Some(variable) => format!("{variable}={value}"),
        None => format!("{name} {value}"),
    }
}

/// Arguments as the short name of a setting: `VLLM_USE_X=1 max-num-seqs=256`.
pub fn label(args: &Args) -> String {
    let pair =
        |(name, value): (&String, &ArgValue)| format!("{}={value}", variable(name).unwrap_or(name));
    args.iter().map(pair).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_told_from_flags() {
        let one = || ArgValue::Text("1".to_owned());
        let args = Args::from([
            (argument("VLLM_USE_X"), one()),
            ("max-num-seqs".to_owned(), ArgValue::Int(256)),
        ]);
        assert_eq!(label(&args), "VLLM_USE_X=1 max-num-seqs=256");
        let words: Vec<_> = args.iter().map(|(name, value)| in_words(name, value)).collect();
        assert_eq!(words, ["VLLM_USE_X=1", "max-num-seqs 256"]);
        let (flags, env) = split(args);
        assert_eq!(flags, Args::from([("max-num-seqs".to_owned(), ArgValue::Int(256))]));
        assert_eq!(env, BTreeMap::from([("VLLM_USE_X".to_owned(), "1".to_owned())]));
    }
}
