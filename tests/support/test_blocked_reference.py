"""The blocked reference against the dense one, with blocks that cut baskets anywhere."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from bbs_kernels import reference
from support import blocked_reference
from support.blocked_reference import Problem, best_cosines, cosines_of, multiplied_in, step

SCALE = 16.0


def problem(sizes: list[int], rows: int = 23, dim: int = 12) -> Problem:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(sum(sizes), dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(sum(sizes), (rows,), generator=generator)
    x = w[labels] + torch.randn(rows, dim, generator=generator, dtype=torch.float64)
    labels[::7] = -1
    return Problem(x, w, labels, torch.tensor([0, *sizes]).cumsum(0), SCALE)


@pytest.mark.parametrize("gathered", [1, 1 << 20])
@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("sizes", [[60], [31, 0, 17, 12]], ids=str)
def test_agrees_with_the_dense_reference(monkeypatch, sizes, block, gathered) -> None:
    monkeypatch.setattr(blocked_reference, "BLOCK", block)
    monkeypatch.setattr(blocked_reference, "GATHERED", gathered)
    p, margin = problem(sizes), bs.ArcFace(0.5)
    mining = bs.TopK(k=3, skip=1) if len(sizes) > 1 else bs.Own()
    x, w = p.x.clone().requires_grad_(), p.w.clone().requires_grad_()
    lse, cos_t, mined, mined_cos = reference.cos_lse(x, w, p.labels, p.offsets, scale=SCALE, mining=mining)
    valid = p.labels >= 0
    losses = torch.where(valid, reference.row_losses(lse, margin(cos_t), scale=SCALE), 0.0)
    losses[valid].sum().backward()
    got = step(p, mined, margin, torch.float64)
    for name, want in {
        "losses": losses.detach(), "lse": lse.detach(), "cos_t": cos_t.detach(), "dx": x.grad, "dw": w.grad,
    }.items():  # fmt: skip
        torch.testing.assert_close(getattr(got, name), want, rtol=1e-11, atol=1e-11, msg=name)
    torch.testing.assert_close(cosines_of(p, mined), mined_cos, rtol=0, atol=1e-14)
    if mined.numel():
        best = best_cosines(p, 4)[..., 1:]
        torch.testing.assert_close(best.masked_fill(mined < 0, 0.0), mined_cos, rtol=0, atol=1e-14)


def test_a_lower_precision_is_as_far_away_as_its_rounding() -> None:
    p = problem([60])
    none = torch.full((23, 1, 0), -1)
    exact = step(p, none, bs.ArcFace(0.5), torch.float64)
    rounded = step(p, none, bs.ArcFace(0.5), torch.float32, multiplied_in(torch.bfloat16))
    assert rounded.dw.dtype == torch.float32
    assert 1e-4 < (rounded.dw - exact.dw).norm() / exact.dw.norm() < 5e-2
