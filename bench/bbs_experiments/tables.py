"""Markdown tables of a cell: figures with intervals, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Sequence

from .cells import NAMES
from .statistics import BASELINE, MOST, Cell, interval


def table(cell: Cell, rules: Sequence[str]) -> str:
    """One row per rule that has results."""
    lines = [
        "| rule | rank-1 % | points above `own` | of the way to `oracle`, % | TAR@1e-3 % | TAR@1e-4 % | seeds |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for rule in rules:
        if rule not in cell.of:
            continue
        figures = [interval(cell.percent(rule, metric)).text() for metric in ("rank1", "tar_1e3", "tar_1e4")]
        gain, closed = _paired(cell, rule)
        count = len(cell.seeds(rule))
        lines.append(
            f"| {NAMES[rule]} | {figures[0]} | {gain} | {closed} | {figures[1]} | {figures[2]} | {count} |"
        )
    return "\n".join(lines)


def _paired(cell: Cell, rule: str) -> tuple[str, str]:
    if rule == BASELINE:
        return "0", "0"
    gains, closed = cell.differences(rule), cell.closed(rule)
    gain = interval(gains).text("+") if gains else "–"
    if rule == MOST:
        return gain, "100"
    return gain, closed.text(digits=0) if closed else "–"


def pairs(cell: Cell, wanted: Sequence[tuple[str, str]], metrics: dict[str, str]) -> str:
    """Differences between two rules, seed by seed and with their interval: {metric: title}, one table row each."""
    lines = ["| difference | figure | points | by seed |", "| :-- | :-- | --: | :-- |"]
    for rule, baseline in wanted:
        for metric, title in metrics.items():
            found = cell.differences(rule, baseline, metric)
            if found:
                by_seed = " ".join(f"{d:+.1f}" for d in found)
                lines.append(
                    f"| `{rule}` − `{baseline}` | {title} | {interval(found).text('+')} | {by_seed} |"
                )
    return "\n".join(lines)
