#!/usr/bin/env bash
# Every fuzz target for some seconds, on the stable compiler: libFuzzer guided by coverage, without
# sanitizers, which code without `unsafe` has no need of.
#   scripts/fuzz.sh [SECONDS] [TARGET...]
# What was found to be interesting stays in target/fuzz/corpus and is where the next run begins; an
# input that fails lies in target/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(sse prometheus import profile record bundle)

# As cargo-fuzz has them. A target is named so that build scripts and macros are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions"
out=target/fuzz
cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target-dir $out --target "$host"

for target in "${targets[@]}"; do mkdir -p "$out/corpus/$target" "$out/artifacts"; done
# Whole examples, which no mutation finds.
for profile in bench/profiles/*.toml; do cp "$profile" $out/corpus/profile/ 2>/dev/null || true; done
python3 - $out/corpus <<'PY'
import gzip, json, pathlib, sys
corpus = pathlib.Path(sys.argv[1])
with gzip.open("results/h100-qwen2.5-7b/bundle.jsonl.gz", "rt") as lines:
    head, line = json.loads(next(lines)), next(lines)
text = json.dumps(head | {"entries": 1}) + "\n" + line
if (corpus / "bundle").is_dir():
    (corpus / "bundle/one").write_text(text)
if (corpus / "record").is_dir():
    (corpus / "record/one").write_text(json.dumps(json.loads(line)["record"]["action"]))
PY

for target in "${targets[@]}"; do
  log=$out/$target.log
  if ! "$out/$host/release/$target" "$out/corpus/$target" -max_total_time="$seconds" -timeout=10 \
    -rss_limit_mb=2048 -artifact_prefix="$out/artifacts/$target-" -print_final_stats=1 >"$log" 2>&1; then
    tail -30 "$log"
    echo "error: $target fails on an input of $out/artifacts; run it with that file alone" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "$target: $runs inputs in $seconds s, none fails; corpus of $(ls "$out/corpus/$target" | wc -l)"
done
