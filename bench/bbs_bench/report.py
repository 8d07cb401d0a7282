"""What `bbs bench` prints and writes: a table, results.json (with the machine), results.csv, results.png."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .measure import Timing


def print_table(timings: Sequence[Timing]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="milliseconds per step (forward + backward)")
    for column in ("case", "provider", "median", "quartiles", "× ours"):
        text = column in ("case", "provider")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "case")
    previous = None
    for timing in timings:
        ours = next(t.median for t in timings if t.case == timing.case)
        table.add_row(
            timing.case if timing.case != previous else "",
            timing.provider,
            f"{1e3 * timing.median:.1f}",
            f"{1e3 * timing.lower_quartile:.1f} – {1e3 * timing.upper_quartile:.1f}",
            f"{timing.median / ours:.2f}",
        )
        previous = timing.case
    Console().print(table)


def write(timings: Sequence[Timing], machine: dict[str, str], folder: Path) -> None:
    """Writes the three result files into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(timing) for timing in timings]
    document = {"machine": machine, "unit": "seconds per step, forward and backward", "timings": rows}
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _plot(timings, machine, folder / "results.png")


def _plot(timings: Sequence[Timing], machine: dict[str, str], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(t.case for t in timings))
    providers = list(dict.fromkeys(t.provider for t in timings))
    figure = Figure(figsize=(8, 1.2 + 0.8 * len(cases)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    height = 0.8 / len(providers)
    for p, provider in enumerate(providers):
        mine = [t for t in timings if t.provider == provider]
        y = [cases.index(t.case) + (p - (len(providers) - 1) / 2) * height for t in mine]
        whiskers = [
            [1e3 * (t.median - t.lower_quartile) for t in mine],
            [1e3 * (t.upper_quartile - t.median) for t in mine],
        ]
        axes.barh(y, [1e3 * t.median for t in mine], height * 0.9, xerr=whiskers, label=provider)
    axes.set_yticks(range(len(cases)), cases)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds per step, forward + backward (median, quartiles)")
    axes.set_title(machine["CPU"], fontsize=9)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
