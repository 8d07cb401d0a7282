"""From named sub-losses to one number, with pytorch-metric-learning's reducers recognised by what they do.

A reducer is any callable reducer(loss_dict, embeddings, labels), where loss_dict has by name
{"losses": [B] or a scalar, "indices": [B] or None, "reduction_type": "element" or "already_reduced"}.
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

LossDict: TypeAlias = dict[str, dict[str, Any]]

# These take all sub-losses at once; every other reducer of the library takes exactly one.
_TAKE_ALL = ("MultipleReducers", "DoNothingReducer")


def element_loss(losses: Tensor) -> dict[str, Any]:
    """The entry of a loss with one number per row."""
    indices = torch.arange(len(losses), device=losses.device)
    return {"losses": losses, "indices": indices, "reduction_type": "element"}


def reduced_loss(loss: Any) -> dict[str, Any]:
    """The entry of a loss that is a single number already, such as a regulariser's."""
    return {"losses": loss, "indices": None, "reduction_type": "already_reduced"}


class MeanReducer(nn.Module):
    """The default: the mean over the batch, 0 (still attached to the graph) for an empty one."""

    def forward(self, loss_dict: LossDict, embeddings: Tensor, labels: Tensor) -> Tensor:
        (entry,) = loss_dict.values()
        losses: Tensor = entry["losses"]
        if entry["reduction_type"] == "already_reduced":
            return losses
        return losses.sum() / max(len(losses), 1)


class SumOfLosses(nn.Module):
    """Each sub-loss through its own reducer, then the sum."""

    def __init__(self, reducers: dict[str, Any]) -> None:
        super().__init__()
        self.reducers = nn.ModuleDict(reducers)

    def forward(self, loss_dict: LossDict, embeddings: Tensor, labels: Tensor) -> Tensor:
        values = [self.reducers[name]({name: entry}, embeddings, labels) for name, entry in loss_dict.items()]
        return torch.stack([value.reshape(()) for value in values]).sum()


def make_reducer(reducer: Any, names: list[str]) -> Any:
    """What a loss with the sub-losses `names` calls: `reducer` (None: the mean), or a copy of it per name.

    Raises:
        TypeError: `reducer` is not callable, or not a module where a copy per sub-loss is needed.
    """
    if reducer is None:
        reducer = MeanReducer()
    if not callable(reducer):
        raise TypeError(
            f"reducer must be None or callable as reducer(loss_dict, embeddings, labels), got {reducer!r}"
        )
    if any(base.__name__ in _TAKE_ALL for base in type(reducer).__mro__):
        return reducer
    if len(names) == 1:
        return copy.deepcopy(reducer)
    if not isinstance(reducer, nn.Module):
        raise TypeError(
            f"reducer: with a regularizer it must be an nn.Module (one copy per sub-loss), got {reducer!r}"
        )
    return SumOfLosses({name: copy.deepcopy(reducer) for name in names})
