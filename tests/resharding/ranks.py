"""DCP's save and load for any number of ranks in one process: its steps, in its order, rank after rank."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from bbs_kernels.resharding import RowLoadPlanner, RowSavePlanner, SafeReader, ShardedRows
from bbs_kernels.sharding import Sharding


def names(sharding: Sharding) -> tuple[str, ...]:
    return tuple(f"b{i}" for i in range(len(sharding.sizes)))


def shard(full: Tensor, sharding: Sharding, rank: int) -> Tensor:
    return torch.cat([full[start:stop] for start, stop in sharding.ranges(rank)])


def rows(name: str, full: Tensor, sharding: Sharding, rank: int) -> ShardedRows:
    return ShardedRows(name, names(sharding), sharding, rank, shard(full, sharding, rank))


def save(folder: Path, states: list[dict]) -> None:
    """states: what each rank saves."""
    writers = [dcp.FileSystemWriter(folder, sync_files=False) for _ in states]
    planners = [RowSavePlanner() for _ in states]
    plans = []
    for rank, (state, writer, planner) in enumerate(zip(states, writers, planners, strict=True)):
        planner.set_up_planner(state, writer.storage_meta(), rank == 0)
        writer.set_up_storage_writer(rank == 0)
        plans.append(writer.prepare_local_plan(planner.create_local_plan()))
    plans, metadata = planners[0].create_global_plan(plans)
    plans = writers[0].prepare_global_plan(plans)
    results = [
        writer.write_data(planner.finish_plan(plan), planner).value()
        for writer, planner, plan in zip(writers, planners, plans, strict=True)
    ]
    writers[0].finish(metadata, results)


def load(folder: Path, state: dict) -> dict:
    """What one rank reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.load(state, storage_reader=SafeReader(folder), planner=RowLoadPlanner(), no_dist=True)
    return state
