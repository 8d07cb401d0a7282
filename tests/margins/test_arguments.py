"""Margins as objects: what they accept, what they refuse, how they print, pickle and compare."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch

from bbs_kernels.margins import ArcFace, CombinedMargin, CosFace, SphereFace


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: ArcFace(28.6), ValueError, r"radians and must lie in \[0, pi\), got 28.6"),
        (lambda: ArcFace(-0.1), ValueError, r"\[0, pi\)"),
        (lambda: ArcFace("0.5"), TypeError, "margin must be a number, got '0.5'"),
        (lambda: ArcFace(True), TypeError, "margin must be a number"),
        (lambda: CosFace(float("nan")), ValueError, "margin must be finite"),
        (lambda: SphereFace(0.0), ValueError, "factor of the angle must be > 0"),
        (lambda: CombinedMargin(m3=float("inf")), ValueError, "m3 must be finite"),
        (lambda: CombinedMargin(boundary="soft"), ValueError, "boundary must be one of .*hard.*'soft'"),
        (lambda: CosFace(target_grad="none"), ValueError, "target_grad must be one of .*exact.*'none'"),
    ],
)
def test_refused(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_half_precision_cosines_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="cos_t must be float32 or float64"):
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
