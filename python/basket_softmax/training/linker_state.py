"""A linker's state in a checkpoint: the prototypes of all classes, so that it goes on at any number of ranks."""

from __future__ import annotations

from typing import Any

import torch

from ..linking import IdentityLinker
from ..linking.shards import gathered
from ..losses import BasketSoftmaxLoss

PROTOTYPES = "prototypes"


@torch.no_grad()
def linker_state(linker: IdentityLinker, head: BasketSoftmaxLoss) -> dict[str, Any]:
    """The state_dict on the CPU; `prototypes` [C, D] on rank 0, and None on the others. Every rank calls it."""
    state = {key: value.cpu() for key, value in linker.state_dict().items()}
    state[PROTOTYPES] = gathered(linker.prototypes, head.placement)
    return state


def load_linker_state(linker: IdentityLinker, head: BasketSoftmaxLoss, state: dict[str, Any]) -> None:
    """Load what rank 0 got; every rank takes its own classes, and the head gets the links."""
    full = state[PROTOTYPES]
    own = full if head.placement is None else head.placement.own_part(full)
    linker.load_state_dict({**state, PROTOTYPES: own})
