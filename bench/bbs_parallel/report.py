"""results.json, results.csv and results.png of the scaling benchmark."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from .cases import LAYOUTS, PROVIDERS


def write(document: dict[str, Any], folder: Path) -> None:
    """Into `folder`, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(document["timings"][0]))
        writer.writeheader()
        writer.writerows(document["timings"])
    _plot(document, folder / "results.png")


def _plot(document: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(12, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    height = 0.85 / len(LAYOUTS)
    for n, layout in enumerate(LAYOUTS):
        mine = [t for t in document["timings"] if t["layout"] == layout.name]
        y = [p + (n - (len(LAYOUTS) - 1) / 2) * height for p in range(len(PROVIDERS))]
        whiskers = [
            [1e3 * (t["median"] - t["lower_quartile"]) for t in mine],
            [1e3 * (t["upper_quartile"] - t["median"]) for t in mine],
        ]
        left.barh(y, [1e3 * t["median"] for t in mine], height * 0.9, xerr=whiskers, label=layout.name)
    left.set_yticks(range(len(PROVIDERS)), [provider.name for provider in PROVIDERS])
    left.invert_yaxis()
    left.set_xlabel("ms per step, forward + backward")
    against = [layout.name for layout in LAYOUTS if layout.ranks == 1]
    for n, name in enumerate(against):
        mine = [s for s in document["scaling"] if s["against"] == name]
        y = [p + (n - (len(against) - 1) / 2) * height for p in range(len(PROVIDERS))]
        middle = [s["median"] for s in mine]
        whiskers = [
            [s["median"] - s["lower_quartile"] for s in mine],
            [s["upper_quartile"] - s["median"] for s in mine],
        ]
        right.errorbar(
            middle, y, xerr=whiskers, fmt="o", markersize=4, capsize=2, label=f"{name} / two ranks"
        )
    for perfect in (1.0, 2.0):
        right.axvline(perfect, color="black", linewidth=0.6, linestyle=":")
    right.set_xlim(left=0.0)
    right.set_xlabel("time over that of two ranks")
    for axes, place in ((left, "outside lower left"), (right, "outside lower right")):
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, fontsize=7, ncols=3, loc=place)
    size, machine = document["size"], document["machine"]
    figure.suptitle(
        f"two ranks: {size['rows']} rows, {size['classes']:,} classes, D {size['depth']}, fp32; medians, quartiles; "
        f"dotted: perfect weak (1) and strong (2) scaling; {machine['CPU']}",
        fontsize=9,
    )
    figure.savefig(path, dpi=120)
