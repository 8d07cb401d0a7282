"""Measurements of bench/parallel_scaling.py as a Markdown table: one row per provider.

python tools/parallel_table.py docs/results/parallel
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TWO_RANKS = "two ranks"
AGAINST = {  # layout of one rank: column
    "one rank": "strong (2)",
    "half the rows": "weak, rows (1)",
    "half the classes": "weak, classes (1)",
    "two threads": "two threads",
}


def read(folder: Path) -> dict:
    """`folder`/results.json.

    Raises:
        FileNotFoundError: with the command that writes the file.
    """
    path = folder / "results.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: run `python bench/parallel_scaling.py --output {folder}`"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def table(document: dict) -> str:
    """The Markdown table, and the lines below it that say what the columns are and name the machine."""
    of = {(row["provider"], row["layout"]): row for row in document["timings"]}
    scaling = {(row["provider"], row["against"]): row["median"] for row in document["scaling"]}
    lines = [
        "| | one rank, ms | two ranks, ms | KB received | " + " | ".join(AGAINST.values()) + " |",
        "| :-- | --: | --: | --: | " + " | ".join("--:" for _ in AGAINST) + " |",
    ]
    for provider in dict.fromkeys(row["provider"] for row in document["timings"]):
        one, two = of[provider, "one rank"], of[provider, TWO_RANKS]
        cells = [
            provider,
            *(f"{1e3 * row['median']:.0f}" for row in (one, two)),
            f"{two['received_bytes'] / 1e3:.1f}",
            *(f"{scaling[provider, layout]:.2f}" for layout in AGAINST),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    size, machine = document["size"], document["machine"]
    rounds = max(row["rounds"] for row in document["timings"])
    return "\n".join(lines) + (
        f"\n\nTwo ranks share {size['rows']} rows and {size['classes']:,} classes, D = {size['depth']}, fp32, one core "
        "each. Forward and backward, medians; bytes are those of a rank in a step. Strong: time of one rank with all "
        "rows and classes over that of two ranks. Weak: of one rank with half the rows, or half the classes; in "
        "brackets: perfect scaling. Two threads: the time of one process with two threads over that of two ranks. "
        f"{machine['CPU']}; torch {machine['torch']}; {rounds} interleaved rounds, ratios by round; load average "
        f"before the run {document['load_before']}. `python bench/parallel_scaling.py`."
    )


if __name__ == "__main__":
    print(table(read(Path(sys.argv[1]))))
