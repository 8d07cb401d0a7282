"""psi': against finite differences, at +-1 where arccos has none, and the straight-through option."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bbs_kernels.margins import SIN_FLOOR, ArcFace, CombinedMargin, CosFace, SphereFace, arccos

MARGINS = [
    ArcFace(0.5), ArcFace(0.5, "easy"), ArcFace(0.5, "none"), CosFace(0.35), CosFace(0.35, "easy"), SphereFace(1.35),
    SphereFace(4.0), SphereFace(1.35, "none"), CombinedMargin(1.1, 0.3, 0.1), CombinedMargin(0.9, 0.4, 0.2, "easy"),
]  # fmt: skip
ENDS = torch.tensor([1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6, 1.0 - 6e-8])


def slope(margin, cosines: Tensor) -> Tensor:
    c = cosines.clone().requires_grad_()
    (grad,) = torch.autograd.grad(margin(c).sum(), c)
    return grad


@pytest.mark.parametrize("margin", MARGINS, ids=str)
def test_gradcheck_away_from_kinks(margin) -> None:
    c = torch.tensor([-0.97, -0.91, -0.6, -0.2, 0.1, 0.4, 0.8, 0.95], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(margin, (c,))


@pytest.mark.parametrize("margin", [m for m in MARGINS if m.boundary != "easy"], ids=str)
def test_slope_is_the_definition(margin) -> None:
    """m1 sin(phi) / max(sin(theta), 1e-3), times (-1)^n in SphereFace's extension, 1 where psi is linear."""
    m1, m2, _ = margin.coefficients()
    cosines = torch.tensor([-0.9999999, -0.99, -0.3, 0.5, 0.99, 0.9999999], dtype=torch.float64)
    for c, got in zip(cosines.tolist(), slope(margin, cosines).tolist(), strict=True):
        theta = math.acos(c)
        phi = m1 * theta + m2
        want = m1 * math.sin(phi) / max(math.sin(theta), SIN_FLOOR)
        if (m2 == 0 and m1 == 1) or (margin.boundary == "hard" and phi > math.pi and m1 == 1):
            want = 1.0
        elif margin.boundary == "hard":
            want *= (-1) ** math.floor(phi / math.pi)
        assert got == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("margin", MARGINS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_the_ends_and_beyond(margin, dtype: torch.dtype) -> None:
    assert slope(margin, ENDS.to(dtype)).isfinite().all()


def test_arcface_at_one() -> None:
    assert slope(ArcFace(0.5), torch.ones(1)).item() == pytest.approx(math.sin(0.5) / SIN_FLOOR)


@pytest.mark.parametrize("boundary", ["hard", "easy", "none"])
def test_cosface_is_exactly_one_everywhere(boundary: str) -> None:
    c = torch.cat([torch.linspace(-1, 1, 1001), ENDS])
    assert torch.equal(slope(CosFace(0.35, boundary), c), torch.ones_like(c))


@pytest.mark.parametrize("margin", [ArcFace(0.5), SphereFace(1.4), CombinedMargin(1.1, 0.3, 0.1)], ids=str)
def test_straight_through_changes_the_slope_only(margin) -> None:
    m1, m2, m3 = margin.coefficients()
    through = CombinedMargin(m1, m2, m3, target_grad="straight_through")
    c = torch.linspace(-1, 1, 101)
    assert torch.equal(through(c), margin(c))
    assert torch.equal(slope(through, c), torch.ones_like(c))


def test_arccos_has_a_finite_slope() -> None:
    torch.testing.assert_close(slope(arccos, torch.tensor([0.0, 0.6])), torch.tensor([-1.0, -1.25]))
    torch.testing.assert_close(slope(arccos, ENDS[:4]), torch.full((4,), -1 / SIN_FLOOR))
    c = torch.tensor([-0.9, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(arccos, (c,))


@pytest.mark.parametrize("margin", [ArcFace(0.5), SphereFace(1.35), CosFace()], ids=str)
def test_second_derivative(margin) -> None:
    c = torch.tensor([-0.6, 0.1, 0.8], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(margin, (c,))


@pytest.mark.parametrize("margin", MARGINS[:1] + MARGINS[5:6] + MARGINS[8:], ids=str)
def test_compiles_without_a_graph_break(margin) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda c: margin(c), fullgraph=True, backend="aot_eager")
    c = torch.linspace(-1, 1, 33)
    assert torch.equal(compiled(c), margin(c))
    assert torch.equal(slope(compiled, c), slope(margin, c))
