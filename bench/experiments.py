"""Train every rule in every cell and seed that is not in the results yet; `--docs` renews docs/experiments.md.

    OMP_NUM_THREADS=1 python bench/experiments.py            # resumes where it stopped
    python bench/experiments.py --docs

One process, one thread. Seeds are outermost, so that at any stop all cells have equally many but for the last one.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import click

from bbs_experiments import page, store
from bbs_experiments.cells import CELLS, RULES
from bbs_experiments.statistics import Cell
from bbs_experiments.tables import pairs, table

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "results" / "experiments"
PAIRS = (("bbs", "below-tuned"), ("linker", "bbs"), ("oracle", "linker"))


@click.command()
@click.option(
    "--seeds", default=5, show_default=True, type=click.IntRange(1), help="Seeds 0 to this, less one."
)
@click.option("--cell", "cells", multiple=True, type=click.Choice(list(CELLS)), help="Default: all of them.")
@click.option("--rule", "rules", multiple=True, type=click.Choice(RULES), help="Default: all of them.")
@click.option("--results", default=FOLDER / "results.jsonl", show_default="docs/results/experiments/results.jsonl",
              type=click.Path(dir_okay=False, path_type=Path), help="JSON lines, read and appended to.")  # fmt: skip
@click.option("--docs", is_flag=True, help="Train nothing; renew tables and plots of docs/experiments.md.")
def main(seeds: int, cells: tuple[str, ...], rules: tuple[str, ...], results: Path, docs: bool) -> None:
    """The experiments: regimes, wrong labels and rules over several seeds."""
    if docs:
        write_page(store.read(results))
        return
    from bbs_experiments.training import train_missing

    jobs = [(cell, rule, seed) for seed in range(seeds) for cell in cells or CELLS for rule in rules or RULES]
    train_missing(jobs, results)


def write_page(rows: list[store.Row]) -> None:
    """Tables and plots of docs/experiments.md from what is there."""
    from bbs_experiments import plots

    found = {name: Cell(rows, name) for name in CELLS}
    content = {name: partial(table, cell, RULES) for name, cell in found.items()}
    metrics = {"rank1": "rank-1", "tar_1e3": "TAR@FAR 1e-3"}
    content |= {f"{name}-pairs": partial(pairs, cell, PAIRS, metrics) for name, cell in found.items()}
    content["run"] = partial(_run, rows)
    page.renew(ROOT / "docs" / "experiments.md", content)
    plots.differences(rows, FOLDER / "differences.png")
    plots.wrong_labels(rows, FOLDER / "wrong-labels.png")


def _run(rows: list[store.Row]) -> str:
    machines = ", ".join(
        f"{name} ({count})" for name, count in Counter(row["machine"] for row in rows).items()
    )
    hours = sum(row["seconds"] for row in rows) / 3600
    return (
        f"{len(rows)} trainings on {machines}: `python bench/experiments.py`, {hours:.1f} hours. Other work ran on "
        "the same cores, so the seconds in the results say nothing about speed."
    )


if __name__ == "__main__":
    main()
