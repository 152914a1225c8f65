//! Device memory: how many blocks the KV cache gets, or why the server does not start.

use super::{model::Model, settings::Settings};
use crate::schema::{FailureClass, SettingFailure};

const GIB: f64 = (1_u64 << 30) as f64;

/// Blocks of the KV cache, the null block included, in the order of vLLM's own checks.
///
/// # Errors
/// When vLLM would not start for lack of memory, with the lines it would log.
pub fn kv_blocks(model: &Model, settings: &Settings) -> Result<u32, SettingFailure> {
    let memory = &model.memory;
    let (seqs, budget) = (settings.max_num_seqs, settings.max_num_batched_tokens);
    let requested = requested_bytes(model, settings);
    if requested > memory.free_bytes {
        return Err(fail(
            FailureClass::KvCacheMemory,
            [format!(
                "ValueError: Free memory on device cuda:0 ({}/{} GiB) on startup is less than \
                 desired GPU memory utilization ({}, {} GiB). Decrease GPU memory utilization or \
                 reduce GPU memory used by other processes.",
                gib(memory.free_bytes.into()),
                gib(memory.total_bytes.into()),
                settings.gpu_memory_utilization,
                gib(requested.into()),
            )],
        ));
    }
    let static_bytes = memory.weights_bytes + memory.base_bytes;
    if static_bytes > memory.free_bytes {
        return Err(fail(FailureClass::ModelMemory, [out_of_memory(memory.weights_bytes)]));
    }
    let activations = activation_bytes(model, settings);
    if static_bytes + activations > memory.free_bytes {
        return Err(fail(FailureClass::OutOfMemory, [out_of_memory(activations)]));
    }
    let sampler = sampler_bytes(model, settings);
    if static_bytes + sampler > memory.free_bytes {
        return Err(fail(FailureClass::SamplerWarmUp, [sampler_warm_up(seqs.min(budget))]));
    }
    let graphs = memory.graph_bytes * settings.graph_tokens.len() as u64;
    let others = static_bytes + activations.max(sampler) + graphs;
    let available = i128::from(requested) - i128::from(others);
    let blocks = blocks_for(model, settings, available)?;

    // The sampler warms up once more when the KV cache has taken its share.
    let cache = u64::from(blocks) * block_bytes(model, settings);
    let again = sampler + sampler * memory.sampler_spread_percent / 100;
    if static_bytes + graphs + cache + again > memory.free_bytes {
        let line = format!("Available KV cache memory: {} GiB", gib(available));
        return Err(fail(FailureClass::SamplerWarmUp, [line, sampler_warm_up(seqs.min(budget))]));
    }
    Ok(blocks)
}

/// `_check_enough_kv_cache_memory` of `vllm/v1/core/kv_cache_utils.py`.
fn blocks_for(model: &Model, settings: &Settings, available: i128) -> Result<u32, SettingFailure> {
    let block_bytes = i128::from(block_bytes(model, settings));
    let logged = format!("Available KV cache memory: {} GiB", gib(available));
    let capacity = match settings.num_gpu_blocks_override {
        Some(blocks) => i128::from(blocks) * block_bytes,
        None => available,
    };
    // vLLM plans without the null block, which is never handed out.
    let usable = capacity - block_bytes;
    if usable <= 0 {
        return Err(fail(
            FailureClass::KvCacheMemory,
            [
                logged,
                "ValueError: No available memory for the cache blocks. Try increasing \
                 `gpu_memory_utilization` when initializing the engine."
                    .to_owned(),
            ],
        ));
    }
    let len = settings.max_model_len;
    let needed = i128::from(len.div_ceil(settings.block_size)) * block_bytes;
    if needed > usable {
        let longest = usable / block_bytes * i128::from(settings.block_size);
        return Err(fail(
            FailureClass::KvCacheMemory,
            [
                logged,
                format!(
                    "ValueError: To serve at least one request with the model's max seq len \
                     ({len}), ({} GiB KV cache is needed, which is larger than the available KV \
                     cache memory ({} GiB). Based on the available memory, the estimated maximum \
                     model length is {longest}. Try increasing `gpu_memory_utilization` or \
                     decreasing `max_model_len` when initializing the engine.",
                    gib(needed),
                    gib(usable),
                ),
            ],
        ));
    }
    Ok(u32::try_from(capacity / block_bytes).unwrap_or(u32::MAX / 2))
}

fn requested_bytes(model: &Model, settings: &Settings) -> u64 {
    let share = settings.gpu_memory_utilization.millionths() as u128;
    (u128::from(model.memory.total_bytes) * share / 1_000_000) as u64
}

fn activation_bytes(model: &Model, settings: &Settings) -> u64 {
    let memory = &model.memory;
    let token_bytes = if settings.enforce_eager {
        memory.activation_eager_token_bytes
    } else {
        memory.activation_token_bytes
    };
    token_bytes * u64::from(settings.max_num_batched_tokens)
}

fn sampler_bytes(model: &Model, settings: &Settings) -> u64 {
    let memory = &model.memory;
    memory.sampler_sequence_bytes * u64::from(settings.max_num_seqs)
        + memory.sampler_token_bytes * u64::from(settings.max_num_batched_tokens)
}

fn block_bytes(model: &Model, settings: &Settings) -> u64 {
    model.memory.kv_token_bytes * u64::from(settings.block_size)
}

fn fail<const N: usize>(class: FailureClass, lines: [String; N]) -> SettingFailure {
    SettingFailure { class, evidence: lines.into(), foreseen: None }
}

fn out_of_memory(bytes: u64) -> String {
    format!(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {} GiB.",
        gib(bytes.into())
    )
}

fn sampler_warm_up(requests: u32) -> String {
    format!(
        "RuntimeError: CUDA out of memory occurred when warming up sampler with {requests} dummy \
         requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization` when \
         initializing the engine."
    )
}

fn gib(bytes: i128) -> String {
    format!("{:.2}", bytes as f64 / GIB)
}
