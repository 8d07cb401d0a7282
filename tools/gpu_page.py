"""The page of a GPU's report as Markdown, from report.json alone: every number under the command that printed it.

python tools/gpu_page.py docs/results/gpu/report.json      # prints the page
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

HEAD = "| provider | median, ms | quartiles, ms | × ours | forward, TFLOP/s | of cuBLAS | extra MiB |"
RULE = "| :-- | --: | --: | --: | --: | --: | --: |"
LEGEND = (
    "Times are milliseconds per step, forward and backward, by CUDA events with the L2 cache flushed before each step; "
    "providers take turns within each round. × ours: median over the rounds of a provider's time over bbs-kernels'. "
    "TFLOP/s count the cosines alone, in forward; their share is of a square cuBLAS product of the same dtype in the "
    "same run. Extra MiB: peak of torch's allocator beyond inputs and gradients. Centres are "
    "float32; pytorch-metric-learning casts its own to the dtype of the embeddings."
)


def page(document: dict[str, Any]) -> str:
    """The whole page; parts that a run did not reach are missing from it."""
    parts = [
        "# Report of a GPU",
        "Written by `make gpu-report`; [report.json](report.json) has the same numbers in full.",
        _table(["", ""], ["| :-- | :-- |"], [(k, v) for k, v in document["machine"].items()]),
    ]
    if document["build"]:
        parts.append(f"Built in {document['build']['seconds']:.0f} s with `{document['build']['command']}`.")
    parts += ["## Tests", *_tests(document["tests"])]
    if document["benches"]:
        parts += ["## Benchmarks", LEGEND]
        for bench in document["benches"]:
            parts += _bench(bench)
    return "\n\n".join(parts) + "\n"


def _tests(runs: list[dict[str, Any]]) -> Iterator[str]:
    counted = [
        (f"`{run['command']}`", *(run.get(key, "–") for key in ("passed", "failed", "skipped")), run["exit"])
        for run in runs
    ]
    yield _table(
        ["command", "passed", "failed", "skipped", "exit status"],
        ["| :-- | --: | --: | --: | --: |"],
        counted,
    )
    for run in runs:
        if run.get("failures"):
            yield "Failed:\n\n" + "\n".join(f"- `{name}`" for name in run["failures"])
        elif run["exit"]:
            yield _failure(run)


def _bench(bench: dict[str, Any]) -> Iterator[str]:
    yield f"### Suite {bench['suite']}"
    yield f"`{bench['command']}`"
    if bench["exit"]:
        yield _failure(bench)
        return
    for (case, dtype), rows in groupby(bench["timings"], key=lambda row: (row["case"], row["dtype"])):
        rows = list(rows)
        yield f"**{case}, {dtype}** (cuBLAS: {rows[0]['cublas_tflops']:.1f} TFLOP/s; {rows[0]['rounds']} rounds)"
        yield "\n".join([HEAD, RULE, *map(_row, rows)])
    if bench["left_out"]:
        yield "Left out:\n\n" + "\n".join(
            f"- {o['provider']} in {o['case']}, {o['dtype']}: {o['reason']}" for o in bench["left_out"]
        )


def _row(row: dict[str, Any]) -> str:
    median, lower, upper = (f"{1e3 * row[key]:.3f}" for key in ("median", "lower_quartile", "upper_quartile"))
    return (
        f"| {row['provider']} | {median} | {lower} – {upper} | {row['ratio']:.2f} | {row['forward_tflops']:.1f} "
        f"| {row['peak_share']:.0%} | {row['extra_mib']:.1f} |"
    )


def _failure(run: dict[str, Any]) -> str:
    return (
        f"Failed with exit status {run['exit']}; its last lines:\n\n```text\n"
        + "\n".join(run["output"])
        + "\n```"
    )


def _table(head: list[str], rule: list[str], rows: list[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], *rule, *lines[1:]])


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), end="")
