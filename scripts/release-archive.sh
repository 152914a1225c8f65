#!/usr/bin/env bash
# The release archive: both programs and what they read, for a machine without Rust.
#
#   scripts/release-archive.sh [ARCHIVE.tar.gz]      default: vllm-tuning-bench-MACHINE.tar.gz
#
# Unpack it anywhere and run bin/xtask; it needs the C library of the machine that built it, or a newer one.
set -euo pipefail
archive=$(realpath -m "${1:-vllm-tuning-bench-$(uname -m).tar.gz}")
cd "$(dirname "$0")/.."
cargo build --release --locked --bin xtask --bin bench
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
prefix=$folder/vllm-tuning-bench
mkdir -p "$prefix/bin"
cp "${CARGO_TARGET_DIR:-target}"/release/{xtask,bench} "$prefix/bin/"
cp README.md LICENSE-MIT LICENSE-APACHE "$prefix/"
scripts/install-share.sh "$prefix"
tar -czf "$archive" -C "$folder" vllm-tuning-bench
ls -l "$archive"
