//! Combinations of flags that vLLM refuses, known before a start is spent on them.

use bench_core::schema::{ArgValue, Args};

/// A combination that vLLM refuses at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The flags at odds.
    pub flags: &'static [&'static str],
    /// What is wrong, with the values.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// What vLLM refuses about these arguments, as far as it can be told from them and from the
/// defaults that are known of the engine. What is not known is not refused.
///
/// Source: `SchedulerConfig.verify_max_model_len` and
/// `EngineArgs._set_default_max_num_seqs_and_batched_tokens_args` of vLLM 0.32.0.
pub fn check_combination(args: &Args, defaults: &Args) -> Option<Refusal> {
    let effective = Effective::new(args, defaults);
    RULES.iter().find_map(|(flags, rule)| Some(Refusal { flags, message: rule(&effective)? }))
}

type Rule = fn(&Effective) -> Option<String>;

static RULES: &[(&[&str], Rule)] = &[
    (&["max-num-batched-tokens", "max-num-seqs"], |e| {
        let (budget, seqs) = (e.budget?, e.seqs?);
        (budget < seqs)
            .then(|| format!("max-num-batched-tokens ({budget}) is below max-num-seqs ({seqs})"))
    }),
    (&["max-num-batched-tokens", "enable-chunked-prefill", "max-model-len"], |e| {
        let (budget, longest) = (e.budget?, e.model_len?);
        (!e.chunked && budget < longest).then(|| {
            format!(
                "max-num-batched-tokens ({budget}) is below max-model-len ({longest}) while \
                 chunked prefill is off"
            )
        })
    }),
    (&["long-prefill-token-threshold", "max-model-len"], |e| {
        let (threshold, longest) = (e.long_prefill?, e.model_len?);
        (threshold > longest).then(|| {
            format!("long-prefill-token-threshold ({threshold}) is above max-model-len ({longest})")
        })
    }),
    (&["max-num-active-seqs", "max-num-seqs"], |e| {
        let (active, seqs) = (e.active_seqs?, e.seqs?);
        (active > seqs)
            .then(|| format!("max-num-active-seqs ({active}) is above max-num-seqs ({seqs})"))
    }),
];

/// The values that the rules speak of, as vLLM resolves them; `None` where that is not known.
struct Effective {
    seqs: Option<i64>,
    budget: Option<i64>,
    model_len: Option<i64>,
    chunked: bool,
    long_prefill: Option<i64>,
    active_seqs: Option<i64>,
}

impl Effective {
    fn new(args: &Args, defaults: &Args) -> Self {
        let default = |name| int(defaults, name);
        let model_len = match args.get("max-model-len") {
            Some(ArgValue::Int(n)) => Some(*n),
            // The length that memory allows, which nobody knows yet.
            Some(_) => None,
            None => default("max-model-len"),
        };
        let chunked = args
            .get("enable-chunked-prefill")
            .or_else(|| defaults.get("enable-chunked-prefill"))
            .is_none_or(|value| *value != ArgValue::Bool(false));
        let explicit_seqs = int(args, "max-num-seqs");
        let explicit_budget = int(args, "max-num-batched-tokens");
        let doubled = args.get("performance-mode") == Some(&ArgValue::Text("throughput".into()));
        let scale = if doubled { 2 } else { 1 };

        let default_seqs = default("max-num-seqs").map(|n| n.saturating_mul(scale));
        let budget = explicit_budget.or_else(|| {
            let budget = default("max-num-batched-tokens")?.saturating_mul(scale);
            if chunked {
                return Some(budget);
            }
            // Without chunks vLLM raises its default to hold the longest prompt.
            Some(budget.max(model_len?))
        });
        let seqs = explicit_seqs.or_else(|| Some(default_seqs?.min(budget?)));
        Self {
            seqs,
            budget,
            model_len,
            chunked,
            long_prefill: int(args, "long-prefill-token-threshold"),
            active_seqs: int(args, "max-num-active-seqs"),
        }
    }
}

fn int(args: &Args, name: &str) -> Option<i64> {
    match args.get(name)? {
        ArgValue::Int(n) => Some(*n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pairs: &[(&str, i64)]) -> Args {
        pairs.iter().map(|(name, n)| ((*name).to_owned(), ArgValue::Int(*n))).collect()
    }

    fn refused(pairs: &[(&str, i64)], chunked: bool, defaults: &[(&str, i64)]) -> Option<String> {
        let mut args = args(pairs);
        if !chunked {
            args.insert("enable-chunked-prefill".into(), ArgValue::Bool(false));
        }
        check_combination(&args, &self::args(defaults)).map(|refusal| refusal.to_string())
    }

    const H100: &[(&str, i64)] = &[("max-num-seqs", 1024), ("max-num-batched-tokens", 8192)];

    #[test]
    fn a_budget_holds_one_token_for_each_running_request() {
        let both = [("max-num-seqs", 512), ("max-num-batched-tokens", 256)];
        assert_eq!(
            refused(&both, true, &[]).as_deref(),
            Some("max-num-batched-tokens (256) is below max-num-seqs (512)")
        );
        assert_eq!(refused(&[("max-num-seqs", 4096)], true, H100), None);
        assert!(refused(&[("max-num-seqs", 16_384)], true, H100).is_some());
        assert_eq!(refused(&[("max-num-seqs", 16_384)], true, &[]), None, "budget not known");
        // vLLM lowers its own default of max-num-seqs to the budget.
        assert_eq!(refused(&[("max-num-batched-tokens", 512)], true, H100), None);
    }

    #[test]
    fn without_chunks_the_budget_holds_the_longest_prompt() {
        let small = [("max-model-len", 4096), ("max-num-batched-tokens", 2048)];
        assert!(refused(&small, false, H100).is_some());
        assert_eq!(refused(&small, true, H100), None);
        assert_eq!(refused(&small[1..], false, &[]), None, "length not known");
        assert_eq!(refused(&[("max-model-len", 32_768)], false, H100), None, "raised");
    }

    #[test]
    fn thresholds_stay_within_what_they_divide() {
        let threshold = [("long-prefill-token-threshold", 5000), ("max-model-len", 4096)];
        assert!(refused(&threshold, true, H100).is_some());
        let active = [("max-num-active-seqs", 32), ("max-num-seqs", 16)];
        assert!(refused(&active, true, H100).is_some());
    }

    #[test]
    fn rules_name_flags_that_exist() {
        for name in RULES.iter().flat_map(|(flags, _)| *flags) {
            assert!(super::super::exists(name), "{name}");
        }
    }
}
