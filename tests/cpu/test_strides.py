"""Any strides of x and W; the gradient of a transposed W is transposed as well; expanded and overlapping inputs."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.ops.layout import gradient_like
from bbs_kernels.ops.load import OPS

from .agree import check_backward, check_forward, settle
from .problem import make, upstream
from .strategies import LAYOUTS, layout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("w_kind", LAYOUTS)
@pytest.mark.parametrize("x_kind", ["contiguous", "transposed", "every second column"])
def test_layouts(dtype: torch.dtype, w_kind: str, x_kind: str) -> None:
    """The padding holds NaN, so that one element read too far would show."""
    problem = settle(make(rows=19, depth=23, sizes=(50, 7), dtype=dtype))
    u, t = upstream(problem)
    want = problem.kernel_gradients(u, t)
    problem = problem.replace(x=layout(problem.x, x_kind), w=layout(problem.w, w_kind))
    check_forward(problem, problem.kernel(), problem.oracle())
    check_backward(problem, u, t)
    for a, b in zip(problem.kernel_gradients(u, t), want, strict=True):
        assert torch.equal(a, b)


def test_transposed_parameter_gets_a_transposed_gradient() -> None:
    problem = make()
    parameter = torch.nn.Parameter(problem.w.t().contiguous())  # [D, C]
    lse, cos_t, _, _ = problem.replace(w=parameter.t()).kernel()
    (lse[problem.valid].sum() + cos_t.sum()).backward()
    assert parameter.grad.shape == parameter.shape
    assert parameter.grad.is_contiguous()
    u = problem.valid.float()
    assert torch.equal(parameter.grad.t(), problem.kernel_gradients(u, torch.ones(37), "w")[1])


def test_expanded_embedding() -> None:
    problem = make(rows=9, ignored=0.0)
    expanded = problem.replace(x=problem.x[:1].expand(9, -1))
    repeated = problem.replace(x=problem.x[:1].repeat(9, 1))
    for a, b in zip(expanded.kernel(), repeated.kernel(), strict=True):
        assert torch.equal(a, b)


def test_strided_labels_offsets_aliases_and_upstream_gradients() -> None:
    problem = make(mates=True)
    u, t = torch.randn(2, 37)
    want = (*problem.kernel(), *problem.kernel_gradients(u, t))
    spread = lambda v: v.repeat_interleave(2)[::2]  # noqa: E731
    strided = problem.replace(
        labels=spread(problem.labels), offsets=spread(problem.offsets), aliases=spread(problem.aliases)
    )
    got = (*strided.kernel(), *strided.kernel_gradients(spread(u), spread(t)))
    for a, b in zip(got, want, strict=True):
        assert torch.equal(a, b)
    one = torch.ones(()).expand(37)  # what .sum().backward() sends
    full = problem.kernel_gradients(torch.ones(37), torch.ones(37))
    for a, b in zip(problem.kernel_gradients(one, one), full, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("strides", [(23, 1), (1, 57), (1, 0), (1, 4), (0, 1), (1, 1), (40, 1), (1, 100)])
@pytest.mark.parametrize("depth", [23, 1])
def test_gradients_of_views_that_overlap_have_the_layout_that_is_announced(
    strides: tuple, depth: int
) -> None:
    """The op and its fake version decide by the rule of the kernels, where columns overlap or are one as well."""
    problem = make(rows=19, depth=depth, sizes=(50, 7))
    memory = torch.randn(57 * 101)
    w = memory.as_strided((57, depth), strides)
    u, t = (v.float() for v in upstream(problem))
    want = problem.replace(w=w.contiguous()).kernel_gradients(u, t)
    dx, dw = problem.replace(w=w).kernel_gradients(u, t)
    assert torch.equal(dx, want[0])
    assert torch.equal(dw, want[1])
    lse, cos_t, idx, cos = problem.kernel()
    real = OPS.cos_lse_backward(
        u, t, problem.x, w, problem.labels, problem.offsets, lse, cos_t, idx, cos, torch.zeros(0), None, None,
        problem.scale, 3, 0, 0.0, -1, None, True, True,
    )[1]  # fmt: skip
    assert real.stride() == gradient_like(w, 57).stride()
    assert (real.stride(1) != 1 and real.stride(0) == 1) == (strides[0] == 1 and strides[1] != 1)
