"""The optimisers of a run, their learning rate per step, and gradient clipping over backbone and head."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..losses import BasketSoftmaxLoss
from ..optim import FusedSGD
from .config import Config, Sgd


class Optimizers:
    """One optimiser for backbone, margin and head; or one for the former two and a `FusedSGD` for the head.

    Attributes:
        main: trains everything but a fused head.
        fused: the head's `FusedSGD`, or None.
        trained: what has gradients for `main`.
    """

    def __init__(self, config: Config, backbone: nn.Module, head: BasketSoftmaxLoss) -> None:
        settings = config.optimizer
        head_lr = settings.lr if settings.head.lr is None else settings.head.lr
        head_decay = (
            settings.weight_decay if settings.head.weight_decay is None else settings.head.weight_decay
        )
        rest = [p for name, p in head.named_parameters() if name != "weight"]  # of a learnable margin
        self.trained = [p for p in (*backbone.parameters(), *rest) if p.requires_grad]
        decayed = [p for p in self.trained if p.dim() > 1 or settings.decay_all]
        plain = [p for p in self.trained if p.dim() <= 1 and not settings.decay_all]
        groups: list[dict[str, Any]] = [
            {"params": decayed, "weight_decay": settings.weight_decay, "lr": settings.lr},
            {"params": plain, "weight_decay": 0.0, "lr": settings.lr},
        ]
        groups = [group for group in groups if group["params"]]
        own = {"weight_decay": head_decay, "lr": head_lr}
        self.fused: FusedSGD | None = None
        if isinstance(settings, Sgd):
            momentum = settings.momentum if settings.head.momentum is None else settings.head.momentum
            if settings.head.fused:
                self.fused = FusedSGD(head, momentum=momentum, **own)
            else:
                groups.append({"params": [head.weight], "momentum": momentum, **own})
            self.main: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=settings.momentum)
        else:
            groups.append({"params": [head.weight], **own})
            self.main = torch.optim.AdamW(groups, betas=settings.betas)
        if self.fused is None:
            self.trained.append(head.weight)
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]

    @property
    def all(self) -> list[torch.optim.Optimizer]:
        """Every optimiser."""
        return [self.main] if self.fused is None else [self.main, self.fused]

    def set_rate(self, factor: float) -> float:
        """The learning rates of the next step, as a fraction of their peaks; returns the backbone's."""
        for optimizer in self.all:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
        return self.main.param_groups[0]["lr"]


def gradient_norm(
    replicated: Iterable[Tensor], sharded: Iterable[Tensor], group: dist.ProcessGroup | None
) -> Tensor:
    """L2 norm of all gradients together, a scalar on their device; parameters without a gradient count as 0.

    Args:
        replicated: parameters whose gradient is the same on every rank.
        sharded: parameters of which every rank has a part.
        group: the ranks that have the parts; None: this process has all.
    """
    parts = list(sharded)
    squares = []
    if parts:
        squares.append(_square(parts))
        if group is not None:  # every rank takes part, also one whose part is empty
            dist.all_reduce(squares[0], group=group)
    squares.append(_square(list(replicated)))
    return torch.stack([s.to(squares[0].device) for s in squares]).sum().sqrt()


def clip_gradients(parameters: Iterable[Tensor], norm: Tensor, limit: float) -> None:
    """Scale all gradients by limit / norm where the norm is larger; a norm that is not finite changes nothing."""
    factor = torch.where(norm.isfinite(), limit / (norm + 1e-6), 1.0).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor.to(parameter.grad.device))


def _square(parameters: list[Tensor]) -> Tensor:
    squares = [
        torch.linalg.vector_norm(_values(p.grad), dtype=torch.float32).square()
        for p in parameters
        if p.grad is not None
    ]
    if squares:
        return torch.stack(squares).sum()
    return torch.zeros((), device=parameters[0].device if parameters else None)


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def warmup_steps(epochs: float, steps_per_epoch: int) -> int:
    """Of a warm-up of so many epochs, rounded up."""
    return math.ceil(epochs * steps_per_epoch)
