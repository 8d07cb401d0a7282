"""What the demo prints and writes: a table, results.json, results.csv and results.png."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .regimes import Regime

BASELINE = "own"
NAMES = {
    "all": "naive merge",
    "own": "one head per dataset",
    "below-mistuned": "DAIL threshold, mistuned",
    "below-tuned": "DAIL threshold, tuned",
    "bbs-ema": "top-k under an EMA guard",
    "bbs": "Basket-based Softmax",
    "oracle": "oracle (true labels)",
}
HONEST = {
    "many": (
        "What this does not show: a well-tuned threshold is as good as top-k, for which only k = 16 was set;\n"
        "and where datasets are few, large and differ in style, mining does not help: bbs demo --regime style."
    ),
    "style": (
        "Here baskets are styles. Negatives of other baskets are told apart by style alone, so mining need not help:\n"
        "compare with `one head per dataset` before you use it on such data."
    ),
}
# Short, so that three seeds fit into 80 columns; where they do not, cells fold: no digit is cut off.
METRICS = {"rank1": "rank-1", "tar_1e3": "TAR 1e-3", "tar_1e4": "TAR 1e-4"}
Row = dict[str, Any]


def by_rule(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """{rule: {seed: row}} in the order of the rows."""
    table: dict[str, dict[int, Row]] = {}
    for row in rows:
        table.setdefault(row["rule"], {})[row["seed"]] = row
    return table


def differences(rows: Sequence[Row], rule: str) -> list[float]:
    """Rank-1 points above one head per dataset, seed by seed."""
    table = by_rule(rows)
    baseline = table.get(BASELINE, {})
    shared = sorted(table[rule].keys() & baseline.keys())
    return [100.0 * (table[rule][seed]["rank1"] - baseline[seed]["rank1"]) for seed in shared]


def print_table(rows: Sequence[Row], regime: Regime) -> None:
    """The table for people: mean ± standard deviation over the seeds, and paired differences."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Unseen characters across fonts; trained on {regime.title}", show_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column(METRICS["rank1"], justify="right", overflow="fold")
    table.add_column("Δ by seed", justify="right", overflow="fold")
    for key in ("tar_1e3", "tar_1e4"):
        table.add_column(METRICS[key], justify="right", overflow="fold")
    for rule, of_seed in by_rule(rows).items():
        gains = "0" if rule == BASELINE else " ".join(f"{d:+.1f}" for d in differences(rows, rule)) or "–"
        cells = [_mean_sd([row[key] for row in of_seed.values()]) for key in METRICS]
        table.add_row(
            NAMES.get(rule, rule), cells[0], gains, cells[1], cells[2], style="bold" if rule == "bbs" else ""
        )
    Console().print(table)
    print("In %. Δ: rank-1 points against one head per dataset, same seed. TAR at FAR 1e-3 and 1e-4.")
    print(HONEST[regime.name])


def write(rows: Sequence[Row], regime: Regime, folder: Path) -> None:
    """results.json, results.csv and results.png into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _plot(rows, regime, folder / "results.png")


def _mean_sd(fractions: Sequence[float]) -> str:
    percent = [100.0 * value for value in fractions]
    mean = f"{statistics.mean(percent):.1f}"
    return f"{mean}±{statistics.stdev(percent):.1f}" if len(percent) > 1 else mean


def _plot(rows: Sequence[Row], regime: Regime, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table = by_rule(rows)
    rules = list(table)
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(rules)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for y, rule in enumerate(rules):
        percent = [100.0 * row["rank1"] for row in table[rule].values()]
        colour = {"bbs": "tab:blue", "oracle": "tab:green"}.get(rule, "tab:grey")
        spread = statistics.stdev(percent) if len(percent) > 1 else 0.0
        left.errorbar(
            statistics.mean(percent), y, xerr=spread, fmt="|", color="black", markersize=16, capsize=3
        )
        left.scatter(percent, [y] * len(percent), color=colour, s=30, zorder=3)
        gains = differences(rows, rule)
        right.scatter(gains, [y] * len(gains), color=colour, s=30, zorder=3)
        if gains:
            right.plot([statistics.mean(gains)], [y], marker="|", markersize=16, color="black")
    values = [100.0 * row["rank1"] for row in rows]
    # Points, not bars: the axis does not start at 0, where a bar's length would exaggerate.
    left.set_xlim(max(0.0, min(values) - 3.0), min(100.0, max(values) + 3.0))
    left.grid(axis="x", alpha=0.3)
    left.set_yticks(range(len(rules)), [NAMES.get(rule, rule) for rule in rules])
    left.invert_yaxis()
    left.set_xlabel("rank-1 %; dots: seeds, bar: mean ± sd")
    right.axvline(0.0, color="black", linewidth=0.8)
    right.set_xlabel("points above one head per dataset; bar: mean")
    right.grid(axis="x", alpha=0.3)
    figure.suptitle(f"Trained on {regime.title}", fontsize=10)
    figure.savefig(path, dpi=120)
