"""Measurements of `bbs bench` as a Markdown table: one row per case, threads and allocator, ratios to our time.

python tools/bench_table.py docs/results/bench
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

OURS = "bbs-kernels"


def read(folder: Path) -> dict:
    """`folder`/results.json.

    Raises:
        FileNotFoundError: with the command that writes the file.
    """
    path = folder / "results.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `bbs bench --output {folder}`")
    return json.loads(path.read_text(encoding="utf-8"))


def table(document: dict) -> str:
    """The Markdown table, and the line below it that names the machine."""
    rows = document["timings"]
    providers = list(dict.fromkeys(row["provider"] for row in rows if row["provider"] != OURS))
    lines = [
        "| case | threads | allocator | ms a step | forward, share of peak | " + " | ".join(providers) + " |",
        "| :-- | --: | :-- | --: | --: | " + " | ".join("--:" for _ in providers) + " |",
    ]
    settings = dict.fromkeys((row["case"], row["threads"], row["allocator"]) for row in rows)
    for case, threads, allocator in settings:
        here = {
            row["provider"]: row
            for row in rows
            if (row["case"], row["threads"], row["allocator"]) == (case, threads, allocator)
        }
        ours = here[OURS]
        ratios = [f"{here[p]['ratio']:.2f} ×" if p in here else "" for p in providers]
        cells = [
            case,
            str(threads),
            allocator,
            f"{1e3 * ours['median']:.0f}",
            f"{ours['peak_share']:.0%}",
            *ratios,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rounds = sorted({row["rounds"] for row in rows})
    machine = document["machine"]
    return "\n".join(lines) + (
        f"\n\n{machine['CPU']}; torch {machine['torch']}; medians of {', '.join(map(str, rounds))} interleaved rounds. "
        "Columns of others: their time over ours, with SGD over ours with fused SGD; medians of ratios by round."
    )


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]))))
