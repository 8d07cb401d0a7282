"""How a margin is called is decided by its signature, once; what it returns is checked."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.margins.call import call_margin, takes_context


class Plain(torch.nn.Module):
    def forward(self, cos_t):
        return cos_t


class Aware(torch.nn.Module):
    def forward(self, cos_t, ctx):
        return cos_t


@pytest.mark.parametrize(
    ("margin", "context"),
    [
        (lambda c: c, False),
        (lambda c, ctx: c, True),
        (lambda c, factor=2.0: c, False),
        (lambda c, context=None: c, True),
        (Plain(), False),
        (Aware(), True),
        (torch.tanh, False),
    ],
)
def test_signature(margin, context):
    assert takes_context(margin) is context


@pytest.mark.parametrize("margin", [3, lambda: 0, lambda a, b, c: a])
def test_what_cannot_be_called(margin):
    with pytest.raises(
        TypeError, match=r"margin: expected a callable margin\(cos_t\) or margin\(cos_t, ctx\)"
    ):
        takes_context(margin)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (1.0, TypeError, "margin must return a floating-point tensor, got float"),
        (torch.zeros(3, dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.zeros(2), ValueError, r"must return the shape of cos_t, \(3,\), got \(2,\)"),
    ],
)
def test_what_it_may_return(result, error, message):
    cos_t, x = torch.zeros(3), torch.zeros(3, 2)
    labels, valid = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)
    with pytest.raises(error, match=message):
        call_margin(lambda c: result, False, cos_t, x, labels, valid, True)


def test_norms_are_differentiable_and_blind_to_ignored_rows():
    x = torch.tensor([[3.0, 4.0], [float("nan"), 1.0]], requires_grad=True)
    valid = torch.tensor([True, False])
    psi = call_margin(lambda c, ctx: ctx.norms, True, torch.zeros(2), x, torch.tensor([0, -1]), valid, True)
    psi.sum().backward()
    assert psi.tolist() == [5.0, 0.0]
    assert x.grad[0].tolist() == pytest.approx([0.6, 0.8])
    assert x.grad[1].tolist() == [0.0, 0.0]
