"""Measurements of `bbs bench` as Markdown tables: one row per case, threads and allocator, ratios to our time.

    python tools/bench_table.py docs/results/bench            every provider
    python tools/bench_table.py docs/results/bench losses     one of the tables of docs/benchmarks.md

Every figure comes from results.json, so that no page types one by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

OURS = "bbs-kernels"
TABLES = {  # which providers stand beside ours
    "losses": (
        "eager PyTorch", "torch.compile", "insightface's formula", "pytorch-metric-learning", "chunk-over-C loop",
    ),
    "ours": ("bbs-kernels, whole stash", "bbs-kernels, fused SGD"),
    "with-step": ("eager PyTorch, SGD", "torch.compile, SGD"),
    "no-margin": ("F.linear_cross_entropy", "cut-cross-entropy"),
}  # fmt: skip


def read(folder: Path) -> dict:
    """`folder`/results.json.

    Raises:
        FileNotFoundError: with the command that writes the file.
    """
    path = folder / "results.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `bbs bench --output {folder}`")
    return json.loads(path.read_text(encoding="utf-8"))


def table(document: dict, providers: Sequence[str] | None = None) -> str:
    """The Markdown table, and the line below it that names the machine.

    providers: the columns, and only settings where one of them was timed; all of both when None.
    """
    rows = document["timings"]
    found = dict.fromkeys(row["provider"] for row in rows if row["provider"] != OURS)
    shown = [p for p in found if providers is None or p in providers]
    lines = [
        "| case | threads | allocator | ms a step | forward, share of peak | " + " | ".join(shown) + " |",
        "| :-- | --: | :-- | --: | --: | " + " | ".join("--:" for _ in shown) + " |",
    ]
    settings = dict.fromkeys((row["case"], row["threads"], row["allocator"]) for row in rows)
    for setting in settings:
        here = {
            row["provider"]: row for row in rows if (row["case"], row["threads"], row["allocator"]) == setting
        }
        if not any(p in here for p in shown):
            continue
        ours = here[OURS]
        case, threads, allocator = setting
        milliseconds = 1e3 * ours["median"]
        cells = [
            unbroken(case),
            str(threads),
            allocator,
            f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.1f}",
            f"{ours['peak_share']:.0%}",
            *(f"{here[p]['ratio']:.2f} ×" if p in here else "–" for p in shown),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", caption(document)])


def memory(document: dict) -> str:
    """Peak MiB of a step beyond the inputs and the gradients: a row per case, a column per provider."""
    rows = [row for row in document["timings"] if row["extra_mib"] is not None]
    providers = [p for p in dict.fromkeys(row["provider"] for row in rows) if not p.endswith("SGD")]
    found = {(row["case"], row["provider"]): row["extra_mib"] for row in rows}
    lines = [
        "| case | " + " | ".join(providers) + " |",
        "| :-- | " + " | ".join("--:" for _ in providers) + " |",
    ]
    for case in dict.fromkeys(row["case"] for row in rows):
        cells = [f"{found[case, p]:.0f}" if (case, p) in found else "–" for p in providers]
        lines.append("| " + " | ".join([unbroken(case), *cells]) + " |")
    return "\n".join(lines)


def unbroken(case: str) -> str:
    """The name of a case whose number of classes a browser keeps on one line."""
    return re.sub(r"C (\d+) (k|M)", "C\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}\\2", case)


def caption(document: dict) -> str:
    """Machine, versions and how often."""
    rounds = sorted({row["rounds"] for row in document["timings"]})
    machine = document["machine"]
    return (
        f"{machine['CPU']}; CPU kernels {machine['CPU kernels'].rpartition('in use: ')[2]}; torch {machine['torch']}; "
        f"medians of {', '.join(map(str, rounds))} interleaved rounds. Columns of others: their time over ours, with "
        "SGD over ours with fused SGD; medians of ratios by round."
    )


if __name__ == "__main__":
    measured = read(Path(sys.argv[1]))
    chosen = sys.argv[2] if len(sys.argv) > 2 else None
    print(memory(measured) if chosen == "memory" else table(measured, TABLES[chosen] if chosen else None))
