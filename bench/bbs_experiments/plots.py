"""Plots of the experiments. Points are seeds, bars 95 % confidence intervals of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .cells import CELLS, RULES
from .statistics import Cell, Interval, interval
from .store import Row

COLOURS = {
    "all": "tab:red", "own": "black", "below-mistuned": "tab:orange", "below-tuned": "tab:brown", "bbs": "tab:blue",
    "linker": "tab:purple", "linker-exclude": "tab:olive", "linker-twice": "tab:pink", "oracle": "tab:green",
}  # fmt: skip


def differences(rows: Sequence[Row], path: Path) -> None:
    """Rank-1 points above one head per dataset: a panel per cell, a line per rule."""
    cells = {name: Cell(rows, name) for name in CELLS}
    rules = [
        rule
        for rule in COLOURS
        if rule in RULES and rule != "own" and any(rule in cell.of for cell in cells.values())
    ]
    figure, panels = _panels(len(cells), (11.0, 1.3 + 0.33 * len(rules)))
    for panel, (name, cell) in zip(panels, cells.items(), strict=True):
        for y, rule in enumerate(rules):
            gains = cell.differences(rule) if rule in cell.of else []
            if gains:
                _interval(panel, gains, y, COLOURS[rule])
        panel.axvline(0.0, color="black", linewidth=0.8)
        panel.set_title(CELLS[name].title.replace(", ", ",\n"), fontsize=9)
        panel.set_yticks(range(len(rules)), rules)
        panel.grid(axis="x", alpha=0.3)
    panels[0].invert_yaxis()
    figure.supxlabel("rank-1 points above own (one head per dataset), same seed", fontsize=9)
    figure.savefig(path, dpi=120)


def wrong_labels(rows: Sequence[Row], path: Path) -> None:
    """Rank-1 and TAR against the share of wrong labels, a line per rule."""
    cells = [cell for cell in CELLS.values() if cell.regime == "many"]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    titles = {"rank1": "rank-1 %", "tar_1e3": "TAR@FAR 1e-3 %"}
    for panel, (metric, title) in zip(panels, titles.items(), strict=True):
        for n, rule in enumerate(RULES):
            found = [
                (100.0 * c.wrong_labels, interval(Cell(rows, c.name).percent(rule, metric)))
                for c in cells
                if rule in Cell(rows, c.name).of
            ]
            if not found:
                continue
            x = [
                share + 0.15 * (n - 3) for share, _ in found
            ]  # side by side, so that bars do not hide each other
            y, half = [i.mean for _, i in found], [i.half if i.n > 1 else 0.0 for _, i in found]
            panel.errorbar(
                x, y, half, color=COLOURS[rule], marker="o", markersize=3, capsize=2, linewidth=1, label=rule
            )
        panel.set(xlabel="wrong labels within each basket, %", ylabel=title)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    figure.savefig(path, dpi=120)


def closed(cell: Cell, rules: Sequence[str], path: Path) -> None:
    """How much of the distance from `own` to `oracle` each rule closes, in three figures."""
    titles = {"rank1": "rank-1", "tar_1e3": "TAR@FAR 1e-3", "tar_1e4": "TAR@FAR 1e-4"}
    figure, panels = _panels(len(titles), (10.0, 1.4 + 0.3 * len(rules)))
    for panel, (metric, title) in zip(panels, titles.items(), strict=True):
        for y, rule in enumerate(rules):
            found = cell.closed(rule, metric)
            if found is not None:
                _bar(panel, found, y, COLOURS[rule])
        for x in (0.0, 100.0):
            panel.axvline(x, color="black", linewidth=0.8)
        panel.axvline(80.0, color="black", linewidth=0.8, linestyle=":")
        panel.set_title(title, fontsize=9)
        panel.set_yticks(range(len(rules)), rules)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_ylim(len(rules) - 0.5, -0.5)
    figure.supxlabel("% of the distance from own (0) to oracle (100); dotted: the goal, 80", fontsize=9)
    figure.savefig(path, dpi=120)


def _panels(count: int, size: tuple[float, float]) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, sharex=True, sharey=True)


def _interval(panel: Axes, values: Sequence[float], y: float, colour: str) -> None:
    panel.scatter(values, [y] * len(values), color=colour, s=14, alpha=0.5, zorder=3)
    _bar(panel, interval(values), y, colour)


def _bar(panel: Axes, found: Interval, y: float, colour: str) -> None:
    half = found.half if found.n > 1 else 0.0
    panel.errorbar(found.mean, y, xerr=half, fmt="|", color=colour, markersize=12, capsize=3, zorder=4)
