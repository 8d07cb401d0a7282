"""The plots of `bbs bench`: bars of every case and setting, and curves over C for the cases of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .results import Timing


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_bars(timings: Sequence[Timing], processor: str, path: Path) -> None:
    settings = list(dict.fromkeys(t.setting for t in timings))
    cases = list(dict.fromkeys(t.case for t in timings))
    providers = list(dict.fromkeys(t.provider for t in timings))
    figure = _figure(4.5 + 3.6 * len(settings), 1.4 + 1.1 * len(cases))
    panels = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    height = 0.85 / len(providers)
    for axes, setting in zip(panels, settings, strict=True):
        for p, provider in enumerate(providers):
            mine = [t for t in timings if (t.provider, t.setting) == (provider, setting)]
            y = [cases.index(t.case) + (p - (len(providers) - 1) / 2) * height for t in mine]
            whiskers = [
                [1e3 * (t.median - t.lower_quartile) for t in mine],
                [1e3 * (t.upper_quartile - t.median) for t in mine],
            ]
            axes.barh(y, [1e3 * t.median for t in mine], height * 0.9, xerr=whiskers, label=provider)
        axes.set_title(setting.label(), fontsize=9)
        axes.set_xlabel("ms per step (median, quartiles)")
    panels[0].set_yticks(range(len(cases)), cases)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=4)
    figure.suptitle(f"forward + backward; {processor}", fontsize=9)
    figure.savefig(path, dpi=120)


def plot_sizes(timings: Sequence[Timing], sizes: dict[str, int], processor: str, path: Path) -> None:
    first = timings[0].setting
    figure = _figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    for provider in dict.fromkeys(t.provider for t in timings):
        mine = [t for t in timings if (t.provider, t.setting) == (provider, first)]
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
    figure.suptitle(f"B 256, D 512; {first.label()}; {processor}", fontsize=9)
    figure.savefig(path, dpi=120)
