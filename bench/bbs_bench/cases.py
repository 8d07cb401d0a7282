"""The problems that are timed, and their data: planted positives, so that the softmax is not flat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.rules import Rule

SCALE = 64.0
MARGIN = 0.5  # radians, ArcFace
NOISE = 1.0  # norm of the noise beside a centre of norm 1: target cosines around 0.7


@dataclass(frozen=True)
class Case:
    """One training step to time: B rows of width D against baskets of the given sizes under one rule."""

    name: str
    batch: int
    width: int
    sizes: tuple[int, ...]
    mining: Rule

    @property
    def classes(self) -> int:
        return sum(self.sizes)

    def describe(self) -> str:
        sizes = " + ".join(f"{size:,}" for size in self.sizes)
        return f"{self.name}: B {self.batch}, D {self.width}, C {sizes}"


@dataclass(frozen=True)
class Data:
    """x [B, D] and w [C, D] fp32 with gradients, labels [B] int64 global, offsets [K+1] int64."""

    x: Tensor
    w: Tensor
    labels: Tensor
    offsets: Tensor


FULL = (
    Case("one basket", 128, 512, (20_000,), bs.All()),
    Case("naive merge", 128, 512, (10_000, 20_000, 10_000), bs.All()),
    Case("one head each", 128, 512, (10_000, 20_000, 10_000), bs.Own()),
    Case("threshold", 128, 512, (10_000, 20_000, 10_000), bs.Below(bs.Absolute(0.4))),
    Case("top-k", 128, 512, (10_000, 20_000, 10_000), bs.TopK()),
)
QUICK = (
    Case("one basket", 64, 128, (4_000,), bs.All()),
    Case("top-k", 64, 128, (1_000, 2_000, 1_000), bs.TopK()),
)


def make_data(case: Case, seed: int = 0) -> Data:
    """The tensors of a case; the same seed gives the same numbers."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.nn.functional.normalize(torch.randn(case.classes, case.width, generator=generator), dim=1)
    labels = torch.randint(case.classes, (case.batch,), generator=generator)
    noise = torch.nn.functional.normalize(torch.randn(case.batch, case.width, generator=generator), dim=1)
    x = w[labels] + NOISE * noise
    offsets = torch.tensor((0, *case.sizes)).cumsum(0)
    return Data(x.requires_grad_(), w.requires_grad_(), labels, offsets)
