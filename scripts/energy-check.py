#!/usr/bin/env python3
"""NVML's energy counter against integrated power, of every trial of a bundle, in the steady window.

    cargo xtask bundle export trials.jsonl.gz --profile P && scripts/energy-check.py trials.jsonl.gz

Ends with 1 where one of them is off by more than 3 %, and with 2 where no trial has both.
"""
import gzip
import json
import sys


def energies(value):
    """Every `energy` of a summary, wherever it lies in a line of the bundle."""
    if isinstance(value, dict):
        energy = value.get("energy")
        if isinstance(energy, dict) and energy.get("integrated_joules"):
            yield energy["joules"], energy["integrated_joules"]
        for inner in value.values():
            yield from energies(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from energies(inner)
    elif isinstance(value, str) and value.startswith("{"):
        try:
            yield from energies(json.loads(value))
        except ValueError:
            return


def main():
    with gzip.open(sys.argv[1], "rt") as lines:
        found = [pair for line in lines for pair in energies(json.loads(line))]
    if not found:
        print("no trial has both: the card's NVML has no energy counter, or no load has a steady state")
        return 2
    off = [100 * (joules / integrated - 1) for joules, integrated in found]
    worst = max(off, key=abs)
    within = sum(abs(percent) <= 3 for percent in off)
    print(f"{len(off)} trials; {within} within 3 %; mean {sum(off) / len(off):+.2f} %, worst {worst:+.2f} %")
    return 0 if within == len(off) else 1


if __name__ == "__main__":
    sys.exit(main())
