"""Trains what is missing, one process and one thread, and writes each result down at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import torch

from basket_softmax.demo.train import train_once
from bbs_kernels.info import info

from . import store
from .cells import CELLS


def train_missing(jobs: Sequence[store.Key], results: Path) -> None:
    """Train the jobs that `results` does not hold, in order; two processes may share the file.

    Args:
        jobs: (cell, rule, seed).
        results: JSON lines, appended to.
    """
    torch.set_num_threads(1)
    machine = f"{info()['CPU']}, torch {torch.__version__}"
    finished = {store.key(row) for row in store.read(results)}
    missing = [job for job in jobs if job not in finished]
    click.echo(f"{len(jobs) - len(missing)} of {len(jobs)} trainings are in {results}, {len(missing)} to do")
    for n, (name, rule, seed) in enumerate(missing, 1):
        if store.has(results, (name, rule, seed)):
            continue  # another process was faster
        cell = CELLS[name]
        row = train_once(rule, seed, cell.regime, wrong_labels=cell.wrong_labels)
        store.append(results, {"cell": name, **row, "machine": machine})
        click.echo(
            f"{n}/{len(missing)} {name} {rule} seed {seed}: rank-1 {row['rank1']:.4f}, {row['seconds']:.0f} s"
        )
