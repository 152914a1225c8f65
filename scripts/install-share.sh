#!/usr/bin/env bash
# Puts beside an installed program what it reads where there is no checkout, and completions for shells.
#
#   scripts/install-share.sh PREFIX        PREFIX/bin/xtask is there already
set -euo pipefail
prefix=$(cd "${1:?usage: scripts/install-share.sh PREFIX}" && pwd)
cd "$(dirname "$0")/.."
share=$prefix/share/vllm-tuning-bench
mkdir -p "$share/bench"
cp -r bench/profiles bench/models "$share/bench/"
cp -r baselines "$share/"
for shell in bash:bash-completion/completions/xtask zsh:zsh/site-functions/_xtask \
  fish:fish/vendor_completions.d/xtask.fish; do
  file=$prefix/share/${shell#*:}
  mkdir -p "$(dirname "$file")"
  "$prefix/bin/xtask" completions "${shell%%:*}" >"$file"
done
