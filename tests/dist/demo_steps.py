"""Bodies: the demo's training by several ranks beside one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from basket_softmax.demo.train import train

STEPS = 20


def losses_of(rule: str, norm: str, group: dist.ProcessGroup | None) -> Tensor:
    found: list[Tensor] = []
    train(rule, 0, steps=STEPS, norm=norm, advance=found.append, group=group)
    return torch.stack(found).double()


def twenty_steps(group: dist.ProcessGroup, rule: str, norm: str) -> float:
    """Largest difference of the losses between the ranks together and one process, relative to the loss."""
    got, want = losses_of(rule, norm, group), losses_of(rule, norm, None)
    return float(((got - want).abs() / want).max())
