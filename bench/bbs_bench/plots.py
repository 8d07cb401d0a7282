"""The plots of `bbs bench`: bars of every case and setting, and curves over C for the cases of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .results import Timing

# Ours in blues; a provider has one colour in every plot. Providers with the optimiser's step are paler.
COLOURS = {
    "bbs-kernels": "#1f4fbf",
    "bbs-kernels, whole stash": "#5aa5f0",
    "bbs-kernels, fused SGD": "#0b2a6b",
    "eager PyTorch": "#e08e0b",
    "eager PyTorch, SGD": "#f4cf8f",
    "torch.compile": "#d1495b",
    "torch.compile, SGD": "#efb3ba",
    "insightface's formula": "#2a9d5c",
    "chunk-over-C loop": "#6b7280",
    "pytorch-metric-learning": "#8e44ad",
    "F.linear_cross_entropy": "#7a5230",
    "cut-cross-entropy": "#17a2b8",
    "Liger": "#c2578f",
}
OTHER = "#b0b0b0"


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plot_bars(timings: Sequence[Timing], processor: str, path: Path) -> None:
    """A panel per setting, two beside each other; in it a group of bars per case, without gaps."""
    settings = list(dict.fromkeys(t.setting for t in timings))
    cases = list(dict.fromkeys(t.case for t in timings))
    providers = list(dict.fromkeys(t.provider for t in timings))
    slots = _slots(timings, cases, providers)
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    figure = _figure(2.5 + 4.5 * columns, 1.0 + rows * (0.9 + 0.15 * max(slots.values())))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axes, setting in zip(panels, settings, strict=False):
        for provider in providers:
            mine = [t for t in timings if (t.provider, t.setting) == (provider, setting)]
            whiskers = [
                [1e3 * (t.median - t.lower_quartile) for t in mine],
                [1e3 * (t.upper_quartile - t.median) for t in mine],
            ]
            axes.barh(
                [slots[t.case, provider] for t in mine], [1e3 * t.median for t in mine], 0.85, xerr=whiskers,
                label=provider, color=COLOURS.get(provider, OTHER), error_kw={"linewidth": 1},
            )  # fmt: skip
        axes.set_title(f"{setting.label()}: ms per step", fontsize=10, loc="left")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels):
        axes.set_axis_off()  # what an odd number of settings leaves over
    middles = [
        sum(y for (c, _), y in slots.items() if c == case) / sum(c == case for c, _ in slots)
        for case in cases
    ]
    first = figure.axes[0]
    first.set_yticks(middles, [case.replace(", ", "\n") for case in cases])
    first.invert_yaxis()
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=9, loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(f"forward + backward, median and quartiles; {processor}", fontsize=10)
    figure.savefig(path, dpi=150)


def _slots(
    timings: Sequence[Timing], cases: Sequence[str], providers: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Where the bar of a case and provider lies, from the top; a gap between cases."""
    timed = {(t.case, t.provider) for t in timings}
    slots, y = {}, 0.0
    for case in cases:
        for provider in providers:
            if (case, provider) in timed:
                slots[case, provider] = y
                y += 1.0
        y += 1.0
    return slots


def plot_sizes(timings: Sequence[Timing], sizes: dict[str, int], processor: str, path: Path) -> None:
    """Time and memory over C, both logarithmic."""
    first = timings[0].setting
    figure = _figure(10, 5.4)
    left, right = figure.subplots(1, 2)
    for provider in dict.fromkeys(t.provider for t in timings):
        mine = [t for t in timings if (t.provider, t.setting) == (provider, first)]
        classes = [sizes[t.case] for t in mine]
        style = {"marker": "o", "markersize": 3, "color": COLOURS.get(provider, OTHER)}
        left.loglog(classes, [t.median for t in mine], label=provider, **style)
        known = [(c, t.extra_mib) for c, t in zip(classes, mine, strict=True) if t.extra_mib is not None]
        right.loglog([c for c, _ in known], [max(1.0, m) for _, m in known], **style)
    left.set_title("seconds per step, forward + backward", fontsize=10, loc="left")
    right.set_title("peak MiB beyond inputs and gradients (1 or less: 1)", fontsize=10, loc="left")
    for axes in (left, right):
        axes.set_xlabel("classes C")
        axes.grid(alpha=0.3, which="both")
    figure.legend(
        *left.get_legend_handles_labels(), fontsize=9, loc="outside lower center", ncols=4, frameon=False
    )
    figure.suptitle(f"B 256, D 512; {first.label()}; {processor}", fontsize=10)
    figure.savefig(path, dpi=150)
