"""`run_demo`: the table's trainings, two at a time, or one after another by the ranks of torchrun; an interrupt or a
failure keeps what is finished."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from .model import NORMS
from .progress import progress_bar
from .ranks import shows, torchrun_group, train_together
from .regimes import REGIMES
from .report import print_table, write
from .rules import QUICK, RULES

SEEDS = (0, 1, 2)
Row = dict[str, Any]
Job = tuple[str, int]  # rule, seed

_steps_done: Any = None  # in a worker: the shared counter behind the progress bar


def run_demo(
    *,
    quick: bool = False,
    seeds: Sequence[int] | None = None,
    regime: str = "many",
    output: Path | str = "demo-output",
    steps: int | None = None,
    norm: str = "batch",
) -> list[Row]:
    """Train under every rule and seed, print the table, write results.json, results.csv and results.png.

    Under torchrun the ranks train together, one training after another: each takes a part of every batch (the backbone
    in DistributedDataParallel) and a part of the classes. Rank 0 alone prints and writes, and returns rows.

    Args:
        quick: one seed and four rules (`all`, `own`, `bbs`, `oracle`).
        seeds: default 0, 1, 2 (0 with `quick`).
        regime: "many" (14 small baskets of mixed styles) or "style" (4 large ones, one per style).
        output: folder, made if missing.
        steps: of each training, to shorten it; the figures then mean nothing.
        norm: of the network: "batch", or "group", with which it does not matter how many ranks share a batch.

    Returns:
        The rows of results.json; on other ranks than 0 none.

    Raises:
        ValueError: an unknown regime or norm, an empty list of seeds, or more ranks than half a batch has rows.
        SystemExit: 130 after an interrupt, with what was finished written.
        RuntimeError: trainings failed; what the others found is written before it is raised.
    """
    if regime not in REGIMES:
        raise ValueError(f"regime: expected one of {', '.join(map(repr, REGIMES))}, got {regime!r}")
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(map(repr, NORMS))}, got {norm!r}")
    seeds = list(SEEDS[:1] if quick else SEEDS) if seeds is None else list(seeds)
    if not seeds:
        raise ValueError("seeds: expected at least one, got none")
    Path(output).mkdir(parents=True, exist_ok=True)  # now, not after the trainings
    names = QUICK if quick else tuple(RULES)
    jobs = [(rule, seed) for seed in seeds for rule in names]  # a whole seed first: an interrupt leaves pairs
    chosen = REGIMES[regime]

    def keep(rows: list[Row]) -> None:
        rows.sort(key=lambda row: (list(RULES).index(row["rule"]), row["seed"]))
        if rows:
            write(rows, chosen, Path(output))

    with torchrun_group() as group:
        if group is None:
            rows, failures, interrupted = _train_all(jobs, regime, steps, norm)
            keep(rows)
        else:
            rows, failures, interrupted = train_together(group, jobs, regime, steps, norm, keep)
        if not shows(group):
            if interrupted:
                raise SystemExit(130)
            return []
    if rows:
        print_table(rows, chosen)
    if interrupted:
        print(
            f"interrupted: {len(rows)} of {len(jobs)} trainings finished"
            + (f", written to {output}" if rows else "")
        )
        raise SystemExit(130)
    if failures:
        (rule, seed), error = failures[0]
        raise RuntimeError(
            f"{len(failures)} of {len(jobs)} trainings failed, first {rule}, seed {seed}"
        ) from error
    print(f"written to {output}")
    return rows


def _train_all(
    jobs: list[Job], regime: str, steps: int | None, norm: str
) -> tuple[list[Row], list[tuple[Job, BaseException]], bool]:
    """Rows of the finished trainings, the failed ones with their errors, and whether it was interrupted."""
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    workers = min(2, os.cpu_count() or 1, len(jobs))
    rows: list[Row] = []
    failures: list[tuple[Job, BaseException]] = []
    with (
        progress_bar() as progress,
        ProcessPoolExecutor(workers, context, _start_worker, (counter,)) as executor,
    ):
        task = progress.add_task("training steps", total=len(jobs) * (steps or REGIMES[regime].steps))
        submitted: dict[Future[Row], Job] = {
            executor.submit(_train, *job, regime, steps, norm): job for job in jobs
        }
        pending = set(submitted)
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    error = future.exception()
                    if error is None:
                        rows.append(future.result())
                    else:
                        failures.append((submitted[future], error))
                progress.update(
                    task, completed=counter.value, description=f"{len(rows)} of {len(jobs)} trainings"
                )
        except KeyboardInterrupt:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            return rows, failures, True
    return rows, failures, False


def _start_worker(counter: Any) -> None:
    import torch

    global _steps_done
    _steps_done = counter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    torch.set_num_threads(1)


def _train(rule: str, seed: int, regime: str, steps: int | None, norm: str) -> Row:
    from .train import train_once

    return train_once(rule, seed, regime, advance=_count_step, steps=steps, norm=norm)


def _count_step(_: Any) -> None:
    with _steps_done.get_lock():
        _steps_done.value += 1
