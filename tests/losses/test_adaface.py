"""AdaFace in a head: its running norm statistics, broken rows, and agreement with the reference."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from losses.planted import exact, planted


def context(norms: list[float], valid: list[bool] | None = None, training: bool = False) -> bs.MarginContext:
    n = len(norms)
    return bs.MarginContext(
        torch.tensor(norms, requires_grad=True), torch.zeros(n, dtype=torch.int64), training,
        torch.tensor(valid or [True] * n),
    )  # fmt: skip


def test_norms_get_no_gradient() -> None:
    ctx = context([10.0, 30.0])
    psi = bs.AdaFace()(torch.tensor([0.1, 0.2], requires_grad=True), ctx)
    assert torch.autograd.grad(psi.sum(), ctx.norms, allow_unused=True) == (None,)


def test_slope_is_finite_at_one() -> None:
    c = torch.tensor([1.0, -1.0, 1.0 + 1e-6], requires_grad=True)
    bs.AdaFace()(c, context([20.0, 1.0, 90.0])).sum().backward()
    assert c.grad.isfinite().all()


def test_running_statistics() -> None:
    margin = bs.AdaFace(momentum=0.1)
    norms = [10.0, 30.0, 500.0, float("nan"), 1e9]
    margin(torch.zeros(5), context(norms, [True, True, True, True, False], training=True))
    used = torch.tensor([10.0, 30.0, 100.0])  # clipped at 100; NaN and the ignored row left out
    assert margin.mean.item() == pytest.approx(0.9 * 20 + 0.1 * used.mean().item(), rel=1e-6)
    assert margin.std.item() == pytest.approx(0.9 * 100 + 0.1 * used.std().item(), rel=1e-6)
    before = margin.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    margin(torch.zeros(2), context([1.0, 2.0]))  # evaluation
    margin(torch.zeros(2), context([1.0, 2.0], [True, False], training=True))  # one norm has no deviation
    margin(torch.zeros(2), context([1.0, 2.0], [False, False], training=True))
    for key, value in margin.state_dict().items():
        assert torch.equal(value, before[key])


def test_in_a_head() -> None:
    head, batch = planted(margin=bs.AdaFace())
    assert list(head.state_dict()) == ["weight", "margin.mean", "margin.std"]
    head(*batch)
    assert head.margin.mean != 20.0
    head.eval()
    batch.x.grad = None
    loss = head(*batch)
    loss.backward()
    want, dx, _ = exact(head, batch)
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    torch.testing.assert_close(batch.x.grad.double(), dx, rtol=1e-3, atol=1e-6)


def test_nan_row_does_not_break_the_statistics() -> None:
    head, batch = planted(margin=bs.AdaFace(), reduction="none")
    x = batch.x.detach().clone()
    x[4] = torch.nan
    labels = batch.labels.clone()
    labels[4] = 3
    rows = head(x, labels)
    assert rows.isnan().nonzero().flatten().tolist() == [4]
    assert head.margin.mean.isfinite()
    assert head.margin.std.isfinite()
