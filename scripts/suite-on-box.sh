#!/usr/bin/env bash
# Runs a suite on a machine that is lent for a while: a GPU box, perhaps without cargo or network.
#
#   scripts/suite-on-box.sh PROFILE [MINUTES] [ARCHIVE.tar.gz]
#
# Builds the programs, xtask and bench, unless PROGRAMS names the folder of ones brought along.
# After MINUTES the run is interrupted and its finished trials are kept; the same command goes on
# from there. In the end the results and what was measured lie in the archive (default:
# PROFILE.tar.gz); unpacked in another checkout, `cargo xtask suite` there finds it all measured.
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:?usage: scripts/suite-on-box.sh PROFILE [MINUTES] [ARCHIVE.tar.gz]}
minutes=${2:-600}
archive=${3:-$profile.tar.gz}

if [ -z "${PROGRAMS:-}" ]; then
  cargo build --release --quiet --package xtask --package bench
  PROGRAMS=target/release
fi
# Without cargo's variable the program takes the `bench` beside it.
unset CARGO

"$PROGRAMS/xtask" doctor --profile "$profile" || true
"$PROGRAMS/xtask" suite --profile "$profile" --dry-run
status=0
timeout --foreground --signal=INT --kill-after=120 "${minutes}m" \
  "$PROGRAMS/xtask" suite --profile "$profile" || status=$?

mkdir -p "results/$profile"
tar -czf "$archive" --exclude=artifacts/env --exclude=artifacts/tools --exclude=artifacts/tmp \
  --exclude=artifacts/run --exclude=artifacts/locks artifacts "results/$profile"
ls -l "$archive"
exit "$status"
