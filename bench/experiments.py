"""Train every rule in every cell and seed that is not in the results yet; `--docs` renews docs/experiments.md.

    OMP_NUM_THREADS=1 python bench/experiments.py            # resumes where it stopped
    python bench/experiments.py --docs

One process, one thread. Seeds are outermost, so that at any stop all cells have equally many but for the last one.
"""

from __future__ import annotations

from pathlib import Path

import click

from bbs_experiments import store
from bbs_experiments.cells import CELLS, RULES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "experiments" / "results.jsonl"


@click.command()
@click.option(
    "--seeds", default=5, show_default=True, type=click.IntRange(1), help="Seeds 0 to this, less one."
)
@click.option("--cell", "cells", multiple=True, type=click.Choice(list(CELLS)), help="Default: all of them.")
@click.option("--rule", "rules", multiple=True, type=click.Choice(RULES), help="Default: all of them.")
@click.option("--results", default=RESULTS, show_default="docs/results/experiments/results.jsonl",
              type=click.Path(dir_okay=False, path_type=Path), help="JSON lines, read and appended to.")  # fmt: skip
@click.option("--docs", is_flag=True, help="Train nothing; renew tables and plots of docs/experiments.md.")
def main(seeds: int, cells: tuple[str, ...], rules: tuple[str, ...], results: Path, docs: bool) -> None:
    """The experiments: regimes, wrong labels and rules over several seeds."""
    if docs:
        from bbs_experiments import page

        page.renew(store.read(results), ROOT / "docs")
        return
    finished = {store.key(row) for row in store.read(results)}
    jobs = [(cell, rule, seed) for seed in range(seeds) for cell in cells or CELLS for rule in rules or RULES]
    missing = [job for job in jobs if job not in finished]
    click.echo(f"{len(jobs) - len(missing)} of {len(jobs)} trainings are in {results}, {len(missing)} to do")
    _train(missing, results)


def _train(jobs: list[store.Key], results: Path) -> None:
    import torch

    from basket_softmax.demo.train import train_once
    from bbs_kernels.info import info

    torch.set_num_threads(1)
    about = info()
    machine = f"{about['CPU']}, torch {about['torch']}"
    for n, (name, rule, seed) in enumerate(jobs, 1):
        cell = CELLS[name]
        row = train_once(rule, seed, cell.regime, wrong_labels=cell.wrong_labels)
        store.append(results, {"cell": name, **row, "machine": machine})
        click.echo(
            f"{n}/{len(jobs)} {name} {rule} seed {seed}: rank-1 {row['rank1']:.4f}, {row['seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
