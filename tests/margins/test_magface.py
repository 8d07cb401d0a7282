"""MagFace against the paper's formulas, its gradient through the norm, and its penalty in every head."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import basket_softmax as bs
from losses.planted import exact, planted
from support.tolerances import loss_bound

NORMS = [2.0, 10.5, 17.0, 40.0, 60.0, 109.0, 110.5, 400.0]


def context(norms) -> bs.MarginContext:
    n = len(norms)
    return bs.MarginContext(
        torch.as_tensor(norms, dtype=torch.float64).requires_grad_(), torch.zeros(n, dtype=torch.int64), True,
        torch.ones(n, dtype=torch.bool),
    )  # fmt: skip


@pytest.mark.parametrize("boundary", ["hard", "easy", "none"])
def test_formula(boundary: str) -> None:
    """cos(theta + m(a)), m(a) linear between the bounds; beyond pi as ArcFace has it."""
    margin = bs.MagFace(0.4, 0.9, 10.0, 110.0, boundary=boundary)
    for c in (-0.99, -0.93, -0.7, -0.1, 0.3, 0.8, 0.999):
        got = margin(torch.full((len(NORMS),), c, dtype=torch.float64), context(NORMS)).tolist()
        for psi, norm in zip(got, NORMS, strict=True):
            a = min(110.0, max(10.0, norm))
            m = 0.4 + 0.5 * (a - 10.0) / 100.0
            want = math.cos(math.acos(c) + m)
            if boundary == "hard" and math.acos(c) + m > math.pi:
                want = c - m * math.sin(m)
            if boundary == "easy" and c <= 0:
                want = c
            assert psi == pytest.approx(want, abs=1e-13)


def test_one_margin_is_arcface_with_its_slope_at_the_ends_too() -> None:
    c = torch.tensor(
        [-1.0, -0.9, -0.2, 0.4, 1.0 - 1e-9, 1.0, 1.0 + 1e-6], dtype=torch.float64, requires_grad=True
    )
    for boundary in ("hard", "easy", "none"):
        psi = bs.MagFace(0.5, 0.5, boundary=boundary)(c, context([30.0] * 7))
        want = bs.ArcFace(0.5, boundary)(c)
        torch.testing.assert_close(psi, want, rtol=0, atol=1e-15)
        for got, slope in zip(
            torch.autograd.grad(psi.sum(), c), torch.autograd.grad(want.sum(), c), strict=True
        ):
            torch.testing.assert_close(got, slope, rtol=1e-14, atol=0)


@pytest.mark.parametrize("boundary", ["hard", "easy", "none"])
def test_gradients_in_the_cosine_and_the_norm(boundary: str) -> None:
    margin = bs.MagFace(0.4, 0.9, boundary=boundary)
    c = torch.tensor([-0.97, -0.9, -0.5, 0.1, 0.6, 0.95, 0.3, 0.2], dtype=torch.float64, requires_grad=True)
    norms = torch.tensor(NORMS, dtype=torch.float64, requires_grad=True)

    def terms(c, norms):
        ctx = context(NORMS)._replace(norms=norms)
        return margin(c, ctx), margin.row_penalty(ctx)

    assert torch.autograd.gradcheck(terms, (c, norms))


def test_penalty() -> None:
    """g(a) = 1/a + a/u_a^2: smallest at a = u_a, without a gradient outside the bounds."""
    ctx = context(NORMS)
    penalty = bs.MagFace(lambda_g=35.0).row_penalty(ctx)
    for got, norm in zip(penalty.tolist(), NORMS, strict=True):
        a = min(110.0, max(10.0, norm))
        assert got == pytest.approx(35.0 * (1.0 / a + a / 110.0**2))
    penalty.sum().backward()
    assert ctx.norms.grad[[0, 6, 7]].tolist() == [0.0, 0.0, 0.0]
    assert (ctx.norms.grad[1:6] < 0).all()  # longer is better


def published(x, w, labels, scale: float, lambda_g: float):
    """The authors' two terms, with dense logits; no boundary is in play on this data."""
    a = x.norm(dim=1).clamp(10.0, 110.0)
    m = 0.45 + (0.8 - 0.45) / 100.0 * (a - 10.0)
    cos = F.normalize(x) @ F.normalize(w).t()
    target = torch.arange(len(w)) == labels[:, None]
    logits = torch.where(target, torch.cos(torch.arccos(cos) + m[:, None]), cos)
    return F.cross_entropy(scale * logits, labels) + lambda_g * (a / 110.0**2 + 1.0 / a).mean()


def test_loss_of_one_dataset_and_both_gradients() -> None:
    g = torch.Generator().manual_seed(5)
    w = torch.randn(31, 8, generator=g, dtype=torch.float64)
    labels = torch.randint(31, (17,), generator=g)
    x = F.normalize(w[labels] + 0.7 * torch.randn(17, 8, generator=g, dtype=torch.float64))
    x = (x * torch.linspace(3.0, 150.0, 17, dtype=torch.float64)[:, None]).requires_grad_()
    head = bs.MagFaceLoss(31, 8, lambda_g=20.0, scale=16.0, dtype=torch.float64)
    head.load_full_weight(w)
    loss = head(x, labels)
    dense = w.clone().requires_grad_()
    want = published(x, dense, labels, 16.0, 20.0)
    assert loss.item() == pytest.approx(want.item(), rel=1e-12)
    got = torch.autograd.grad(loss, (x, head.weight))
    for mine, theirs in zip(got, torch.autograd.grad(want, (x, dense)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    radial = (got[0] * x).sum(1)
    assert radial[x.norm(dim=1) > 110].abs().max() < 1e-12  # outside the bounds only the direction is trained
    assert radial[(x.norm(dim=1) > 10) & (x.norm(dim=1) < 110)].abs().min() > 1e-6


@pytest.mark.parametrize(
    "mining",
    [bs.Own(), bs.All(), bs.Below(bs.Absolute(0.4)), bs.TopK(5, 1), bs.TopK(3, 0, bs.Ema(0.8))],
    ids=str,
)
def test_with_every_rule(mining) -> None:
    head, batch = planted(mining, margin=bs.MagFace(0.3, 0.8, 1.0, 30.0, 5.0), reduction="none")
    weight = torch.linspace(0.0, 2.0, len(batch.labels))
    ema = head._buffers.get("ema")
    if ema is not None:
        ema.fill_(0.5)
        head.eval()
    rows = head(*batch, sample_weight=weight)
    want, _, _ = exact(head, batch, sample_weight=weight.double())
    assert ((rows - want).abs() <= loss_bound(want, head.scale)).all()
    assert (rows[batch.labels == -1] == 0).all()
    rows.sum().backward()
    batch64 = exact(head, batch, sample_weight=weight.double())
    torch.testing.assert_close(batch.x.grad.double(), batch64[1], rtol=1e-3, atol=1e-5)


def test_a_row_without_negatives_still_has_its_penalty() -> None:
    loss = bs.MagFaceLoss(1, 4, lambda_g=35.0)(torch.full((1, 4), 10.0), torch.tensor([0]))
    assert loss.item() == pytest.approx(35.0 * (1 / 20 + 20 / 110**2), rel=1e-6)


def test_messages() -> None:
    for arguments, message in (
        ({"u_margin": 4.0}, r"MagFace: u_margin: expected a number in \[0, pi\), in radians, got 4.0"),
        ({"l_a": 200.0}, "MagFace: l_a: expected 0 < l_a < u_a, got l_a = 200 and u_a = 110"),
        ({"lambda_g": -1.0}, "MagFace: lambda_g: expected a number from 0, got -1.0"),
        ({"boundary": "soft"}, "MagFace: boundary: expected one of"),
    ):
        with pytest.raises(ValueError, match=message):
            bs.MagFace(**arguments)
    with pytest.raises(TypeError, match=r"MagFace: l_margin: expected a number, got '0.4'"):
        bs.MagFace("0.4")
    with pytest.raises(TypeError, match="cos_t: expected float32 or float64"):
        bs.MagFace()(torch.zeros(1, dtype=torch.float16), context([1.0]))


def test_a_penalty_needs_the_norms() -> None:
    class Bad:
        def __call__(self, cos_t):
            return cos_t

        def row_penalty(self, ctx):
            return ctx.norms

    with pytest.raises(
        TypeError, match=r"margin: expected a callable margin\(cos_t, ctx\), since it has row_penalty"
    ):
        bs.BasketSoftmaxLoss([3], 2, Bad())(torch.ones(1, 2), torch.tensor([0]))
    Bad.__call__ = lambda self, cos_t, ctx: cos_t
    Bad.row_penalty = lambda self, ctx: ctx.norms.sum()
    with pytest.raises(ValueError, match=r"row_penalty must return the shape \(1,\), got \(\)"):
        bs.BasketSoftmaxLoss([3], 2, Bad())(torch.ones(1, 2), torch.tensor([0]))


def test_fused_sgd_moves_the_centres_as_sgd_does() -> None:
    heads = [planted(margin=bs.MagFace(0.3, 0.8, 1.0, 30.0, 5.0))[0] for _ in range(2)]
    _, batch = planted()
    optimizers = [torch.optim.SGD([heads[0].weight], lr=0.3), bs.optim.FusedSGD(heads[1], lr=0.3)]
    for head, optimizer in zip(heads, optimizers, strict=True):
        for _ in range(2):
            optimizer.zero_grad()
            head(*batch).backward()
            optimizer.step()
    assert torch.equal(heads[0].weight, heads[1].weight)
