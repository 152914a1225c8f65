#!/usr/bin/env python3
"""Figures of docs/gpu-box.md and docs/trust.md from bench/models/measured/h100-qwen2.5-7b-e*.jsonl:
the cost of observing, forked against ordinary starts, first bursts against later ones.

    python3 scripts/starts-and-observer.py
"""

import json
from math import exp, log, sqrt
from pathlib import Path
from statistics import mean, stdev, variance

# Two-sided 95 % quantiles of Student's t.
T95 = {9: 2.262, 10: 2.228}

METRICS = {
    "output tokens/s": lambda s: s["output_tokens_per_s"],
    "E2E mean": lambda s: s["e2e"]["mean_ms"],
    "TTFT mean": lambda s: s["ttft"]["mean_ms"],
    "TPOT mean": lambda s: s["tpot"]["mean_ms"],
    "ITL P99": lambda s: s["itl"]["p99_ms"],
    "queue mean": lambda s: s["anatomy"]["queue_ms"],
    "API server mean": lambda s: s["anatomy"]["front_end_ms"],
    "decode mean": lambda s: s["anatomy"]["decode_ms"],
}


def bursts(name):
    """Launch -> summaries in the order measured, of the comparison's 11 launches."""
    folder = Path(__file__).resolve().parent.parent / "bench/models/measured"
    found = {}
    for line in (folder / f"h100-qwen2.5-7b-{name}.jsonl").read_text().splitlines():
        outcome = json.loads(line)["outcome"]
        if outcome["launch"] not in ("w0", "a00F"):  # cold caches; fewer modules imported
            found.setdefault(outcome["launch"], []).append((outcome["measured_at"], outcome["summary"]))
    return {launch: [s for _, s in sorted(list_, key=lambda x: x[0])] for launch, list_ in found.items()}


def percent(effect, error, df):
    low, high = effect - T95[df] * error, effect + T95[df] * error
    return f"{100 * (exp(effect) - 1):+6.1f} %  [{100 * (exp(low) - 1):+6.1f}, {100 * (exp(high) - 1):+6.1f}]"


def paired(differences):
    n = len(differences)
    return percent(mean(differences), stdev(differences) / sqrt(n), n - 1)


def unpaired(a, b):
    df = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * variance(a) + (len(b) - 1) * variance(b)) / df
    return percent(mean(a) - mean(b), sqrt(pooled * (1 / len(a) + 1 / len(b))), df)


def main():
    ordinary, forked, unobserved = bursts("e"), bursts("e-forked"), bursts("e-unobserved")
    observed = ordinary | forked
    print(f"{len(ordinary)} ordinary and {len(forked)} forked starts; 95 % intervals\n")
    print(f"{'':16}{'unobserved / observed':28}{'forked / ordinary':28}later / first burst")
    for title, metric in METRICS.items():
        value = lambda summary: log(metric(summary))
        cost = [value(unobserved[n][0]) - value(observed[n][1]) for n in observed]
        by_start = lambda way: [mean(map(value, summaries)) for summaries in way.values()]
        later = [value(summaries[1]) - value(summaries[0]) for summaries in observed.values()]
        print(f"{title:16}{paired(cost):28}{unpaired(by_start(forked), by_start(ordinary)):28}{paired(later)}")
    tokens = [[log(METRICS["output tokens/s"](s)) for s in summaries] for summaries in observed.values()]
    within = sqrt(mean(variance(start) for start in tokens))
    print(f"\noutput tokens/s: {100 * within:.1f} % within a start, "
          f"{100 * stdev(map(mean, tokens)):.1f} % between means of two bursts of {len(tokens)} starts")


if __name__ == "__main__":
    main()
