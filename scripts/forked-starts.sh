#!/usr/bin/env bash
# Compares servers that are forks with servers started the ordinary way, in the harness of the
# verdicts: one profile twice, start by start, the order alternating.
#
#   scripts/forked-starts.sh PROFILE [STARTS]
#
# Measures PROFILE's baseline and vLLM's defaults under its loads, STARTS (default 4) servers of each
# setting each way, all kept in artifacts/. Prints the comparison, and a table of all starts by part. On
# an H100: `scripts/forked-starts.sh h100-qwen2.5-7b 6`, about 25 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:?usage: scripts/forked-starts.sh PROFILE [STARTS]}
starts=${2:-4}

if [ -z "${PROGRAMS:-}" ]; then
  cargo build --release --quiet --package xtask --package bench
  PROGRAMS=target/release
fi
# Without cargo's variable the program takes the `bench` beside it.
unset CARGO

profiles=bench/profiles
trap 'rm -f $profiles/$profile-ordinary.* $profiles/$profile-forked.*' EXIT

# Servers of each setting so far; the first of them is the one by which sweeps would choose.
measure() {
  local way=$1 count=$2
  local copy=$profiles/$profile-$way.toml
  # The stages, the starts, no limit of the time, and the way.
  sed -e '/^stages = /d' -e '/^start = /d' -e '/^engine_minutes/s/= *[0-9]*/= 600/' \
    -e "s/^starts = .*/starts = $count/" -e "s/^kind = \"vllm\"/&\nstart = \"$way\"/" \
    "$profiles/$profile.toml" | sed '/^\[\(sweep\|capacity\|calibrate\|tune\)/,/^$/d' >"$copy"
  sed -i '1i stages = ["provision", "baseline", "compare"]' "$copy"
  if [ -f "$profiles/$profile.lock" ]; then cp "$profiles/$profile.lock" "${copy%.toml}.lock"; fi
  "$PROGRAMS/xtask" suite --profile "$profile-$way"
}

for count in $(seq "$starts"); do
  ways="ordinary forked"
  if [ $((count % 2)) = 0 ]; then ways="forked ordinary"; fi
  for way in $ways; do measure "$way" "$count"; done
done

"$PROGRAMS/xtask" compare "$profile-ordinary" "$profile-forked" --across-engines --all || true
scripts/start-parts.py
