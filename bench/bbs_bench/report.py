"""What `bbs bench` prints and writes: a table, results.json (with the machine), results.csv and plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .cases import SIZES
from .measure import Timing


def print_table(timings: Sequence[Timing]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="milliseconds per step (forward + backward); × ours: median of the rounds' ratios")
    for column in ("case", "provider", "median", "quartiles", "× ours", "fwd GF/s", "of peak", "extra MiB"):
        text = column in ("case", "provider")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "case")
    previous = None
    for timing in timings:
        title = f"{timing.case}\n{timing.allocator} allocator, {timing.threads} thread{'s' * (timing.threads > 1)}"
        table.add_row(
            title if title != previous else "",
            timing.provider,
            f"{1e3 * timing.median:.1f}",
            f"{1e3 * timing.lower_quartile:.1f} – {1e3 * timing.upper_quartile:.1f}",
            f"{timing.ratio:.2f}",
            f"{timing.forward_gflops:.0f}",
            f"{timing.peak_share:.0%}",
            "–" if timing.extra_mib is None else f"{timing.extra_mib:.0f}",
            end_section=False,
        )
        previous = title
    Console(width=140).print(table)


def write(timings: Sequence[Timing], machine: dict[str, str], folder: Path) -> None:
    """Write the result files into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(timing) for timing in timings]
    document = {"machine": machine, "unit": "seconds per step, forward and backward", "timings": rows}
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    sizes = {case.name: case.classes for case in SIZES}
    swept = [t for t in timings if t.case in sizes]
    if swept:
        _plot_sizes(swept, sizes, machine, folder / "sizes.png")
    rest = [t for t in timings if t.case not in sizes]
    if rest:
        _plot_bars(rest, machine, folder / "results.png")


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _plot_bars(timings: Sequence[Timing], machine: dict[str, str], path: Path) -> None:
    settings = list(dict.fromkeys((t.allocator, t.threads) for t in timings))
    cases = list(dict.fromkeys(t.case for t in timings))
    providers = list(dict.fromkeys(t.provider for t in timings))
    figure = _figure(4.5 + 3.6 * len(settings), 1.4 + 1.1 * len(cases))
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    height = 0.85 / len(providers)
    for axes, (allocator, threads) in zip(panels, settings, strict=True):
        for p, provider in enumerate(providers):
            mine = [
                t for t in timings if (t.provider, t.allocator, t.threads) == (provider, allocator, threads)
            ]
            y = [cases.index(t.case) + (p - (len(providers) - 1) / 2) * height for t in mine]
            whiskers = [
                [1e3 * (t.median - t.lower_quartile) for t in mine],
                [1e3 * (t.upper_quartile - t.median) for t in mine],
            ]
            axes.barh(y, [1e3 * t.median for t in mine], height * 0.9, xerr=whiskers, label=provider)
        axes.set_title(f"{allocator} allocator, {threads} thread{'s' * (threads > 1)}", fontsize=9)
        axes.set_xlabel("ms per step (median, quartiles)")
    panels[0].set_yticks(range(len(cases)), cases)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=4)
    figure.suptitle(f"forward + backward; {machine['CPU']}", fontsize=9)
    figure.savefig(path, dpi=120)


def _plot_sizes(
    timings: Sequence[Timing], sizes: dict[str, int], machine: dict[str, str], path: Path
) -> None:
    first = (timings[0].allocator, timings[0].threads)
    figure = _figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    for provider in dict.fromkeys(t.provider for t in timings):
        mine = [t for t in timings if t.provider == provider and (t.allocator, t.threads) == first]
        classes = [sizes[t.case] for t in mine]
        left.loglog(classes, [t.median for t in mine], marker="o", markersize=3, label=provider)
        known = [(c, t.extra_mib) for c, t in zip(classes, mine, strict=True) if t.extra_mib is not None]
        right.loglog([c for c, _ in known], [max(1.0, m) for _, m in known], marker="o", markersize=3)
    left.set_ylabel("seconds per step, forward + backward")
    right.set_ylabel("peak MiB beyond inputs and gradients (1 or less: 1)")
    for axes in (left, right):
        axes.set_xlabel("classes C")
        axes.grid(alpha=0.3, which="both")
    left.legend(fontsize=7)
    figure.suptitle(f"B 256, D 512; {first[0]} allocator, {first[1]} thread(s); {machine['CPU']}", fontsize=9)
    figure.savefig(path, dpi=120)
