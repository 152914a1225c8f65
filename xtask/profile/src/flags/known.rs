//! The flags of which something is known, in alphabetical order.

use super::{Answers, Flag, Kind, Memory};

const MANY: i64 = 1 << 30;

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help,
        more_needs_memory: None,
        compile_cache_ignores: false,
        answers: Answers::Same,
    }
}

impl Flag {
    const fn needs(mut self, memory: Memory) -> Self {
        self.more_needs_memory = Some(memory);
        self
    }

    const fn cached(mut self) -> Self {
        self.compile_cache_ignores = true;
        self
    }

    const fn changes_answers(mut self, why: &'static str, except: &'static [&'static str]) -> Self {
        self.answers = Answers::MayChange { why, except };
        self
    }
}

/// Everything known, one definition a flag.
///
/// Defaults are those of the OpenAI server in 0.22.1 and 0.32.0. What the compile cache ignores
/// follows `compute_hash` of vLLM's configuration classes.
///
/// Flags that only change which requests share a step, in which order sums are made, or when a token is
/// sent leave answers as they are by design: the rounding of another batch is the noise by which the
/// reference setting differs from itself from start to start.
pub static FLAGS: &[Flag] = &[
    flag(
        "api-server-count",
        Kind::Int { min: 1, max: 256 },
        "1; the number of data-parallel ranks where there are several",
        "front-end processes that parse requests, tokenize and stream answers",
    )
    .cached(),
    flag(
        "async-scheduling",
        Kind::Bool,
        "on where the executor allows it",
        "schedule the next step while the device computes this one",
    )
    .cached(),
    flag(
        "block-size",
        Kind::Int { min: 1, max: 4096 },
        "16 on a GPU; the attention backend may ask for more",
        "tokens in one block of the KV cache",
    ),
    flag(
        "compilation-config",
        Kind::Json,
        "from the optimization level",
        "torch.compile and CUDA graphs in detail",
    )
    .changes_answers(
        "custom passes fuse and replace operations, some of them with quantized ones",
        &[],
    ),
    flag(
        "cudagraph-capture-sizes",
        Kind::Ints,
        "1, 2, 4, then steps of 8 and 16 up to the largest",
        "batch sizes for which a CUDA graph is captured",
    ),
    flag("data-parallel-size", Kind::Int { min: 1, max: 4096 }, "1", "whole copies of the model"),
    flag(
        "disable-cascade-attn",
        Kind::Bool,
        "true",
        "do without cascade attention for prefixes that a batch shares",
    )
    .cached(),
    flag(
        "dtype",
        Kind::Choice(&["auto", "bfloat16", "float", "float16", "float32", "half"]),
        "auto: the model's own",
        "number format of weights and activations",
    )
    .changes_answers(
        "weights, activations and sums are rounded to another number format",
        &["auto"],
    ),
    flag(
        "enable-chunked-prefill",
        Kind::Bool,
        "true",
        "let a prompt take several steps, so that decoding goes on beside it",
    )
    .cached(),
    flag(
        "enable-expert-parallel",
        Kind::Bool,
        "false",
        "whole experts on each card instead of a part of every expert; for mixtures of experts alone",
    ),
    flag(
        "enable-prefix-caching",
        Kind::Bool,
        "true",
        "reuse the KV blocks of prompts that begin alike",
    )
    .cached(),
    flag(
        "enforce-eager",
        Kind::Bool,
        "false",
        "neither torch.compile nor CUDA graphs: a short start, slow small batches",
    ),
    flag(
        "gpu-memory-utilization",
        Kind::Decimal { min: 0, min_excluded: true, max: 1_000_000 },
        "0.92",
        "share of the device's memory for weights, activations and KV cache",
    )
    // Too little leaves no KV cache, too much leaves nothing for the sampler.
    .needs(Memory::Between)
    .cached(),
    flag(
        "kv-cache-dtype",
        Kind::Named(&[
            "auto",
            "bfloat16",
            "float16",
            "fp8",
            "fp8_ds_mla",
            "fp8_e4m3",
            "fp8_e5m2",
            "fp8_inc",
            "fp8_per_token_head",
            "int4_per_token_head",
            "int8_per_token_head",
            "nvfp4",
            "nvfp4_4over6",
            "nvfp4_ds_mla",
            "turboquant_3bit_nc",
            "turboquant_4bit_nc",
            "turboquant_k3v4_nc",
            "turboquant_k8v4",
            "ultraquant_4bit",
        ]),
        "auto: the model's",
        "number format of the KV cache; fp8 holds twice the tokens",
    )
    .changes_answers(
        "keys and values are rounded to another number format",
        &["auto"],
    ),
    flag(
        "kv-cache-memory-bytes",
        Kind::Int { min: 1, max: i64::MAX },
        "none: from gpu-memory-utilization",
        "size of the KV cache, whatever gpu-memory-utilization says",
    )
    // Too little does not hold one request, too much is not there.
    .needs(Memory::Between)
    .cached(),
    flag(
        "long-prefill-token-threshold",
        Kind::Int { min: 0, max: MANY },
        "0: none",
        "longest piece of one prompt in a step",
    )
    .cached(),
    flag(
        "max-cudagraph-capture-size",
        Kind::Int { min: 1, max: MANY },
        "min(2 × max-num-seqs, 512)",
        "largest batch for which a CUDA graph is captured",
    ),
    flag(
        "max-model-len",
        Kind::IntOrAuto { min: 1, max: MANY },
        "the model's",
        "longest prompt and output together, in tokens",
    )
    // The KV cache must hold one request of this length.
    .needs(Memory::Increasing),
    flag(
        "max-num-batched-tokens",
        Kind::Int { min: 1, max: MANY },
        "8192 from 70 GiB of GPU memory on (16384 from 160), else 2048; on a CPU 2048",
        "tokens in one step: the budget that decoding and prefill share",
    )
    .needs(Memory::Increasing),
    flag(
        "max-num-seqs",
        Kind::Int { min: 1, max: MANY },
        "1024 from 70 GiB of GPU memory on, else 256; on a CPU 128",
        "requests that run at once; others queue",
    )
    .needs(Memory::Increasing),
    flag(
        "num-gpu-blocks-override",
        Kind::Int { min: 1, max: MANY },
        "none: what memory holds",
        "blocks of the KV cache",
    )
    .needs(Memory::Between)
    .cached(),
    flag(
        "optimization-level",
        Kind::Int { min: 0, max: 3 },
        "2",
        "start-up time for speed: 0 is eager, 3 the most",
    )
    .changes_answers(
        "other levels fuse and replace operations",
        &["2"],
    ),
    flag(
        "performance-mode",
        Kind::Choice(&["balanced", "interactivity", "throughput"]),
        "balanced",
        "vLLM's own presets; throughput doubles the default batch sizes",
    )
    .changes_answers(
        "a preset whose contents differ between versions, kernels included",
        &["balanced"],
    ),
    flag("pipeline-parallel-size", Kind::Int { min: 1, max: 4096 }, "1", "stages of layers")
        .needs(Memory::Decreasing),
    flag(
        "prefill-schedule-interval",
        Kind::Int { min: 1, max: MANY },
        "1",
        "steps between two that admit prefill",
    )
    .cached(),
    flag(
        "quantization",
        Kind::Named(&[
            "auto-round",
            "auto_awq",
            "auto_gptq",
            "awq",
            "awq_marlin",
            "bitsandbytes",
            "compressed-tensors",
            "deepseek_v4_fp8",
            "experts_int8",
            "fbgemm_fp8",
            "fp8",
            "fp8_per_block",
            "fp8_per_channel",
            "fp8_per_tensor",
            "fp_quant",
            "gguf",
            "gpt_oss_mxfp4",
            "gptq",
            "gptq_marlin",
            "humming",
            "inc",
            "int8_per_channel_weight_only",
            "modelopt",
            "modelopt_fp4",
            "modelopt_mixed",
            "modelopt_mxfp8",
            "moe_wna16",
            "mxfp4",
            "mxfp8",
            "nvfp4_per_token",
            "online",
            "petit_nvfp4",
            "quark",
            "torchao",
        ]),
        "the model's",
        "method by which weights are quantized",
    )
    .changes_answers(
        "weights are rounded to fewer bits",
        &[],
    ),
    flag(
        "scheduling-policy",
        Kind::Choice(&["fcfs", "priority"]),
        "fcfs",
        "order of the waiting queue",
    )
    .cached(),
    flag("seed", Kind::Int { min: 0, max: i64::MAX }, "0", "seed of sampling").cached(),
    flag("speculative-config", Kind::Json, "none", "speculative decoding").changes_answers(
        "drafts are accepted in a batch of another shape, and some methods accept what the model would \
         not have said",
        &[],
    ),
    flag(
        "stream-interval",
        Kind::Int { min: 1, max: MANY },
        "1",
        "tokens in one event of a stream; more spares the front end",
    )
    .cached(),
    flag("tensor-parallel-size", Kind::Int { min: 1, max: 4096 }, "1", "devices for each layer")
        .needs(Memory::Decreasing),
    flag(
        "watermark",
        Kind::Decimal { min: 0, min_excluded: false, max: 1_000_000 },
        "0",
        "share of the KV cache kept free when a request is admitted",
    )
    .cached(),
];

/// The flag of that name, if anything is known of it.
pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}
