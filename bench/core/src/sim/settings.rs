//! vLLM's arguments as it would resolve them, or why it would refuse them.

use super::{model::Model, scheduler::Limits};
use crate::{
    decimal::Decimal,
    schema::{ArgValue, Args, FailureClass, SettingFailure},
};

/// Resolved arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--max-num-seqs`.
    pub max_num_seqs: u32,
    /// `--max-num-batched-tokens`.
    pub max_num_batched_tokens: u32,
    /// `--max-model-len`.
    pub max_model_len: u32,
    /// `--enable-chunked-prefill`.
    pub chunked_prefill: bool,
    /// `--enable-prefix-caching`.
    pub prefix_caching: bool,
    /// `--long-prefill-token-threshold`.
    pub long_prefill_token_threshold: u32,
    /// `--async-scheduling`.
    pub async_scheduling: bool,
    /// `--block-size`.
    pub block_size: u32,
    /// `--gpu-memory-utilization`.
    pub gpu_memory_utilization: Decimal,
    /// `--enforce-eager`.
    pub enforce_eager: bool,
    /// `--api-server-count`.
    pub api_server_count: u32,
    /// `--tensor-parallel-size`: cards that share each layer.
    pub tensor_parallel_size: u32,
    /// `--data-parallel-size`: engines, each with a whole model.
    pub data_parallel_size: u32,
    /// `--num-gpu-blocks-override`.
    pub num_gpu_blocks_override: Option<u32>,
    /// Sizes of the CUDA graphs, ascending; none with `--enforce-eager`.
    pub graph_tokens: Vec<u32>,
}

impl Settings {
    /// What vLLM resolves `args` to on the model's machine.
    ///
    /// # Errors
    /// What vLLM refuses before it looks at the device's memory: an unknown flag, a value outside
    /// its domain, a combination that makes no sense.
    pub fn from_args(model: &Model, args: &Args) -> Result<Self, SettingFailure> {
        for flag in args.keys().filter(|flag| !model.models(flag)) {
            let mut planted = model.effects.iter().filter(|effect| effect.flag == *flag).peekable();
            if planted.peek().is_none() {
                return Err(refused(format!("error: unrecognized arguments: --{flag}")));
            }
            if !planted.any(|effect| effect.is_on(args)) {
                let value = &args[flag];
                return Err(refused(format!(
                    "error: argument --{flag}: invalid choice: '{value}'"
                )));
            }
        }
        let defaults = &model.defaults;
        let data_parallel_size = count(args, "data-parallel-size", 1)?.unwrap_or(1);
        let mut settings = Self {
            max_num_seqs: count(args, "max-num-seqs", 1)?.unwrap_or(defaults.max_num_seqs),
            max_num_batched_tokens: 0,
            max_model_len: count(args, "max-model-len", 1)?.unwrap_or(defaults.max_model_len),
            chunked_prefill: switch(args, "enable-chunked-prefill")?.unwrap_or(true),
            prefix_caching: switch(args, "enable-prefix-caching")?.unwrap_or(true),
            long_prefill_token_threshold: count(args, "long-prefill-token-threshold", 0)?
                .unwrap_or(0),
            async_scheduling: switch(args, "async-scheduling")?.unwrap_or(true),
            block_size: count(args, "block-size", 1)?.unwrap_or(defaults.block_size),
            gpu_memory_utilization: utilization(args)?.unwrap_or(defaults.gpu_memory_utilization),
            enforce_eager: switch(args, "enforce-eager")?.unwrap_or(false),
            // Of several engines each has an API server (`vllm/entrypoints/cli/serve.py`).
            api_server_count: count(args, "api-server-count", 1)?.unwrap_or(data_parallel_size),
            tensor_parallel_size: count(args, "tensor-parallel-size", 1)?.unwrap_or(1),
            data_parallel_size,
            num_gpu_blocks_override: count(args, "num-gpu-blocks-override", 1)?,
            graph_tokens: Vec::new(),
        };
        settings.resolve_budget(model, args)?;
        settings.check(model)?;
        if !settings.enforce_eager {
            settings.graph_tokens = settings.graph_sizes(defaults.graph_tokens_max);
        }
        Ok(settings)
    }

    /// The token budget and what depends on it (`vllm/engine/arg_utils.py`).
    fn resolve_budget(&mut self, model: &Model, args: &Args) -> Result<(), SettingFailure> {
        let given = count(args, "max-num-batched-tokens", 1)?;
        self.max_num_batched_tokens = given.unwrap_or_else(|| {
            let floor = if self.chunked_prefill { 0 } else { self.max_model_len };
            let most = self.max_num_seqs.saturating_mul(self.max_model_len);
            model.defaults.max_num_batched_tokens.max(floor).min(most)
        });
        if !args.contains_key("max-num-seqs") {
            self.max_num_seqs = self.max_num_seqs.min(self.max_num_batched_tokens);
        }
        Ok(())
    }

    /// What vLLM refuses together (`vllm/config/scheduler.py`, `vllm/config/model.py`).
    fn check(&self, model: &Model) -> Result<(), SettingFailure> {
        let (budget, seqs, len) =
            (self.max_num_batched_tokens, self.max_num_seqs, self.max_model_len);
        let len_max = model.defaults.max_model_len_max;
        if len > len_max {
            let line = format!(
                "Value error, User-specified max_model_len ({len}) is greater than the derived \
                 max_model_len (max_position_embeddings={len_max} or model_max_length=None in \
                 model's config.json)."
            );
            return Err(SettingFailure {
                class: FailureClass::MaxModelLen,
                evidence: vec![line],
                foreseen: None,
            });
        }
        if budget < len && !self.chunked_prefill {
            return Err(refused(format!(
                "Value error, max_num_batched_tokens ({budget}) is smaller than max_model_len \
                 ({len}). This effectively limits the maximum sequence length to \
                 max_num_batched_tokens and makes vLLM reject longer sequences. Please increase \
                 max_num_batched_tokens or decrease max_model_len."
            )));
        }
        if budget < seqs {
            return Err(refused(format!(
                "Value error, max_num_batched_tokens ({budget}) must be greater than or equal to \
                 max_num_seqs ({seqs})."
            )));
        }
        let devices = u64::from(self.tensor_parallel_size) * u64::from(self.data_parallel_size);
        let cards = model.cards.as_ref();
        let count = cards.map_or(1, |cards| cards.count);
        if devices > u64::from(count) {
            return Err(refused(format!(
                "ValueError: World size ({devices}) is larger than the number of available GPUs ({count}) in \
                 this node."
            )));
        }
        if let Some(line) = cards.and_then(|cards| cards.refusal(self.tensor_parallel_size)) {
            return Err(refused(line));
        }
        if self.long_prefill_token_threshold > len {
            return Err(refused(format!(
                "Value error, long_prefill_token_threshold ({}) cannot be greater than the \
                 max_model_len ({len}).",
                self.long_prefill_token_threshold
            )));
        }
        Ok(())
    }

    /// Sizes of the captured graphs (`vllm/config/vllm.py`, `_set_cudagraph_sizes`): 1, 2, 4,
    /// then in steps of 8 to 256 and of 16 beyond.
    fn graph_sizes(&self, tokens_max: u32) -> Vec<u32> {
        let budget = self.max_num_batched_tokens;
        let most = self.max_num_seqs.saturating_mul(2).min(tokens_max).min(budget);
        let steps =
            [1, 2, 4].into_iter().chain((8..256).step_by(8)).chain((256..=most).step_by(16));
        let mut sizes: Vec<u32> = steps.filter(|size| *size <= most).collect();
        if budget == most && sizes.last() != Some(&budget) {
            sizes.push(budget);
        }
        sizes
    }

    /// The scheduler's part of the settings.
    pub fn limits(&self, num_blocks: u32) -> Limits {
        Limits {
            max_num_seqs: self.max_num_seqs,
            max_num_batched_tokens: self.max_num_batched_tokens,
            max_model_len: self.max_model_len,
            chunked_prefill: self.chunked_prefill,
            prefix_caching: self.prefix_caching,
            long_prefill_token_threshold: self.long_prefill_token_threshold,
            block_size: self.block_size,
            num_blocks,
        }
    }
}

fn refused(line: String) -> SettingFailure {
    SettingFailure { class: FailureClass::BadCombination, evidence: vec![line], foreseen: None }
}

fn count(args: &Args, flag: &str, min: u32) -> Result<Option<u32>, SettingFailure> {
    let Some(value) = args.get(flag) else { return Ok(None) };
    let number = match value {
        ArgValue::Int(n) => u32::try_from(*n).ok(),
        ArgValue::Text(text) => text.parse().ok(),
        ArgValue::Bool(_) | ArgValue::List(_) => None,
    };
    match number {
        Some(n) if n >= min => Ok(Some(n)),
        _ => Err(invalid(flag, value, &format!("an integer of at least {min}"))),
    }
}

fn switch(args: &Args, flag: &str) -> Result<Option<bool>, SettingFailure> {
    match args.get(flag) {
        None => Ok(None),
        Some(ArgValue::Bool(on)) => Ok(Some(*on)),
        Some(value) => Err(invalid(flag, value, "true or false")),
    }
}

fn utilization(args: &Args) -> Result<Option<Decimal>, SettingFailure> {
    let flag = "gpu-memory-utilization";
    let Some(value) = args.get(flag) else { return Ok(None) };
    match value.to_string().parse::<Decimal>() {
        Ok(share) if (1..=1_000_000).contains(&share.millionths()) => Ok(Some(share)),
        _ => Err(invalid(flag, value, "above 0 and at most 1")),
    }
}

fn invalid(flag: &str, value: &ArgValue, expected: &str) -> SettingFailure {
    refused(format!("error: argument --{flag}: invalid value: {value}, expected {expected}"))
}
