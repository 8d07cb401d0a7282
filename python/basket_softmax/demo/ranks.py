"""The demo under torchrun: its trainings one after another, each by all ranks; rank 0 alone shows and keeps rows.

torchrun --nproc-per-node 2 -m basket_softmax demo
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from .progress import progress_bar
from .regimes import REGIMES
from .train import BATCH, train_once

Row = dict[str, Any]
Job = tuple[str, int]  # rule, seed
MOST_RANKS = BATCH // 2  # two rows each, or a batch norm has no variance


@contextmanager
def torchrun_group() -> Iterator[dist.ProcessGroup | None]:
    """The ranks that torchrun started, over Gloo, one thread each; None in a process that it did not start.

    Raises:
        ValueError: more ranks than a batch has pairs of rows.
    """
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        yield None
        return
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        if dist.get_world_size() > MOST_RANKS:
            raise ValueError(
                f"torchrun: expected 1 to {MOST_RANKS} processes, since a batch has {BATCH} rows, got "
                f"{dist.get_world_size()}"
            )
        yield dist.group.WORLD
    finally:
        dist.destroy_process_group()


def shows(group: dist.ProcessGroup | None) -> bool:
    """Whether this process is the one that talks and writes."""
    return group is None or dist.get_rank(group) == 0


def train_together(
    group: dist.ProcessGroup,
    jobs: Sequence[Job],
    regime: str,
    steps: int | None,
    norm: str,
    keep: Callable[[list[Row]], None],
) -> tuple[list[Row], list[tuple[Job, BaseException]], bool]:
    """On rank 0 the rows of the finished trainings, no failures, and whether it was interrupted; no rows elsewhere.

    Rank 0 calls `keep` with the rows so far after every training: a rank that dies takes the others with it.
    """
    rows: list[Row] = []
    with progress_bar(shown=shows(group)) as progress:
        task = progress.add_task("training steps", total=len(jobs) * (steps or REGIMES[regime].steps))
        try:
            for rule, seed in jobs:
                progress.update(task, description=f"{len(rows)} of {len(jobs)} trainings")
                row = train_once(
                    rule, seed, regime, advance=lambda loss: progress.advance(task), steps=steps, norm=norm,
                    group=group,
                )  # fmt: skip
                if shows(group):
                    rows.append(row)
                    keep(rows)
        except KeyboardInterrupt:
            return rows, [], True
    return rows, [], False
