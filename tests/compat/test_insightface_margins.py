"""compat.insightface's margins on a logits tensor, against the formula as published, written out here.

s * cos(m1*theta + m2) - s * m3 at the target, s * cos elsewhere, and 1 as the slope of the target
(insightface computes the new target outside autograd).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from basket_softmax.compat import insightface

MARGINS = [
    (insightface.ArcFace(), (64.0, 1.0, 0.5, 0.0)),
    (insightface.ArcFace(s=30.0, margin=0.3), (30.0, 1.0, 0.3, 0.0)),
    (insightface.CosFace(), (64.0, 1.0, 0.0, 0.4)),
    (insightface.CosFace(s=48.0, m=0.35), (48.0, 1.0, 0.0, 0.35)),
    (insightface.CombinedMarginLoss(64, 1.0, 0.5, 0.0), (64.0, 1.0, 0.5, 0.0)),
    (insightface.CombinedMarginLoss(64.0, 1.0, 0.0, 0.4, 0), (64.0, 1.0, 0.0, 0.4)),
    (insightface.CombinedMarginLoss(64.0, 1.35, 0.0, 0.0), (64.0, 1.35, 0.0, 0.0)),
]


def published(logits: Tensor, labels: Tensor, s: float, m1: float, m2: float, m3: float) -> Tensor:
    """The formula, target by target, with the straight-through slope."""
    rows = []
    for row, label in zip(logits, labels.reshape(-1).tolist(), strict=True):
        cells = list(row)
        if label >= 0:
            target = cells[label]
            psi = math.cos(m1 * math.acos(min(max(float(target.detach()), -1.0), 1.0)) + m2) - m3
            cells[label] = target + (psi - target.detach())
        rows.append(s * torch.stack(cells))
    return torch.stack(rows)


def cosines(rows: int = 9, classes: int = 11) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(2)
    logits = 2.0 * torch.rand(rows, classes, generator=rng, dtype=torch.float64) - 1.0
    labels = torch.randint(classes, (rows,), generator=rng)
    logits[0, labels[0]], logits[1, labels[1]], logits[2, labels[2]] = (
        1.0,
        -1.0,
        -0.99,
    )  # phi beyond pi as well
    labels[3] = -1
    return logits, labels


@pytest.mark.parametrize(("margin", "parameters"), MARGINS, ids=lambda v: repr(v).replace("\n", ""))
@pytest.mark.parametrize("column", [False, True], ids=["labels_B", "labels_B1"])
def test_value_and_straight_through_gradient(margin, parameters, column):
    logits, labels = cosines()
    labels = labels[:, None] if column else labels
    upstream = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for apply in (margin, lambda c, y: published(c, y, *parameters)):
        leaf = logits.clone().requires_grad_()
        out = apply(leaf, labels)
        results.append((out, torch.autograd.grad(out, leaf, upstream)[0]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-12, atol=0)


def test_the_given_tensors_are_not_changed():
    logits, labels = cosines()
    before = logits.clone(), labels.clone()
    insightface.ArcFace()(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


def test_half_precision_logits_give_fp32():
    logits, labels = cosines()
    out = insightface.ArcFace()(logits.half(), labels)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, insightface.ArcFace()(logits.half().float(), labels))


def test_cosines_beyond_one_give_finite_logits_and_gradients():
    leaf = torch.tensor([[1.0000001, 0.2], [0.3, -1.0000001]], requires_grad=True)
    out = insightface.ArcFace()(leaf, torch.tensor([0, 1]))
    out.sum().backward()
    assert out.isfinite().all()
    assert torch.equal(leaf.grad, torch.full((2, 2), 64.0))


def test_no_boundary_where_phi_passes_pi():
    """Today's formula rises again beyond pi: the target gets easier, not a linear continuation."""
    out = insightface.ArcFace(s=1.0, margin=0.5)(
        torch.tensor([[-1.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    )
    assert out[0, 0] == pytest.approx(math.cos(math.pi + 0.5), abs=1e-12)


def test_all_three_margins_mean_all_three_and_say_so():
    with pytest.warns(UserWarning, match="insightface applies m3 alone"):
        margin = insightface.CombinedMarginLoss(64.0, 1.0, 0.3, 0.2)
    logits, labels = cosines()
    torch.testing.assert_close(margin(logits, labels), published(logits, labels, 64.0, 1.0, 0.3, 0.2))


def test_margins_have_no_state_and_follow_a_schedule():
    margin = insightface.ArcFace(margin=0.5)
    assert not margin.state_dict()
    logits, labels = cosines()
    margin.margin = 0.1
    torch.testing.assert_close(margin(logits, labels), published(logits, labels, 64.0, 1.0, 0.1, 0.0))


def test_wrong_arguments_are_named():
    with pytest.raises(
        ValueError, match=r"interclass_filtering_threshold=0.4 .*bs\.Below\(bs\.Absolute\(t\)\)"
    ):
        insightface.CombinedMarginLoss(64.0, 1.0, 0.5, 0.0, 0.4)
    with pytest.raises(ValueError, match="s: expected a number above 0"):
        insightface.CosFace(s=0.0)
    with pytest.raises(ValueError, match="m1: expected a factor of the angle above 0"):
        insightface.CombinedMarginLoss(64.0, 0.0, 0.5, 0.0)
    with pytest.raises(ValueError, match="radians"):
        insightface.ArcFace(margin=28.6)
    logits, labels = cosines()
    with pytest.raises(ValueError, match=r"labels: expected \[9\] or \[9, 1\], got \[8\]"):
        insightface.ArcFace()(logits, labels[:8])
    with pytest.raises(TypeError, match="labels: expected a tensor of class indices"):
        insightface.ArcFace()(logits, labels.double())
