"""Which callables are margins, in which form, and what reaches them: partials, modules, 16-bit embeddings."""

from __future__ import annotations

import functools
import inspect

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.margins.call import MarginContext, call_margin, takes_context


class Bound:
    def plain(self, cos_t: Tensor) -> Tensor:
        return cos_t

    def aware(self, cos_t: Tensor, ctx: MarginContext) -> Tensor:
        return cos_t


@pytest.mark.parametrize(
    ("margin", "want"),
    [
        (bs.ArcFace(), False),
        (bs.AdaFace(), True),
        (torch.nn.Identity(), False),
        (lambda *a: a[0], False),
        (lambda c, *, ctx=None: c, False),  # keyword-only: the call is positional
        (lambda c, m=0.5, ctx=None: c, False),
        (lambda c, anything: c, True),
        (functools.partial(lambda m, c: c, 0.5), False),
        (functools.partial(lambda m, c, ctx: c, 0.5), True),
        (Bound().plain, False),
        (Bound().aware, True),
    ],
)
def test_form(margin, want: bool) -> None:
    assert takes_context(margin) is want


@pytest.mark.parametrize("margin", [None, 0.5, "arcface", lambda: 0, lambda a, b, c: a])
def test_refused(margin) -> None:
    with pytest.raises(
        TypeError, match=r"margin: expected a callable margin\(cos_t\) or margin\(cos_t, ctx\)"
    ):
        takes_context(margin)


def call(margin, x: Tensor, labels: tuple[int, ...] = (0, -1, 2)) -> Tensor:
    target = torch.tensor(labels)
    cos_t = torch.zeros(len(x), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    return call_margin(margin, takes_context(margin), cos_t, x, target, target != -1, True)


def test_context() -> None:
    seen: list[MarginContext] = []
    call(lambda cos_t, ctx: seen.append(ctx) or cos_t, torch.full((3, 4), 2.0))
    (ctx,) = seen
    assert ctx.norms.tolist() == [4.0, 0.0, 4.0]
    assert ctx.labels.tolist() == [0, -1, 2]
    assert ctx.valid.tolist() == [True, False, True]
    assert ctx.training is True
    assert MarginContext._fields == ("norms", "labels", "training", "valid")


@pytest.mark.parametrize(
    ("dtype", "want"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_dtype_of_the_norms(dtype: torch.dtype, want: torch.dtype) -> None:
    norms: list[Tensor] = []
    call(lambda cos_t, ctx: norms.append(ctx.norms) or cos_t, torch.full((3, 4), 2.0, dtype=dtype))
    assert norms[0].dtype == want


def test_norms_that_overflow_fp16() -> None:
    x = torch.full((3, 4), 60000.0, dtype=torch.float16)
    assert call(lambda cos_t, ctx: ctx.norms, x).tolist() == [120000.0, 0.0, 120000.0]


def test_gradient_of_the_norm_of_a_zero_row() -> None:
    x = torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [0.0, 0.0]], requires_grad=True)
    call(lambda cos_t, ctx: cos_t + ctx.norms, x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]))


def test_result_has_the_dtype_of_the_cosine() -> None:
    assert call(lambda c: c.double(), torch.ones(3, 2)).dtype == torch.float32
    assert call(lambda c: c.half(), torch.ones(3, 2)).dtype == torch.float32


def test_shapes_that_would_broadcast_are_refused() -> None:
    x = torch.ones(3, 2)
    for margin, shape in ((lambda c: c[:, None], r"\(3, 1\)"), (lambda c: c.sum(), r"\(\)")):
        with pytest.raises(ValueError, match=rf"must return the shape of cos_t, \(3,\), got {shape}"):
            call(margin, x)


def test_defaults_of_the_margins() -> None:
    assert (bs.ArcFace().margin, bs.CosFace().margin, bs.SphereFace().margin) == (0.5, 0.35, 4.0)
    adaface = inspect.signature(bs.AdaFace).parameters
    assert [adaface[name].default for name in ("margin", "h", "momentum")] == [0.4, 0.333, 0.01]
