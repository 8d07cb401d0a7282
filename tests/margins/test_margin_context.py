"""What a margin with a context sees, and the dtype of what it returns."""

from __future__ import annotations

import functools

import pytest
import torch

from bbs_kernels.margin_call import MarginContext, call_margin, takes_context


def call(margin, x: torch.Tensor) -> torch.Tensor:
    labels = torch.tensor([0, -1, 2])
    cos_t = torch.zeros(3, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    return call_margin(margin, takes_context(margin), cos_t, x, labels, labels != -1, True)


def test_context() -> None:
    seen: list[MarginContext] = []

    def margin(cos_t, ctx):
        seen.append(ctx)
        return cos_t

    call(margin, torch.full((3, 4), 2.0))
    (ctx,) = seen
    assert ctx.norms.tolist() == [4.0, 0.0, 4.0]
    assert ctx.labels.tolist() == [0, -1, 2]
    assert ctx.valid.tolist() == [True, False, True]
    assert ctx.training is True


def test_norm_of_a_zero_embedding_has_gradient_zero() -> None:
    x = torch.tensor([[3.0, 4.0], [1.0, 1.0], [0.0, 0.0]], requires_grad=True)
    call(lambda c, ctx: c + ctx.norms, x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]))


def test_norms_of_16_bit_embeddings_are_fp32() -> None:
    x = torch.full((3, 4), 60000.0, dtype=torch.float16)  # the norm overflows fp16
    assert call(lambda c, ctx: ctx.norms, x).tolist() == [120000.0, 0.0, 120000.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_result_has_the_dtype_of_the_cosines(dtype: torch.dtype) -> None:
    x = torch.ones(3, 4, dtype=dtype)
    assert call(lambda c: c.double(), x).dtype == dtype
    assert call(lambda c: c.bfloat16(), x).dtype == dtype


def test_partial_application_is_seen_through() -> None:
    assert takes_context(functools.partial(lambda m, c, ctx: c, 0.5))
    assert not takes_context(functools.partial(lambda m, c: c, 0.5))
    assert not takes_context(lambda *arguments: arguments[0])
