"""The class-parallel head on 1 and 2 ranks beside insightface's algorithm, `python bench/parallel_scaling.py`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tools")]


@click.command()
@click.option("--rounds", type=click.IntRange(2), default=11, show_default=True, help="Interleaved rounds.")
@click.option(
    "--minutes",
    type=click.FloatRange(0),
    default=7,
    show_default=True,
    help="No further round begins after these.",
)
@click.option("--quick", is_flag=True, help="Few rows and classes: shows that it runs; times mean little.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "docs" / "results" / "parallel",
    show_default="docs/results/parallel",
    help="Folder for results.json, results.csv and results.png.",
)
def main(rounds: int, minutes: float, quick: bool, output: Path) -> None:
    """Strong and weak scaling of the head from one process to two over Gloo, one core each, and the bytes that a rank
    receives in a step, as the kernel's TCP counters have them. Needs two cores and nobody else on them."""
    import parallel_table

    from bbs_kernels.info import info
    from bbs_parallel.cases import DEPTH, FULL, QUICK
    from bbs_parallel.measure import WARM_UP, measure
    from bbs_parallel.report import write

    size = QUICK if quick else FULL
    began, load = time.time(), os.getloadavg()[0]
    with click.progressbar(length=rounds + WARM_UP, label="rounds") as bar:
        found = measure(size, rounds, 60 * minutes, lambda: bar.update(1))
    machine = info()
    machine["CPU"] = machine["CPU"].split(" cores")[0] + " cores"  # torch's threads are those of the layouts
    document = {
        "machine": machine,
        "size": {"rows": size.rows, "classes": size.classes, "depth": DEPTH},
        "seconds": round(time.time() - began, 1),
        "load_before": round(load, 2),  # processes that wanted to run when it began, besides these
        **found,
    }
    write(document, output)
    click.echo(parallel_table.table(document))
    click.echo(f"written to {output}")


if __name__ == "__main__":
    main()
