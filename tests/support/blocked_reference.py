"""One step of `TopK` or `Own` with ArcFace, over blocks of classes: what a large case on a GPU is compared with.

`bbs_kernels.reference` sums every cosine by itself and holds B x C of them, which 100,000 classes do not allow. Here a
block of classes is multiplied at a time, on the device of the tensors, in fp64 (the oracle) or as a training loop in
another precision would (the yardstick). Which classes are mined is given: rounding may swap two that tie, see
`best_cosines`. tests/support/test_blocked_reference.py compares it with `bbs_kernels.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16_384  # classes
GATHERED = 1 << 26  # elements of mined centres held at a time

Product = Callable[[Tensor, Tensor], Tensor]  # a [n, D], b [D, m] -> [n, m]


class Step(NamedTuple):
    """losses, lse, cos_t [B]; dx [B, D] and dw [C, D] of the sum of the losses."""

    losses: Tensor
    lse: Tensor
    cos_t: Tensor
    dx: Tensor
    dw: Tensor


class Problem(NamedTuple):
    """x [B, D] and w [C, D] hold the values that are multiplied; labels [B] global, -1 ignored; offsets [K+1] int64."""

    x: Tensor
    w: Tensor
    labels: Tensor
    offsets: Tensor
    scale: float

    def home(self) -> Tensor:
        """[B] basket of each row."""
        return torch.bucketize(self.labels, self.offsets.to(self.labels.device)[1:], right=True)

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(basket, first class, end) of every block."""
        edges = self.offsets.tolist()
        for basket in range(len(edges) - 1):
            for first in range(edges[basket], edges[basket + 1], BLOCK):
                yield basket, first, min(first + BLOCK, edges[basket + 1])


def multiplied_in(dtype: torch.dtype) -> Product:
    """Products whose operands are rounded to `dtype`, with a result in the operands' own."""
    return lambda a, b: (a.to(dtype) @ b.to(dtype)).to(a.dtype)


def best_cosines(p: Problem, count: int) -> Tensor:
    """[B, K, count] fp64: the largest cosines of each row with each other basket, descending; -inf: none."""
    x_hat, home = F.normalize(p.x.double()), p.home()
    best = x_hat.new_full((len(p.x), len(p.offsets) - 1, count), -math.inf)
    for basket, first, end in p.blocks():
        rows = torch.nonzero((home != basket) & (p.labels >= 0)).flatten()
        cos = x_hat[rows] @ F.normalize(p.w[first:end].double()).t()
        best[rows, basket] = torch.cat([best[rows, basket], cos], dim=1).topk(count, dim=1).values
    return best


def cosines_of(p: Problem, classes: Tensor) -> Tensor:
    """Cosines [B, K, k] fp64 of the rows with given classes, 0 where the class is -1."""
    return _mined_cosines(F.normalize(p.x.double()), p.w, classes)


def step(
    p: Problem,
    mined: Tensor,
    margin: Callable[[Tensor], Tensor],
    dtype: torch.dtype,
    product: Product = torch.matmul,
) -> Step:
    """The sum of the rows' losses with its gradients, in `dtype`.

    Args:
        mined: [B, K, k] int64, the classes of other baskets that count, -1 padded.
        margin: psi of the target cosines.
        product: how matrices are multiplied.
    """
    x, home, valid = p.x.to(dtype), p.home(), p.labels >= 0
    norms = x.norm(dim=1, keepdim=True)
    x_hat, target = x / norms, p.labels.clamp_min(0)
    lse = x.new_full((len(x),), -math.inf)
    for basket, first, end in p.blocks():
        rows, cos, _ = _own(p, x_hat, home, basket, first, end, dtype, product)
        lse[rows] = torch.logaddexp(lse[rows], (p.scale * cos).logsumexp(dim=1))
    mined_cos = _mined_cosines(x_hat, p.w, mined)
    logits = torch.where(mined >= 0, p.scale * mined_cos, -math.inf).flatten(1)
    if logits.shape[1]:
        lse = torch.logaddexp(lse, logits.logsumexp(dim=1))
    cos_t = (x_hat * F.normalize(p.w[target].to(dtype))).sum(dim=1)
    losses, u, t = _losses(lse, cos_t, valid, margin, p.scale)

    dx_hat = t[:, None] * F.normalize(p.w[target].to(dtype))
    dw = torch.zeros(p.w.shape, dtype=dtype, device=x.device)
    dw.index_add_(0, target, t[:, None] * x_hat)
    for basket, first, end in p.blocks():
        rows, cos, w_hat = _own(p, x_hat, home, basket, first, end, dtype, product)
        g = p.scale * u[rows, None] * (p.scale * cos - lse[rows, None]).exp()
        dx_hat[rows] += product(g, w_hat)
        dw[first:end] += product(g.t(), x_hat[rows])
    _add_mined(dx_hat, dw, p, x_hat, mined, mined_cos, u, lse)
    for _, first, end in p.blocks():  # the Jacobian of the norm
        w = p.w[first:end].to(dtype)
        length = w.norm(dim=1, keepdim=True)
        dw[first:end] = _through_norm(dw[first:end], w / length, length)
    return Step(
        losses, torch.where(valid, lse, -math.inf), torch.where(valid, cos_t, 0.0),
        _through_norm(dx_hat, x_hat, norms), dw,
    )  # fmt: skip


def _own(
    p: Problem, x_hat: Tensor, home: Tensor, basket: int, first: int, end: int, dtype: torch.dtype,
    product: Product,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The rows of the basket [R], their cosines with the block [R, n], -inf at targets, and the normalised block."""
    rows = torch.nonzero((home == basket) & (p.labels >= 0)).flatten()
    w_hat = F.normalize(p.w[first:end].to(dtype))
    cos = product(x_hat[rows], w_hat.t())
    classes = torch.arange(first, end, device=cos.device)
    return rows, cos.masked_fill(p.labels[rows, None] == classes, -math.inf), w_hat


def _losses(
    lse: Tensor, cos_t: Tensor, valid: Tensor, margin: Callable[[Tensor], Tensor], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """losses [B] and their derivatives by lse and by the target cosine; zeros at ignored rows."""
    lse = torch.where(valid, lse, 0.0).requires_grad_()
    cos_t = torch.where(valid, cos_t, 0.5).detach().requires_grad_()
    z = lse - scale * margin(cos_t)
    losses = torch.where(valid, torch.logaddexp(torch.zeros_like(z), z), 0.0)
    u, t = torch.autograd.grad(losses.sum(), (lse, cos_t))
    return losses.detach(), u, t


def _mined_cosines(x_hat: Tensor, w: Tensor, classes: Tensor) -> Tensor:
    """[B, K, k]; a slice of rows at a time, whose centres fit `GATHERED`."""
    out = x_hat.new_zeros(classes.shape)
    for rows in _slices(classes, w.shape[1]):
        w_hat = F.normalize(w[classes[rows].clamp_min(0)].to(x_hat.dtype), dim=-1)
        cos = torch.einsum("bd,bknd->bkn", x_hat[rows], w_hat)
        out[rows] = torch.where(classes[rows] >= 0, cos, 0.0)
    return out


def _add_mined(
    dx_hat: Tensor, dw: Tensor, p: Problem, x_hat: Tensor, mined: Tensor, cos: Tensor, u: Tensor, lse: Tensor
) -> None:
    """Add the pairs of the mined classes to the gradients of the normalised rows and centres, in place."""
    for rows in _slices(mined, p.w.shape[1]):
        weight = (p.scale * cos[rows] - lse[rows, None, None]).exp()
        g = torch.where(mined[rows] >= 0, p.scale * u[rows, None, None] * weight, 0.0)
        classes = mined[rows].clamp_min(0)
        w_hat = F.normalize(p.w[classes].to(x_hat.dtype), dim=-1)
        dx_hat[rows] += torch.einsum("bkn,bknd->bd", g, w_hat)
        pairs = g[..., None] * x_hat[rows, None, None, :]
        dw.index_add_(0, classes.flatten(), pairs.flatten(0, 2))


def _slices(classes: Tensor, width: int) -> Iterator[slice]:
    """Slices of the rows whose centres fit `GATHERED`; none where nothing is mined."""
    of_row = classes[:1].numel() * width
    if of_row:
        length = max(1, GATHERED // of_row)
        yield from (slice(i, i + length) for i in range(0, len(classes), length))


def _through_norm(gradient: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """The gradient of v from that of v / |v|."""
    return (gradient - unit * (unit * gradient).sum(dim=1, keepdim=True)) / length
