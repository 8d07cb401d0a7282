"""Mapped negatives: values and gradients against the dense reference, for every rule, dtype and broken input."""

from __future__ import annotations

import copy

import pytest
import torch

import basket_softmax as bs
from bbs_kernels import reference
from bbs_kernels.mapped import blocks as mapped_blocks
from bbs_kernels.mapped import lse as mapped_lse
from bbs_kernels.mapped import pairs as mapped_pairs
from bbs_kernels.ops import placement
from losses.planted import F32_MAX, eager, exact, planted
from support.tolerances import PRECISION, assert_gradient, assert_losses

RULES = [
    bs.All(), bs.Own(), bs.Below(bs.Absolute(0.3)), bs.Below(bs.Relative(0.2)), bs.Below(bs.Ema(0.5)),
    bs.TopK(5, 1), bs.TopK(0, 1), bs.TopK(4, 2, bs.Relative(0.1)),
]  # fmt: skip
MARGINS = {
    "curricular": lambda: bs.CurricularFace(0.4),
    "a-softmax": lambda: bs.ASoftmax(2.0, 1.0),
    "filter": lambda: bs.InterclassFilter(0.35, bs.CosFace(0.2)),
}


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(mapped_blocks, "BLOCK", 37 * 13)
    monkeypatch.setattr(mapped_blocks, "LEAST_CLASSES", 1)
    monkeypatch.setattr(mapped_pairs, "BLOCK", 24 * 11)


def head_and_batch(mining, margin, dtype, **options):
    """Parted from each other's thresholds by rounding alone, c and c(t + c) would differ; the seed has no such pair."""
    scale = 1.5 if margin == "a-softmax" else 32.0
    head, batch = planted(mining, dtype, margin=MARGINS[margin](), scale=scale, **options)
    if margin == "a-softmax":
        batch = batch._replace(x=(batch.x.detach() * 4.0).requires_grad_())
    if "ema" in head._buffers:
        head.ema.fill_(0.6)
    if margin == "curricular":
        head.margin.t.fill_(0.3)
    return head.eval(), batch


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("way", ["cpu", "other devices"])
def test_against_the_reference_in_fp64(mining, margin: str, way: str, small_blocks, monkeypatch) -> None:
    """Both ways on this CPU: rows sorted out by basket with mined pairs gathered, and everything by masks."""
    if way != "cpu":
        monkeypatch.setattr(placement, "EMULATED", True)
    aliases = torch.full((97,), -1)
    aliases[[0, 40, 41, 60]] = 7
    head, batch = head_and_batch(mining, margin, torch.float64, aliases=aliases)
    head(*batch).backward()
    want, dx, dw = exact(head, batch)
    assert head(*batch).item() == pytest.approx(want.item(), rel=1e-12)
    torch.testing.assert_close(batch.x.grad, dx, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(head.weight.grad, dw, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("mining", [bs.Own(), bs.TopK(5, 1)], ids=str)
def test_against_the_reference_in_fp32(mining, margin: str) -> None:
    head, batch = head_and_batch(mining, margin, torch.float32, reduction="none")
    rows = head(*batch)
    rows.sum().backward()
    want, dx, dw = exact(head, batch)
    sensitivity = 1.0 if margin != "a-softmax" else float(batch.x.detach().norm(dim=1).max())
    assert_losses(rows.detach(), want, head.scale * sensitivity)
    theirs = eager(head, batch)
    assert_gradient("dX", batch.x.grad, dx, theirs[0], PRECISION[torch.float32])
    assert_gradient("dW", head.weight.grad, dw, theirs[1], PRECISION[torch.float32])


def test_blocks_do_not_matter(monkeypatch) -> None:
    head, batch = head_and_batch(bs.TopK(5, 1), "curricular", torch.float32)
    one = head(*batch)
    whole = torch.autograd.grad(one, (batch.x, head.weight))
    monkeypatch.setattr(mapped_blocks, "BLOCK", 37 * 7)
    monkeypatch.setattr(mapped_blocks, "LEAST_CLASSES", 1)
    monkeypatch.setattr(mapped_pairs, "BLOCK", 24 * 5)
    many = head(*batch)
    assert many.item() == pytest.approx(one.item(), rel=1e-6)
    for got, want in zip(torch.autograd.grad(many, (batch.x, head.weight)), whole, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_rows(dtype: torch.dtype) -> None:
    """Centres in fp32 are rounded to the dtype of the rows; everything else is fp32, also under autocast."""
    head, batch = head_and_batch(bs.TopK(5, 1), "curricular", torch.float32)
    x = batch.x.detach().to(dtype).requires_grad_()
    loss = head(x, batch.labels)
    assert loss.dtype == torch.float32
    want = reference.basket_softmax(
        x.detach().double(), head.weight.detach().to(dtype).double(), batch.labels, head.baskets.offsets,
        margin=copy.deepcopy(head.margin).double(), scale=head.scale, mining=head.mining, norm_limit=F32_MAX,
    )  # fmt: skip
    assert loss.item() == pytest.approx(want.item(), rel=2e-5)
    loss.backward()
    assert x.grad.dtype == dtype
    assert head.weight.grad.dtype == torch.float32
    if dtype == torch.bfloat16:
        with torch.autocast("cpu", dtype):
            assert head(x.detach().float(), batch.labels).item() == loss.item()


@pytest.mark.parametrize("mining", [bs.Own(), bs.All(), bs.TopK(5, 1)], ids=str)
@pytest.mark.parametrize("broken", ["row", "centre"])
def test_what_is_broken_reaches_as_far_as_in_the_kernels(mining, broken: str, small_blocks) -> None:
    head, batch = head_and_batch(mining, "curricular", torch.float64, reduction="none")
    kernels, _ = planted(mining, torch.float64, margin=bs.ArcFace(0.4), scale=32.0, reduction="none")
    plain = head(*batch).detach()
    x, labels = batch.x.detach().clone(), batch.labels.clone()
    if broken == "row":
        x[4], labels[4] = torch.nan, 33  # of basket "b"
        x[5], labels[5] = torch.inf, -1
    else:
        for module in (head, kernels):
            with torch.no_grad():
                module.weight[50] = torch.nan  # of basket "d"
    gradients = []
    for module in (head, kernels):
        rows_x = x.clone().requires_grad_()
        rows = module(rows_x, labels)
        rows.sum().backward()
        gradients.append((rows.detach(), rows_x.grad, module.weight.grad))
    for got, want in zip(*gradients, strict=True):
        assert torch.equal(got.isnan(), want.isnan())
    rows, dx, dw = gradients[0]
    if broken == "row":
        assert rows.isnan().nonzero().flatten().tolist() == [4]
        assert dx[5].abs().max() == 0.0
        others = (torch.arange(37) != 4) & (torch.arange(37) != 5)
        torch.testing.assert_close(rows[others], plain[others], rtol=1e-12, atol=0)
        _, want_dx, want_dw = exact(head, batch._replace(x=x, labels=labels))
        torch.testing.assert_close(dx[others], want_dx[others], rtol=1e-9, atol=1e-13)
        fine = ~(dw.isnan() | want_dw.isnan())
        torch.testing.assert_close(dw[fine], want_dw[fine], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 0, -1]])
def test_nothing_to_learn(labels: list[int]) -> None:
    """Every row ignored, or without a negative: loss and gradients are 0."""
    head = bs.BasketSoftmaxLoss([1, 1], 4, bs.CurricularFace(), mining=bs.Own())
    x = torch.randn(3, 4, requires_grad=True)
    loss = head(x, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad.abs().max() == 0.0
    assert head.weight.grad.abs().max() == 0.0


@pytest.mark.parametrize("mining", [bs.Own(), bs.TopK(5, 1), bs.All()], ids=str)
def test_sampled_classes(mining) -> None:
    """Partial FC: the reference over the sampled centres alone gives the loss, and the gradient is sparse."""
    head, batch = head_and_batch(mining, "curricular", torch.float64)
    chosen = torch.unique(torch.cat([batch.labels[batch.labels >= 0], torch.arange(0, 97, 3)]))
    offsets = torch.searchsorted(chosen, head.baskets.offsets)
    place = torch.where(batch.labels >= 0, torch.searchsorted(chosen, batch.labels), -1)
    ctx = bs.MarginContext(batch.x.norm(dim=1), batch.labels, False, batch.labels >= 0)
    lse, cos_t, _, _ = mapped_lse.cos_lse(
        batch.x, head.weight, batch.labels, head.baskets.offsets, scale=32.0, mining=mining, class_index=chosen,
        negatives=lambda c: head.margin.negatives(c, ctx),
    )  # fmt: skip
    (lse[batch.labels >= 0].sum() + cos_t.sum()).backward()
    x, w = batch.x.detach().clone().requires_grad_(), head.weight.detach()[chosen].requires_grad_()
    mapping = head.margin.negatives(cos_t.detach(), ctx)
    want, c_t, _, _ = reference.cos_lse(x, w, place, offsets, scale=32.0, mining=mining, negative_map=mapping)
    torch.testing.assert_close(lse, want, rtol=1e-12, atol=0)
    (want[batch.labels >= 0].sum() + c_t.sum()).backward()
    torch.testing.assert_close(batch.x.grad, x.grad, rtol=1e-9, atol=1e-13)
    assert head.weight.grad.is_sparse
    torch.testing.assert_close(head.weight.grad.to_dense()[chosen], w.grad, rtol=1e-9, atol=1e-13)
    assert head.weight.grad.coalesce().indices().flatten().tolist() == chosen.tolist()


def test_a_map_of_your_own() -> None:
    """Ten lines: a temperature of its own for the negatives of each row, learnable."""

    class Tempered(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heat = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

        def forward(self, cos_t):
            return cos_t - 0.2

        def negatives(self, cos_t, ctx):
            return bs.NegativeMap(lambda cos, heat: cos * heat, (self.heat.expand(len(cos_t)),))

    head, batch = planted(bs.TopK(5, 1), torch.float64, margin=Tempered(), scale=8.0)
    head(*batch).backward()

    def loss(heat) -> float:
        with torch.no_grad():
            head.margin.heat.fill_(heat)
            return float(head(*batch))

    slope = (loss(1.3 + 1e-6) - loss(1.3 - 1e-6)) / 2e-6
    assert head.margin.heat.grad.item() == pytest.approx(slope, rel=1e-6)


def test_messages() -> None:
    class Bad:
        def __init__(self, mapping) -> None:
            self.mapping = mapping

        def __call__(self, cos_t):
            return cos_t

        def negatives(self, cos_t, ctx):
            return self.mapping

    x, labels = torch.ones(2, 3), torch.tensor([0, 1])
    with pytest.raises(TypeError, match="negatives must return a NegativeMap, got float"):
        bs.BasketSoftmaxLoss([4], 3, Bad(0.5))(x, labels)
    mapping = bs.NegativeMap(lambda cos, p: cos * p, (torch.tensor(2.0),))
    with pytest.raises(ValueError, match=r"NegativeMap: parameters: expected shape \(2,\), got \(\)"):
        bs.BasketSoftmaxLoss([4], 3, Bad(mapping))(x, labels)


def test_fused_sgd_is_refused() -> None:
    head = bs.CurricularFaceLoss(7, 4)
    bs.optim.FusedSGD(head, lr=0.1)
    with pytest.raises(
        ValueError, match=r"FusedSGD came with the margin CurricularFace.* changes the negatives"
    ):
        head(torch.ones(1, 4, requires_grad=True), torch.tensor([0]))


def test_subcenters_are_refused() -> None:
    """Instead of taking every one of them for a class."""
    head, batch = head_and_batch(bs.Own(), "curricular", torch.float64)
    with pytest.raises(
        ValueError, match="subcenters: expected 1 with a margin that changes the negatives, got 2"
    ):
        mapped_lse.cos_lse(
            batch.x, head.weight, batch.labels, head.baskets.offsets, scale=1.0, mining=bs.Own(), subcenters=2,
            negatives=lambda c: bs.NegativeMap(torch.sin),
        )  # fmt: skip


def test_no_second_derivative() -> None:
    head, batch = head_and_batch(bs.Own(), "curricular", torch.float64)
    (dx,) = torch.autograd.grad(head(*batch), batch.x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


class OneRowTimes:
    """CosFace, with the negatives of row 3 multiplied by `value`."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, cos_t):
        return cos_t - 0.35

    def negatives(self, cos_t, ctx) -> bs.NegativeMap:
        factor = torch.ones_like(cos_t)
        factor[3] = self.value
        return bs.NegativeMap(lambda cos, f: f * cos, (factor,))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("mining", [bs.Own(), bs.All(), bs.TopK(5, 1), bs.Below(bs.Absolute(0.3))], ids=str)
@pytest.mark.parametrize("way", ["cpu", "other devices"])
def test_a_map_that_breaks_a_row_is_not_loss_zero(value: float, mining, way: str, monkeypatch) -> None:
    """NaN is not > 0, and so was once "no negatives": loss 0.0. The other rows keep their losses."""
    if way != "cpu":
        monkeypatch.setattr(placement, "EMULATED", True)
    head, batch = planted(mining, torch.float64, margin=OneRowTimes(value), reduction="none")
    assert batch.labels[3] >= 0
    rows = head(*batch)
    want, _, _ = exact(head, batch)
    assert not want[3].isfinite()
    torch.testing.assert_close(rows.detach(), want, rtol=1e-12, atol=1e-13, equal_nan=True)
    (dx,) = torch.autograd.grad(rows.sum(), batch.x)
    assert dx[3].isnan().all()
    assert dx[torch.arange(len(dx)) != 3].isfinite().all()
