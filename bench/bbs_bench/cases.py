"""The problems that are timed, and their data: planted positives, so that the softmax is not flat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.rules import Rule

SCALE = 64.0
NOISE = 1.0  # norm of the noise beside a centre of norm 1: target cosines around 0.7


@dataclass(frozen=True)
class Case:
    """One training step to time: B rows of width D against baskets of the given sizes under one rule.

    margin: ArcFace's, in radians; 0 is the plain cosine softmax, which more libraries can compute.
    """

    name: str
    batch: int
    width: int
    sizes: tuple[int, ...]
    mining: Rule
    margin: float = 0.5

    @property
    def classes(self) -> int:
        return sum(self.sizes)

    def forward_gflop(self) -> float:
        """Of the cosines alone: every row meets every class that its rule reads; rows spread over the baskets."""
        met: float = self.classes
        if isinstance(self.mining, bs.Own):
            met = sum(size * size for size in self.sizes) / self.classes
        return 2e-9 * self.batch * met * self.width


@dataclass(frozen=True)
class Data:
    """x [B, D] and w [C, D] with gradients, labels [B] int64 global; offsets [K+1] int64 on the CPU."""

    x: Tensor
    w: Tensor
    labels: Tensor
    offsets: Tensor


def _equal(classes: int, baskets: int) -> tuple[int, ...]:
    return (classes // baskets,) * baskets


def _label(classes: int) -> str:
    return f"{classes // 1_000_000} M" if classes >= 1_000_000 else f"{classes // 1000} k"


QUICK = (
    Case("one basket, C 4 k", 64, 128, (4_000,), bs.All()),
    Case("top-16 of 4 baskets, C 4 k", 64, 128, _equal(4_000, 4), bs.TopK(16)),
)
MAIN = (
    Case("one basket, C 86 k", 256, 512, (86_016,), bs.Own()),
    Case("top-64 of 4 baskets, C 86 k", 256, 512, _equal(86_016, 4), bs.TopK(64)),
    Case("one basket, C 10 k", 256, 512, (10_000,), bs.Own()),
    Case("one basket, C 10 k, no margin", 256, 512, (10_000,), bs.Own(), margin=0.0),
)
RULES = tuple(
    Case(f"top-{k} of {baskets} baskets, C 64 k", 256, 512, _equal(64_000, baskets), bs.TopK(k))
    for baskets in (4, 16)
    for k in (1, 16, 64)
)
SIZES = tuple(
    Case(f"one basket, C {_label(c)}", 256, 512, (c,), bs.Own())
    for c in (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 2_000_000)
)
GPU = (  # sizes that keep a GPU busy
    Case("one basket, C 100 k", 1024, 512, (100_000,), bs.Own()),
    Case("one basket, C 1 M", 1024, 512, (1_000_000,), bs.Own()),
    Case("one basket, C 1 M, no margin", 1024, 512, (1_000_000,), bs.Own(), margin=0.0),
    Case("top-64 of 4 baskets, C 1 M", 1024, 512, _equal(1_000_000, 4), bs.TopK(64)),
)
SUITES = {"quick": QUICK, "main": MAIN, "rules": RULES, "sizes": SIZES, "gpu": GPU}
DEFAULT_SUITE = {"cpu": "main", "cuda": "gpu"}  # by device


def find_case(suite: str, name: str) -> Case:
    return next(case for case in SUITES[suite] if case.name == name)


def make_data(case: Case, seed: int = 0, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Data:
    """The tensors of a case; the same seed gives the same numbers. No second copy of w is made on the way.

    dtype: of x; w is fp32.
    """
    generator = torch.Generator(device).manual_seed(seed)
    w = torch.empty(case.classes, case.width, device=device).normal_(generator=generator)
    for part in w.split(65_536):
        part.div_(torch.linalg.vector_norm(part, dim=1, keepdim=True))
    labels = torch.randint(case.classes, (case.batch,), generator=generator, device=device)
    noise = torch.nn.functional.normalize(
        torch.randn(case.batch, case.width, generator=generator, device=device), dim=1
    )
    x = (w[labels] + NOISE * noise).to(dtype)
    offsets = torch.tensor((0, *case.sizes)).cumsum(0)
    return Data(x.requires_grad_(), w.requires_grad_(), labels, offsets)
