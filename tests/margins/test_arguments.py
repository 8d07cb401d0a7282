"""Margins as objects: what they accept, what they refuse, how they print, pickle and compare."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch

from basket_softmax import AdaFace, CurricularFace, MagFace
from bbs_kernels.margins import ArcFace, CombinedMargin, CosFace, SphereFace
from bbs_kernels.margins.call import takes_context


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: ArcFace(28.6),
            ValueError,
            r"ArcFace: margin: expected radians in \[0, pi\), got 28.6; .* math.radians\(28.6\)",
        ),
        (
            lambda: MagFace(u_margin=45.0),
            ValueError,
            r"u_margin: expected .*, got 45.0; .* math.radians\(45\)",
        ),
        (lambda: AdaFace(22.9), ValueError, r"margin: expected .*, got 22.9; .* math.radians\(22.9\)"),
        (lambda: AdaFace("0.4"), TypeError, "AdaFace: margin: expected a number, got '0.4'"),
        (lambda: CurricularFace(28.6), ValueError, r"math.radians\(28.6\)"),
        (
            lambda: CurricularFace(momentum=0.0),
            ValueError,
            r"momentum: expected a number in \(0, 1\], got 0.0",
        ),
        (lambda: ArcFace(-0.1), ValueError, r"\[0, pi\)"),
        (lambda: ArcFace("0.5"), TypeError, "margin: expected a number, got '0.5'"),
        (lambda: ArcFace(True), TypeError, "margin: expected a number"),
        (lambda: CosFace(float("nan")), ValueError, "margin: expected a finite number"),
        (lambda: SphereFace(0.0), ValueError, "expected a factor of the angle above 0"),
        (lambda: CombinedMargin(m3=float("inf")), ValueError, "m3: expected a finite number"),
        (lambda: CombinedMargin(boundary="soft"), ValueError, "boundary: expected one of .*hard.*'soft'"),
        (lambda: CosFace(target_grad="none"), ValueError, "target_grad: expected one of .*exact.*'none'"),
    ],
)
def test_refused(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_half_precision_cosines_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="cos_t: expected float32 or float64"):
        ArcFace()(torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize("margin", [ArcFace(), CosFace(0.2), SphereFace(), CombinedMargin(1.1, 0.2, 0.3)])
def test_frozen_value_objects(margin) -> None:
    assert pickle.loads(pickle.dumps(margin)) == margin == copy.deepcopy(margin)
    assert hash(margin) == hash(copy.copy(margin))
    assert eval(repr(margin)) == margin
    with pytest.raises(dataclasses.FrozenInstanceError):
        margin.boundary = "easy"


def test_integers_become_floats() -> None:
    assert SphereFace(4).margin == 4.0
    assert isinstance(SphereFace(4).margin, float)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.float16])
def test_numpy_scalars_are_numbers(kind) -> None:
    for margin in (CosFace(kind(2)), SphereFace(kind(2)), ArcFace(kind(2)), CurricularFace(kind(2))):
        assert margin.margin == 2.0
        assert type(margin.margin) is float
    assert AdaFace(kind(1), kind(1), kind(1)).momentum == 1.0


def test_the_class_in_place_of_an_object() -> None:
    with pytest.raises(
        TypeError, match=r"margin: expected an object such as ArcFace\(0.5\), got the class CosFace"
    ):
        takes_context(CosFace)
