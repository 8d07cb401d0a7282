"""psi against its formula in Python's own floats, literal numbers, and the three boundaries."""

from __future__ import annotations

import math

import pytest
import torch

from bbs_kernels.margins import ArcFace, CombinedMargin, CosFace, SphereFace, arccos

FAMILIES = [
    (1.0, 0.5, 0.0), (1.0, 0.0, 0.35), (1.35, 0.0, 0.0), (4.0, 0.0, 0.0), (1.0, 0.3, 0.2), (1.1, 0.3, 0.1),
    (0.9, 0.4, 0.2), (2.0, 1.2, 0.0),
]  # fmt: skip
COSINES = [-1.0, -0.999, -0.93, -0.5, -1e-3, 1e-3, 0.2, 0.6, 0.9, 0.9999, 1.0]


def formula(c: float, m1: float, m2: float, m3: float, boundary: str) -> float:
    phi = m1 * math.acos(c) + m2
    if boundary == "easy" and c <= 0:
        return c
    if boundary == "hard" and phi > math.pi:
        if m1 == 1.0:
            return c - m2 * math.sin(m2) - m3
        n = math.floor(phi / math.pi)
        return (-1) ** n * math.cos(phi) - 2 * n - m3
    return math.cos(phi) - m3


@pytest.mark.parametrize("boundary", ["hard", "easy", "none"])
@pytest.mark.parametrize(("m1", "m2", "m3"), FAMILIES)
def test_formula(m1: float, m2: float, m3: float, boundary: str) -> None:
    margin = CombinedMargin(m1, m2, m3, boundary=boundary)
    got = margin(torch.tensor(COSINES, dtype=torch.float64))
    want = [formula(c, m1, m2, m3, boundary) for c in COSINES]
    torch.testing.assert_close(got.tolist(), want, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize(
    ("margin", "cosine", "want"),
    [
        (ArcFace(0.5), 0.6, 0.1430092),  # 0.6 cos(0.5) - 0.8 sin(0.5)
        (ArcFace(0.5), -0.9, -1.1397128),  # beyond pi: -0.9 - 0.5 sin(0.5)
        (CosFace(0.35), 0.6, 0.25),
        (SphereFace(2.0), 0.6, -0.28),  # 2 c^2 - 1
        (SphereFace(2.0), -0.6, -1.72),  # -(2 c^2 - 1) - 2
        (SphereFace(4.0), 0.0, -3.0),  # 4 theta = 2 pi: cos - 4 = -3, continuous there
        (CombinedMargin(1.0, 0.3, 0.2), 0.6, 0.1367857),
        (CombinedMargin(), 0.6, 0.6),
    ],
)
def test_literal_values(margin, cosine: float, want: float) -> None:
    assert margin(torch.tensor([cosine])).item() == pytest.approx(want, abs=3e-7)


def test_named_margins_are_members_of_the_family() -> None:
    c = torch.linspace(-1, 1, 101, dtype=torch.float64)
    for boundary in ("hard", "easy", "none"):
        assert torch.equal(ArcFace(0.4, boundary)(c), CombinedMargin(1.0, 0.4, 0.0, boundary)(c))
        assert torch.equal(CosFace(0.4, boundary)(c), CombinedMargin(1.0, 0.0, 0.4, boundary)(c))
        assert torch.equal(SphereFace(1.4, boundary)(c), CombinedMargin(1.4, 0.0, 0.0, boundary)(c))


@pytest.mark.parametrize(
    "margin", [SphereFace(4.0), SphereFace(1.35), CombinedMargin(1.3, 0.4, 0.1)], ids=str
)
def test_hard_extension_is_continuous_and_rises_with_the_cosine(margin) -> None:
    psi = margin(torch.linspace(-1, 1, 100001, dtype=torch.float64))
    step = psi.diff()
    assert (step >= 0).all()
    assert step.max() < 5e-2


def test_arcface_hard_extension_rises_with_the_cosine_but_jumps() -> None:
    """c - m sin(m), as published: at the boundary c = -cos(m) it lies 0.117 below cos(theta + m) for m = 0.5."""
    edge = -math.cos(0.5)
    psi = ArcFace(0.5)(torch.tensor([edge - 1e-9, edge + 1e-9], dtype=torch.float64))
    assert psi[1].item() == pytest.approx(-1.0, abs=1e-8)
    assert psi[0].item() == pytest.approx(edge - 0.5 * math.sin(0.5), abs=1e-8)
    assert psi[0] < psi[1]


def test_cosface_loses_no_digits() -> None:
    c = torch.rand(10000) * 2 - 1
    assert torch.equal(CosFace(0.35)(c), c - 0.35)


def test_cosine_beyond_one_is_clamped_in_the_angle() -> None:
    beyond = torch.tensor([1.0 + 1e-6, -1.0 - 1e-6])
    ends = torch.tensor([1.0, -1.0])
    for margin in (ArcFace(0.5, "none"), SphereFace(1.4), CombinedMargin(1.1, 0.2, 0.0)):
        assert torch.equal(margin(beyond), margin(ends))
    torch.testing.assert_close(arccos(beyond), torch.tensor([0.0, math.pi]))


@pytest.mark.parametrize("margin", [ArcFace(0.5), CosFace(), CombinedMargin(1.0, 0.3, 0.2)], ids=str)
def test_fp32_is_exact_to_rounding(margin) -> None:
    c = torch.cat([torch.linspace(-1, 1, 200001), 1 - torch.logspace(-7, -1, 500)])
    c = c[(c.double() + math.cos(margin.coefficients()[1])).abs() > 1e-6]  # away from the jump
    error = (margin(c).double() - margin(c.double())).abs()
    assert error.max() < 1.8e-7


def test_nan_stays_nan() -> None:
    for margin in (ArcFace(), CosFace(), SphereFace(1.4), CombinedMargin(1.1, 0.2, 0.1, "easy")):
        assert margin(torch.tensor([torch.nan])).isnan()


def test_shape_and_dtype_are_kept() -> None:
    for dtype in (torch.float32, torch.float64):
        for shape in ((0,), (5,), (2, 3)):
            out = SphereFace(1.4)(torch.zeros(shape, dtype=dtype))
            assert out.shape == shape
            assert out.dtype == dtype
