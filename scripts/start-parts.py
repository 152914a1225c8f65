#!/usr/bin/env python3
"""Medians of the parts of all server starts whose trials are in artifacts/, by the way in which
they were started.

    scripts/start-parts.py [ARTIFACTS]
"""

import json
import sys
from pathlib import Path
from statistics import median


def records(artifacts):
    for path in sorted(artifacts.glob("blobs/*/*")):
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # samples, drawings
        if isinstance(record, dict) and record.get("status") == "measured":
            yield record


def main():
    artifacts = Path(sys.argv[1] if len(sys.argv) > 1 else "artifacts")
    starts = {}  # one of each launch
    for record in records(artifacts):
        if record["observed"].get("start"):
            starts[record["launch"]] = record["observed"]
    ways = {"ordinary": [], "forked": []}
    for observed in starts.values():
        forked = "launcher_import_s" in observed["start"]
        ways["forked" if forked else "ordinary"].append(observed)
    ways = {way: found for way, found in ways.items() if found}
    parts = list(dict.fromkeys(part for found in ways.values() for o in found for part in o["start"]["parts_s"]))
    print("| Part, median s |", " | ".join(f"{way} ({len(found)})" for way, found in ways.items()), "|")
    print("| --- |", " | ".join("---:" for _ in ways), "|")
    rows = [(part, lambda o, part=part: o["start"]["parts_s"].get(part)) for part in parts]
    rows.append(("whole start", lambda o: o["start_s"]))
    rows.append(("imports of the launcher, once", lambda o: o["start"].get("launcher_import_s")))
    for title, value in rows:
        cells = []
        for found in ways.values():
            values = [v for v in map(value, found) if v is not None]
            cells.append(f"{median(values):.1f}" if values else "–")
        print(f"| {title} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
