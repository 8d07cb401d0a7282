"""One problem for the ops, and the ways to run it: the kernels, the fp64 reference, the same formula in eager fp32.

Data is never flat: embeddings lie near their own centre, other baskets hold near and exact copies of it, some
rows are ignored, norms differ by orders of magnitude.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from bbs_kernels import functional, reference
from bbs_kernels.rules import Rule, TopK

F32_MAX = torch.finfo(torch.float32).max


@dataclass(frozen=True, repr=False)
class Problem:
    """Arguments of cos_lse; `x` [B, D], `w` [C*r, D], `labels` [B], `offsets` [K+1]."""

    x: Tensor
    w: Tensor
    labels: Tensor
    offsets: Tensor
    mining: Rule = TopK(3, 1)  # noqa: RUF009  (frozen)
    scale: float = 64.0
    aliases: Tensor | None = None
    ignore_index: int = -1
    ema: Tensor | None = None
    subcenters: int = 1

    def __repr__(self) -> str:
        return (
            f"Problem(x {self.x.dtype} {tuple(self.x.shape)}, w {self.w.dtype} {tuple(self.w.shape)}, "
            f"offsets {self.offsets.tolist()}, {self.mining}, scale {self.scale}, subcenters {self.subcenters})"
        )

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        printer.text(repr(self))  # or hypothesis prints every element

    def replace(self, **changes: object) -> Problem:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    @property
    def valid(self) -> Tensor:
        return self.labels != self.ignore_index

    @property
    def num_classes(self) -> int:
        return len(self.w) // self.subcenters

    def _call(self, cos_lse, x: Tensor, w: Tensor, **more: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return cos_lse(
            x, w, self.labels, self.offsets, scale=self.scale, mining=self.mining, aliases=self.aliases,
            ignore_index=self.ignore_index, ema=self.ema, subcenters=self.subcenters, **more,
        )  # fmt: skip

    def kernel(self, **more: object) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self._call(functional.cos_lse, self.x, self.w, **more)

    def exact_operands(self) -> tuple[Tensor, Tensor]:
        """fp64 copies of the values that the kernel computes with: fp32 centres rounded to a 16-bit x's dtype."""
        return self.x.detach().double().contiguous(), self.w.detach().to(self.x.dtype).double().contiguous()

    def oracle(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        limit = {} if self.x.dtype == torch.float64 else {"norm_limit": F32_MAX}
        ema = None if self.ema is None else self.ema.double()
        return self.replace(ema=ema)._call(reference.cos_lse, *self.exact_operands(), **limit)

    def kernel_gradients(
        self, u: Tensor, t: Tensor, wrt: str = "xw", **more: object
    ) -> tuple[Tensor | None, Tensor | None]:
        """(dX, dW) of sum(u * lse + t * cos_t); `wrt` names the operands that require a gradient."""
        x, w = (v.detach().requires_grad_(name in wrt) for name, v in (("x", self.x), ("w", self.w)))
        lse, cos_t, _, _ = self._call(functional.cos_lse, x, w, **more)
        torch.autograd.backward([lse, cos_t], [u.to(lse.dtype), t.to(lse.dtype)])
        return x.grad, w.grad

    def oracle_gradients(self, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x, w = (v.requires_grad_() for v in self.exact_operands())
        ema = None if self.ema is None else self.ema.double()
        lse, cos_t, _, _ = self.replace(ema=ema)._call(reference.cos_lse, x, w)
        torch.autograd.backward([lse, cos_t], [u.double(), t.double()])
        return _gradient(x), _gradient(w)

    def eager_gradients(self, u: Tensor, t: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """The dense formula in fp32 on the same values, as a user would write it, for given negatives [B, C]."""
        x, w = (v.float().requires_grad_() for v in self.exact_operands())
        rows = torch.nonzero(self.valid & (negatives.any(1) | (u == 0))).flatten()
        cos = torch.nn.functional.linear(_unit(x[rows]), _unit(w))
        if self.subcenters > 1:
            cos = cos.unflatten(1, (self.num_classes, self.subcenters)).amax(2)
        empty = ~negatives[rows].any(1)
        kept = negatives[rows] | empty[:, None]  # u = 0 there; logsumexp of nothing has a NaN gradient
        lse = torch.logsumexp(torch.where(kept, self.scale * cos, -torch.inf), dim=1)
        cos_t = cos.gather(1, self.labels[rows, None])[:, 0]
        torch.autograd.backward([lse, cos_t], [u[rows].float(), t[rows].float()])
        return _gradient(x), _gradient(w)


def _gradient(v: Tensor) -> Tensor:
    return torch.zeros_like(v) if v.grad is None else v.grad


def _unit(v: Tensor) -> Tensor:
    norm = v.norm(dim=1, keepdim=True)
    return torch.where(norm < 1e-12, 0.0, v / norm.clamp_min(1e-12))


def make(
    rows: int = 37,
    depth: int = 31,
    sizes: tuple[int, ...] = (97, 31, 1, 111),
    dtype: torch.dtype = torch.float32,
    w_dtype: torch.dtype | None = None,
    seed: int = 0,
    noise: float = 0.7,
    spread: float = 1.0,
    copies: float = 0.1,
    ignored: float = 0.1,
    mates: bool = False,
    subcenters: int = 1,
    **fields: object,
) -> Problem:
    """A random problem.

    noise: distance of an embedding from its unit centre. spread: norms are 10^N(0, spread) apart.
    copies: share of centres that are an exact copy of another centre; another such share are near copies.
    mates: give aliases to some of the copies and to random classes.
    subcenters: centres of a class, one of which an embedding is near.
    """
    g = torch.Generator().manual_seed(seed)
    classes = sum(sizes)
    centres = classes * subcenters
    w = torch.nn.functional.normalize(torch.randn(centres, depth, generator=g, dtype=torch.float64), dim=1)
    for near in (0.0, 0.05):
        count = int(copies * centres)
        to, source = (
            torch.randperm(centres, generator=g)[:count],
            torch.randint(max(centres, 1), (count,), generator=g),
        )
        w[to] = w[source] + near * torch.randn(count, depth, generator=g, dtype=torch.float64)
    labels = torch.randint(max(classes, 1), (rows,), generator=g) if classes else torch.full((rows,), -1)
    x = torch.randn(rows, depth, generator=g, dtype=torch.float64) * (noise / depth**0.5)
    if classes:
        chosen = torch.randint(subcenters, (rows,), generator=g) if subcenters > 1 else 0
        x = x + w[labels * subcenters + chosen]
    x, w = (v * 10 ** (spread * torch.randn(len(v), 1, generator=g, dtype=torch.float64)) for v in (x, w))
    if rows > 3:
        x[3], labels[3] = x[2], labels[2]  # two equal rows
    # Exact copies must stay exact after the norms were spread: copy whole rows once more.
    count = int(copies * centres)
    w[torch.randperm(centres, generator=g)[:count]] = w[torch.randint(max(centres, 1), (count,), generator=g)]
    labels = torch.where(torch.rand(rows, generator=g) < ignored, -1, labels)
    offsets = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    aliases = torch.randint(-2, max(classes // 3, 2), (classes,), generator=g) if mates else None
    return Problem(
        x.to(dtype),
        w.to(w_dtype or dtype),
        labels,
        offsets,
        **{"aliases": aliases, "subcenters": subcenters, **fields},
    )  # type: ignore[arg-type]


def upstream(problem: Problem, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random gradients of lse and cos_t, both signs, fp64; u is 0 where lse is -inf, as the loss gives it."""
    g = torch.Generator().manual_seed(seed)
    u, t = torch.randn(2, len(problem.labels), generator=g, dtype=torch.float64)
    return torch.where(problem.oracle()[0].isinf(), 0.0, u), t
