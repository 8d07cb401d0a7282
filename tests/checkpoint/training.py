"""A small training loop whose state a checkpoint must hold completely: backbone, head, one optimiser for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

import basket_softmax as bs

BASKETS = {"a": 31, "b": 17, "c": 1, "d": 48}
WIDTH = 12

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "plain": lambda p: torch.optim.SGD(p, lr=0.5),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
}


class Run:
    """One run; `step` is deterministic, so two runs in the same state stay equal bit for bit."""

    def __init__(self, optimizer: str = "momentum", seed: int = 0, **options: Any) -> None:
        torch.manual_seed(seed)
        self.backbone = nn.Linear(WIDTH, WIDTH, dtype=options.get("dtype"))
        options.setdefault("mining", bs.TopK(4, guard=bs.Ema(0.5)))
        self.head = bs.BasketSoftmaxLoss(options.pop("baskets", BASKETS), WIDTH, **options)
        self.optimizer = OPTIMIZERS[optimizer]([*self.backbone.parameters(), *self.head.parameters()])
        self.done = 0

    def step(self, steps: int = 1) -> None:
        for _ in range(steps):
            draw = torch.Generator().manual_seed(self.done)
            x = torch.randn(23, WIDTH, generator=draw)
            labels = torch.randint(0, self.head.num_classes, (23,), generator=draw)
            self.optimizer.zero_grad()
            self.head(self.backbone(x.to(self.head.weight.dtype)), labels).backward()
            self.optimizer.step()
            self.done += 1

    def save(self, folder: Any) -> None:
        extra = {"backbone": self.backbone.state_dict(), "done": self.done}
        bs.checkpoint.save(folder, self.head, self.optimizer, extra)

    def load(self, folder: Any) -> None:
        extra = bs.checkpoint.load(folder, self.head, self.optimizer)
        self.backbone.load_state_dict(extra["backbone"])
        self.done = extra["done"]

    def tensors(self) -> list[Tensor]:
        """Everything that a further step depends on."""
        state = [
            v for p in self.optimizer.state.values() for _, v in sorted(p.items()) if isinstance(v, Tensor)
        ]
        head = [v for v in self.head.state_dict().values() if isinstance(v, Tensor)]
        return [t.detach().clone() for t in (*self.backbone.parameters(), *head, *state)]


def same_bits(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )
