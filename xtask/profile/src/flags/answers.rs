//! Which flags may change what a model answers.

use bench_core::schema::{ArgValue, Args};

use super::{Answers, environment::variable, known::find};

/// Why a flag may change answers when it is set to this value; `None` where it does not by design. Of a
/// flag of which nothing is known, it may.
pub fn changes_answers(name: &str, value: &ArgValue) -> Option<&'static str> {
    match find(name).map(|flag| flag.answers) {
        None if variable(name).is_some() => Some("nothing is known of this variable"),
        None => Some("nothing is known of this flag"),
        Some(Answers::Same) => None,
        Some(Answers::MayChange { why, except }) => {
            (!except.contains(&value.to_string().as_str())).then_some(why)
        }
    }
}

/// Those of a setting's arguments that may change answers, against a server with the arguments `base`.
pub fn that_change_answers(args: &Args, base: &Args) -> Args {
    let is_other = |name: &String, value: &ArgValue| base.get(name) != Some(value);
    let changing = |(name, value): &(&String, &ArgValue)| {
        is_other(name, value) && changes_answers(name, value).is_some()
    };
    args.iter().filter(changing).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What today's sweeps turn leaves answers as they are; number formats and the unknown do not.
    #[test]
    fn what_may_change_answers_is_told_from_what_does_not() {
        let same = [
            ("max-num-seqs", ArgValue::Int(256)),
            ("max-num-batched-tokens", ArgValue::Int(256)),
            ("gpu-memory-utilization", ArgValue::Text("0.9".into())),
            ("api-server-count", ArgValue::Int(4)),
            ("enable-prefix-caching", ArgValue::Bool(false)),
            ("async-scheduling", ArgValue::Bool(false)),
            ("kv-cache-dtype", ArgValue::Text("auto".into())),
            ("performance-mode", ArgValue::Text("balanced".into())),
        ];
        for (name, value) in &same {
            assert_eq!(changes_answers(name, value), None, "{name} {value}");
        }
        let fp8 = || ArgValue::Text("fp8".into());
        for name in
            ["quantization", "kv-cache-dtype", "speculative-config", "a-new-flag", "env.A_VARIABLE"]
        {
            assert!(changes_answers(name, &fp8()).is_some(), "{name}");
        }
        let args: Args = same.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut with_fp8 = args.clone();
        with_fp8.insert("quantization".into(), fp8());
        assert_eq!(that_change_answers(&args, &Args::new()), Args::new());
        let changing = that_change_answers(&with_fp8, &Args::new());
        assert_eq!(changing, Args::from([("quantization".to_owned(), fp8())]));
        assert_eq!(that_change_answers(&with_fp8, &with_fp8), Args::new(), "the base has it too");
    }
}
