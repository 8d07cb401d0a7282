"""From named sub-losses to one number, with pytorch-metric-learning's reducers recognised by what they do.

A reducer is any callable reducer(loss_dict, embeddings, labels), where loss_dict has by name
{"losses": [B] or a scalar, "indices": [B] or None, "reduction_type": "element" or "already_reduced"}.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from .._head import round_to_zero
from .records import Records
from .upstream import upstream_base

LossDict: TypeAlias = dict[str, dict[str, Any]]

if TYPE_CHECKING:
    _MeanBase = nn.Module
    _MultipleBase = nn.Module
else:
    _MeanBase = upstream_base("reducers", "MeanReducer")
    _MultipleBase = upstream_base("reducers", "MultipleReducers")

# These take all sub-losses at once; every other reducer of the library takes exactly one.
_TAKE_ALL = ("MultipleReducers", "DoNothingReducer")


def element_loss(losses: Tensor) -> dict[str, Any]:
    """The entry of a loss with one number per row."""
    indices = torch.arange(len(losses), device=losses.device)
    return {"losses": losses, "indices": indices, "reduction_type": "element"}


def reduced_loss(loss: Any) -> dict[str, Any]:
    """The entry of a loss that is a single number already, such as a regulariser's."""
    return {"losses": loss, "indices": None, "reduction_type": "already_reduced"}


def zero_where_upstream_rounds(losses: Tensor) -> Tensor:
    """[B] losses with exact 0 where upstream's cross entropy rounds to it; the gradient stays exact.

    Reducers that drop rows by their value, such as AvgNonZeroReducer with `losses > 0`, keep the same rows then.
    """
    return losses - torch.where(round_to_zero(losses), losses.detach(), 0.0)


class MeanReducer(Records, _MeanBase):
    """The default: the mean over the batch, 0 (still attached to the graph) for an empty one."""

    def __init__(self, collect_stats: bool | None = None) -> None:
        nn.Module.__init__(self)
        self.start_records(collect_stats)
        self.add_to_recordable_attributes(name="losses_size", is_stat=True)

    def forward(self, loss_dict: LossDict, embeddings: Tensor, labels: Tensor) -> Tensor:
        if len(loss_dict) != 1:
            raise ValueError(
                f"MeanReducer: expected one sub-loss, got {list(loss_dict)}: name further ones in _sub_loss_names, or "
                "give a MultipleReducers"
            )
        (entry,) = loss_dict.values()
        losses = entry["losses"]
        if not isinstance(losses, Tensor) and losses == 0:
            losses = embeddings.sum() * 0.0
        if self.collect_stats:
            self.losses_size = len(losses) if isinstance(losses, Tensor) and losses.dim() else 1
        if entry["reduction_type"] == "already_reduced" or losses.dim() == 0:
            return losses
        return losses.sum() / max(len(losses), 1)


class MultipleReducers(Records, _MultipleBase):
    """Each sub-loss through its own reducer, those without one through the default, then the sum."""

    def __init__(self, reducers: dict[str, Any], default_reducer: Any) -> None:
        nn.Module.__init__(self)
        self.start_records(None)
        self.add_to_recordable_attributes(name="losses_size", is_stat=True)
        self.reducers = nn.ModuleDict(reducers)
        self.default_reducer = default_reducer

    def forward(self, loss_dict: LossDict, embeddings: Tensor, labels: Tensor) -> Tensor:
        values = []
        for name, entry in loss_dict.items():
            reducer = self.reducers[name] if name in self.reducers else self.default_reducer  # noqa: SIM401
            values.append(reducer({name: entry}, embeddings, labels))
        return torch.stack([value.reshape(()) for value in values]).sum()


def make_reducer(reducer: Any, names: list[str], default: Callable[[], Any] = MeanReducer) -> Any:
    """What a loss with the sub-losses `names` calls: `reducer` (None: `default()`), or a copy of it per name.

    Raises:
        TypeError: `reducer` is not callable, or not a module where a copy per sub-loss is needed.
    """
    if reducer is not None and not callable(reducer):
        raise TypeError(
            f"reducer: expected None or a callable reducer(loss_dict, embeddings, labels), got {reducer!r}"
        )
    if any(base.__name__ in _TAKE_ALL for base in type(reducer).__mro__):
        return reducer
    if len(names) == 1:
        return default() if reducer is None else copy.deepcopy(reducer)
    each = {name: default() if reducer is None else copy.deepcopy(reducer) for name in names}
    if not all(isinstance(part, nn.Module) for part in each.values()):
        raise TypeError(
            f"reducer: expected an nn.Module, one copy per sub-loss, with a regularizer, got "
            f"{reducer if reducer is not None else next(iter(each.values()))!r}"
        )
    return MultipleReducers(each, MeanReducer())
