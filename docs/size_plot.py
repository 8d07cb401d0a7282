"""Time and memory of a step against the number of classes, drawn from what `bbs bench --suite sizes` measured: SVG.

Left, seconds per step; right, peak memory beyond the inputs and the gradients, which for this library stops growing
once the stash is full. Providers with an optimiser's step are left out: their memory holds the momentum too.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bbs_bench.cases import SIZES
from bbs_bench.plots import COLOURS

MARKERS = {
    "bbs-kernels": "o",
    "bbs-kernels, whole stash": "o",
    "torch.compile": "s",
    "eager PyTorch": "^",
    "chunk-over-C loop": "v",
    "insightface's formula": "D",
    "pytorch-metric-learning": "P",
}


def draw(document: dict[str, Any]) -> Figure:
    """The figure of a results.json.

    Raises:
        ValueError: it holds no case of the suite `sizes`.
    """
    classes = {case.name: case.classes for case in SIZES}
    rows = [row for row in document["timings"] if row["case"] in classes]
    if not rows:
        raise ValueError("the results hold no case of the suite `sizes`")
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for provider, marker in MARKERS.items():
        mine = sorted(
            (classes[r["case"]], r["median"], r["extra_mib"]) for r in rows if r["provider"] == provider
        )
        ours = provider == "bbs-kernels"
        style: dict[str, Any] = {
            "color": COLOURS[provider], "marker": marker, "markersize": 4.5, "linewidth": 2.4 if ours else 1.3,
            "zorder": 3 if ours else 2, "label": provider,
        }  # fmt: skip
        time.loglog([c for c, _, _ in mine], [s for _, s, _ in mine], **style)
        memory.loglog(
            [c for c, _, m in mine if m is not None], [m for _, _, m in mine if m is not None], **style
        )
    first, machine = rows[0], document["machine"]
    time.set_title("seconds per step, forward and backward", loc="left", fontsize=10)
    memory.set_title("peak MiB beyond inputs and gradients", loc="left", fontsize=10)
    for axes in (time, memory):
        axes.set_xlabel("classes C")
        axes.set_xticks([1e3, 1e4, 1e5, 1e6], ["1 k", "10 k", "100 k", "1 M"])
        axes.grid(visible=True, which="major", alpha=0.35)
        axes.grid(visible=True, which="minor", alpha=0.12)
    figure.legend(
        *time.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9, frameon=False
    )
    threads = f"{first['threads']} thread{'s' * (first['threads'] > 1)}"
    figure.suptitle(
        f"B = {SIZES[0].batch}, D = {SIZES[0].width}, fp32, {threads}, {first['allocator']} allocator; "
        f"{machine['CPU'].split(',')[0]}",
        fontsize=9,
    )
    return figure
