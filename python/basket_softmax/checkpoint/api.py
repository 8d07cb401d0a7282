"""save, load and inspect: what a training loop calls."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..losses import BasketSoftmaxLoss
from .errors import CheckpointError
from .folder import reading, verify
from .heads import (
    by_class,
    check_small_state,
    optimizer_of,
    place_of,
    refuse_other_ranks,
    restore_small_state,
    small_state,
)
from .manifest import Manifest, check_baskets
from .optimizer_state import PREFIX, check_kind, restore, split
from .ranks import Place
from .store import Contents, dtype_name, open_checkpoint, read_objects, read_rows, write


def save(
    folder: str | PathLike[str],
    loss: BasketSoftmaxLoss,
    optimizer: torch.optim.Optimizer | None = None,
    extra: Any = None,
) -> None:
    """Write a checkpoint that loads at any number of ranks and under either kind of shard.

    Every rank of the loss's process group calls it, with the same folder on a file system that all of them share.
    Without a process group every rank has a whole head: rank 0 saves it, and other ranks are refused, as they would
    save their own over it. The folder may hold an earlier checkpoint; that one stays valid until the new one is
    complete, and a crash leaves one of the two. Processes that save to one folder do so one after the other, and the
    last one stays; see docs/checkpoints.md for file systems without locks.

    Args:
        folder: made if it does not exist. It belongs to the checkpoint.
        loss: the head: its centres, running means, and the state of its margin.
        optimizer: the one that trains `loss.weight`, whose state is stored too. Other parameters that it trains must
            be the same on every rank, as a backbone's under DDP are. A `FusedSGD` need not be given.
        extra: what else belongs to the run, as rank 0 has it: a backbone's state_dict, the epoch, a scheduler's state.
            Tensors, numbers, strings, and dicts, lists and tuples of these.

    Raises:
        CheckpointError: `extra` holds something else; a rank failed; the optimiser's state cannot be sharded; a head
            without a process group on another rank than 0; another process kept writing to the folder for 300 s.
        ValueError: `optimizer` does not train `loss.weight`.
    """
    place, optimizer = place_of(loss), optimizer_of(loss, optimizer)
    refuse_other_ranks(loss)
    _same_optimizer(place, optimizer)
    rows, objects = {"weight": loss.weight.detach()}, {"head": small_state(loss), "extra": extra}
    if optimizer is not None:
        state, objects["optimizer"] = place.together(lambda: split(optimizer, loss.weight, place))
        rows |= state
    name = None if optimizer is None else type(optimizer).__name__
    entries = {key: by_class(loss, tensor) for key, tensor in rows.items()}
    write(Path(folder), place, Contents(loss.baskets, entries, objects, name))


@torch.no_grad()
def load(
    folder: str | PathLike[str], loss: BasketSoftmaxLoss, optimizer: torch.optim.Optimizer | None = None
) -> Any:
    """Load a checkpoint into a head of the same baskets; centres and state have the bits that were saved.

    Every rank of the loss's process group calls it. All files are checked against their digests before anything is
    changed, and nothing but tensors and plain values is ever unpickled.

    Args:
        folder: what `save` was given.
        loss: a head with the same baskets in the same order, the same width, dtype and sub-centres.
        optimizer: as for `save`; None loads the centres without an optimiser's state (a `FusedSGD` of the loss takes
            its own).

    Returns:
        What `save` got as `extra`, tensors on the CPU.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or not of this head; the message names what differs.
        ValueError: `optimizer` does not train `loss.weight`.
    """
    folder, place, optimizer = Path(folder), place_of(loss), optimizer_of(loss, optimizer)

    _same_optimizer(place, optimizer)

    def check(manifest: Manifest) -> None:
        check_baskets(
            manifest, loss.baskets, loss.embedding_size, dtype_name(loss.weight.dtype), loss.subcenters
        )
        if optimizer is not None:
            check_kind(manifest.optimizer, optimizer)

    with open_checkpoint(folder, place, check) as manifest:
        return _take(folder, place, manifest, loss, optimizer)


def _same_optimizer(place: Place, optimizer: torch.optim.Optimizer | None) -> None:
    """Raise CheckpointError, on every rank, where ranks bring optimisers of different kinds."""
    kinds = place.everywhere(lambda: None if optimizer is None else type(optimizer).__name__)
    other = next((rank for rank, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None:
        raise CheckpointError(
            f"optimizer: expected the same kind on all ranks, got {kinds[0]} on rank 0 and {kinds[other]} on rank "
            f"{other}"
        )


def _take(
    folder: Path,
    place: Place,
    manifest: Manifest,
    loss: BasketSoftmaxLoss,
    optimizer: torch.optim.Optimizer | None,
) -> Any:
    """Load the contents; return `extra`."""
    names = ("head", "extra") if optimizer is None else ("head", "extra", "optimizer")
    objects = read_objects(folder, place, manifest, *names)
    check_small_state(loss, objects["head"])

    def fill(tensors: dict[str, Tensor]) -> None:
        entries = {key: by_class(loss, tensor) for key, tensor in tensors.items()}
        read_rows(folder, place, manifest, loss.baskets, entries)

    if optimizer is not None:
        rows = {
            name: (getattr(torch, info.dtype), info.shape[1:] if loss.subcenters > 1 else info.shape)
            for name, info in manifest.rows.items()
            if name.startswith(PREFIX)
        }
        restore(
            optimizer,
            loss.weight,
            objects["optimizer"],
            rows,
            place.world,
            fill,
        )
    fill({"weight": loss.weight.detach()})
    restore_small_state(loss, objects["head"])
    return objects["extra"]


def inspect(folder: str | PathLike[str], check_files: bool = True) -> Manifest:
    """What a checkpoint holds, without loading it.

    Args:
        check_files: compare all files with their digests.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    with reading(Path(folder)) as manifest:
        if check_files:
            verify(Path(folder), manifest)
        return manifest
