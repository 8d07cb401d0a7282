"""A head's contents, taken for a checkpoint and put back."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bbs_kernels.sharding import Sharding

from ..losses import BasketSoftmaxLoss
from ..losses.fsdp import part_held
from .errors import CheckpointError
from .ranks import Place


def place_of(loss: BasketSoftmaxLoss) -> Place:
    """Where the classes of `loss` belong.

    Raises:
        TypeError: `loss` is none of this library's own heads.
        CheckpointError: FSDP holds a part of them on each rank.
    """
    if not isinstance(loss, BasketSoftmaxLoss):
        raise TypeError(
            f"a checkpoint is of a BasketSoftmaxLoss or one of its kind, got {type(loss).__name__}: save the "
            "state_dict() of other modules with torch.save, on every rank to a file of its own where each has a part"
        )
    if loss.placement is None:
        found = part_held(loss)
        if found is not None:
            raise CheckpointError(
                f"a checkpoint is of a head with process_group, or of one in a single process, got {found}: take its "
                "centres through full_weight() and load_full_weight() to or from a head without FSDP, or save and load "
                "the whole model with torch.distributed.checkpoint"
            )
        return Place(Sharding(loss.baskets.sizes, 1))
    return Place(loss.placement.shard.sharding, loss.placement.ranks.rank, loss.placement.ranks.group)


def refuse_other_ranks(loss: BasketSoftmaxLoss) -> None:
    """Raise CheckpointError on every rank but 0 of torch.distributed when `loss` is whole on each of them."""
    if loss.placement is not None or not dist.is_available() or not dist.is_initialized():
        return
    rank, world = dist.get_rank(), dist.get_world_size()
    if rank > 0:
        raise CheckpointError(
            f"save was called on rank {rank} of {world} for a head without a process group, of which every rank has "
            "its own: expected is rank 0 alone (if torch.distributed.get_rank() == 0). Where ranks train heads that "
            "differ on purpose, make each with a process_group of its own rank, and save to a folder each"
        )


def by_class(loss: BasketSoftmaxLoss, rows: Tensor) -> Tensor:
    """`rows`, of which a class has `loss.subcenters`, as a view with one entry per class: [classes, r, …] for r > 1."""
    return rows if loss.subcenters == 1 else rows.unflatten(0, (-1, loss.subcenters))


def optimizer_of(
    loss: BasketSoftmaxLoss, optimizer: torch.optim.Optimizer | None
) -> torch.optim.Optimizer | None:
    """The optimiser whose state belongs to the checkpoint: the given one, or the loss's own `FusedSGD`."""
    return loss.own_optimizer if optimizer is None else optimizer


def small_state(loss: BasketSoftmaxLoss) -> dict[str, Any]:
    """state_dict() without the centres: running means, a margin's parameters and buffers."""
    return {
        k: v.detach() if isinstance(v, Tensor) else v for k, v in loss.state_dict().items() if k != "weight"
    }


def check_small_state(loss: BasketSoftmaxLoss, saved: dict[str, Any]) -> None:
    """That `saved` has the same entries in the same shapes; a CheckpointError that names the first that differs."""
    here = small_state(loss)
    for key in sorted(saved.keys() | here.keys()):
        if key not in saved or key not in here:
            where = ("the head", "the checkpoint") if key not in saved else ("the checkpoint", "the head")
            raise CheckpointError(
                f"{where[0]} has {key!r}, {where[1]} has not: another margin or mining rule?"
            )
        shapes = [tuple(getattr(entry[key], "shape", ())) for entry in (saved, here)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(f"{key!r} has shape {shapes[0]} in the checkpoint, {shapes[1]} in the head")


def restore_small_state(loss: BasketSoftmaxLoss, saved: dict[str, Any]) -> None:
    """Load what `small_state` gave; the caller has checked that it is of the same baskets."""
    state = OrderedDict(saved)
    # The metadata says whose the running means are: without it they would be left out, as the centres are not here.
    state._metadata = loss.state_dict()._metadata  # type: ignore[attr-defined]
    loss.load_state_dict(state, strict=False)
