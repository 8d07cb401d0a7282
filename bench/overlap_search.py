"""Time and memory of the overlap search against the number of classes; writes search.csv and search.png.

    OMP_NUM_THREADS=2 python bench/overlap_search.py --output docs/results/overlaps

Both searches of `find_overlaps` are timed: across all pairs of baskets, and within each. Together they compare every
pair of classes. Centres are planted: a third of the identities of a basket are in all baskets.
"""

from __future__ import annotations

import csv
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch

SHARED = 1 / 3
NOISE = 0.5  # of a class around its identity: cosines of a pair around 0.8
LIMIT = 600  # seconds that 1 M classes may take on two cores
COLUMNS = (
    "classes",
    "baskets",
    "depth",
    "threads",
    "across_s",
    "within_s",
    "ns_per_pair",
    "mutual_pairs",
    "rss_mb",
    "machine",
)


def planted(classes: int, baskets: int, depth: int) -> tuple[torch.Tensor, list[int]]:
    """[C, D] fp32 and offsets."""
    generator = torch.Generator().manual_seed(0)
    sizes = [classes // baskets + (b < classes % baskets) for b in range(baskets)]
    shared = round(SHARED * min(sizes))
    people = torch.randn(shared, depth, generator=generator)
    centres = torch.empty(classes, depth)
    offsets = [0, *accumulate(sizes)]
    for first, last in pairwise(offsets):
        centres[first:last].normal_(generator=generator)
        centres[first : first + shared].mul_(NOISE).add_(people)
    return centres, offsets


def measure(classes: int, baskets: int, depth: int, threads: int) -> dict[str, Any]:
    """One row of search.csv; runs in a process of its own, so that its peak memory is its own."""
    from basket_softmax.overlaps import comparisons, mutual_nearest, mutual_nearest_within

    torch.set_num_threads(threads)
    centres, offsets = planted(classes, baskets, depth)
    start = time.perf_counter()
    pairs = mutual_nearest(centres, offsets)
    across = time.perf_counter() - start
    mutual_nearest_within(centres, offsets)
    both = time.perf_counter() - start
    compared = comparisons(offsets) + comparisons(offsets, within=True)
    return {
        "classes": classes, "baskets": baskets, "depth": depth, "threads": threads, "across_s": round(across, 2),
        "within_s": round(both - across, 2), "ns_per_pair": round(both / compared * 1e9, 3),
        "mutual_pairs": len(pairs.first), "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "machine": f"{os.cpu_count()} cores, {cpu_name()}, torch {torch.__version__}",
    }  # fmt: skip


def cpu_name() -> str:
    """From /proc/cpuinfo where there is one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine()
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds against classes, both axes logarithmic, with the quadratic law through the largest size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    classes = [row["classes"] for row in rows]
    total = [row["across_s"] + row["within_s"] for row in rows]
    axes.plot(classes, [row["across_s"] for row in rows], "o-", label="across baskets")
    axes.plot(classes, [row["within_s"] for row in rows], "o-", label="within baskets, for the confidence")
    axes.plot(classes, total, "o-", color="black", label="both")
    law = [total[-1] * (c / classes[-1]) ** 2 for c in classes]
    axes.plot(classes, law, ":", color="grey", label="quadratic, through the largest size")
    axes.axhline(LIMIT, color="firebrick", linewidth=0.8, linestyle="--")
    axes.annotate(
        "10 minutes", (classes[0], LIMIT), textcoords="offset points", xytext=(0, -12), color="firebrick"
    )
    axes.annotate(f"{total[-1]:.0f} s", (classes[-1], total[-1]), textcoords="offset points", xytext=(-34, 2))
    axes.set(xscale="log", yscale="log", xlabel="classes", ylabel="seconds (lower is better)")
    axes.set_title(
        f"Exact mutual nearest classes, {rows[-1]['baskets']} baskets, D = {rows[-1]['depth']}, "
        f"{rows[-1]['threads']} threads\n{rows[-1]['machine']}",
        fontsize=9,
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": ""})


def numbers(text: str) -> list[int]:
    """Comma-separated positive ints, ascending."""
    return sorted(int(part) for part in text.split(","))


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--classes", default="31250,62500,125000,250000,500000,1000000", show_default=True)
@click.option("--baskets", type=click.IntRange(2), default=8, show_default=True)
@click.option("--depth", type=click.IntRange(1), default=128, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("docs/results/overlaps")
)
def main(classes: str, baskets: int, depth: int, threads: int, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for size in numbers(classes):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            rows.append(process.submit(measure, size, baskets, depth, threads).result())
        click.echo(rows[-1])
        with (output / "search.csv").open("w", newline="", encoding="utf-8") as file:  # after every size
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        plot(rows, output / "search.png")


if __name__ == "__main__":
    main()
