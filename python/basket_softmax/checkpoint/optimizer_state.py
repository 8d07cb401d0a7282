"""An optimiser's state in two parts: tensors with a row per class, which are sharded like the centres, and the rest.

The rest is small and the same on every rank: step counts, settings, and the state of other parameters that the same
optimiser trains, such as a replicated backbone's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .errors import CheckpointError
from .ranks import Place

PREFIX = "optimizer."
SAME_STATE = ({"SGD", "FusedSGD"},)  # optimisers that can go on from one another's state


def split(
    optimizer: torch.optim.Optimizer, weight: nn.Parameter, place: Place
) -> tuple[dict[str, Tensor], dict]:
    """(rows, rest): this rank's part of the state with a row per class, by name; everything else, rank 0's.

    Raises:
        ValueError: the optimiser does not train `weight`.
        CheckpointError: a tensor of its state belongs neither to a class nor to all (Adafactor's column variances).
    """
    saved = optimizer.state_dict()
    position = position_of(optimizer, weight)
    own = saved["state"].get(position, {})
    rows = {
        k: v
        for k, v in own.items()
        if isinstance(v, Tensor) and v.dim() > 0 and v.shape[0] == weight.shape[0]
    }
    small = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in own.items() if k not in rows}
    rows, small = _agreed(place, rows, small, weight)
    state = {k: v for k, v in saved["state"].items() if k != position}
    rest = {
        "position": position,
        "state": {**state, position: small},
        "param_groups": saved["param_groups"],
    }
    return {PREFIX + k: v for k, v in rows.items()}, rest


def check_kind(saved: str | None, optimizer: torch.optim.Optimizer) -> None:
    """That the checkpoint holds the state of such an optimiser; a CheckpointError otherwise."""
    kind = type(optimizer).__name__
    if saved is None:
        raise CheckpointError(
            f"the checkpoint holds no optimiser state, {kind} was to load it: give optimizer=None to load the "
            "centres alone"
        )
    if saved != kind and not any({saved, kind} <= group for group in SAME_STATE):
        raise CheckpointError(f"the checkpoint holds the state of {saved}, optimizer is {kind}")


def restore(
    optimizer: torch.optim.Optimizer,
    weight: nn.Parameter,
    rest: dict[str, Any],
    rows: dict[str, tuple[torch.dtype, tuple[int, ...]]],
    world: int,
    fill: Callable[[dict[str, Tensor]], None],
) -> None:
    """Put the state back; `fill` reads the rows, by full name, into tensors that are made here.

    Args:
        rows: dtype and shape of one row of each tensor that the checkpoint holds, by full name.

    Raises:
        CheckpointError: `weight` is another parameter of `optimizer` than it was, its groups have other numbers of
            parameters, or the state cannot be sharded.
    """
    here, there = position_of(optimizer, weight), rest["position"]
    if here != there:
        raise CheckpointError(
            f"the loss's weight is parameter {here} of the optimizer, in the checkpoint it is parameter {there}: the "
            "optimizer holds other parameters, or in another order"
        )
    groups, saved = ([len(g["params"]) for g in s] for s in (optimizer.param_groups, rest["param_groups"]))
    if groups != saved:
        raise CheckpointError(
            f"the optimizer has {_groups(groups)}, in the checkpoint it has {_groups(saved)}: give it the same "
            "parameters in the same groups"
        )
    _refuse_tables(rest["state"].get(there, {}), world)
    tensors = {
        name: weight.detach().new_empty((len(weight), *shape), dtype=dtype)
        for name, (dtype, shape) in rows.items()
    }
    fill(tensors)
    own = {**rest["state"].get(there, {}), **{k.removeprefix(PREFIX): v for k, v in tensors.items()}}
    state = {k: v for k, v in rest["state"].items() if k != there}
    optimizer.load_state_dict(
        {"state": {**state, there: own} if own else state, "param_groups": rest["param_groups"]}
    )


def _groups(sizes: list[int]) -> str:
    """For messages: "2 parameter groups, of 1 and 3 parameters"."""
    return f"{len(sizes)} parameter group{'s' * (len(sizes) != 1)}, of {' and '.join(map(str, sizes))} parameters"


def position_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> int:
    """The number under which state_dict() has `weight`; a ValueError if the optimiser does not train it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for position, parameter in enumerate(parameters):
        if parameter is weight:
            return position
    raise ValueError(
        "optimizer: expected the one that trains this loss's weight, got one that does not hold it"
    )


def _agreed(
    place: Place, rows: dict[str, Tensor], small: dict[str, Any], weight: nn.Parameter
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same names on every rank, and the small state of the lowest rank that has any class.

    A rank without classes may have no state at all, while its shard of each tensor is simply empty.
    """
    mine = ({k: (v.dtype, tuple(v.shape[1:])) for k, v in rows.items()}, small, len(weight))
    ranks = place.everywhere(lambda: mine)
    names, chosen, _ = next((rank for rank in ranks if rank[2] > 0), mine)
    for number, (found, _, classes) in enumerate(ranks):
        if classes > 0 and found != names:
            raise CheckpointError(
                f"optimizer state differs between ranks: rank {number} has {sorted(found)}, others {sorted(names)}; "
                "save after a whole step"
            )
    _refuse_tables(chosen, place.world)
    empty = {
        k: rows.get(k, weight.detach().new_empty((len(weight), *shape), dtype=dtype))
        for k, (dtype, shape) in names.items()
    }
    return empty, chosen


def _refuse_tables(small: dict[str, Any], world: int) -> None:
    for key, value in small.items():
        if world > 1 and isinstance(value, Tensor) and value.numel() != 1:
            raise CheckpointError(
                f"optimizer state {key!r} has shape {tuple(value.shape)}: it belongs neither to one class nor to all "
                "ranks alike, so it cannot be sharded; this optimiser resumes in one process only"
            )
