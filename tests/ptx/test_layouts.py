"""Views that are neither plain rows nor plain columns: what the kernels read and where they write dw."""

from __future__ import annotations

import cases
import numpy as np
import pytest
import torch
from backward_executor import Backward
from executor import ON_DEVICE, Forward
from oracle import Problem
from test_backward import agree as gradients_agree
from test_backward import upstream
from test_forward import agree

from bbs_kernels import _core
from bbs_kernels.ops.layout import gradient_like
from support.cuda_call import MEMORY, OWN, call_of

pytestmark = pytest.mark.ptx

MACHINE = _core.machine_of(90, 132)


def by_columns(step: int) -> Problem:
    """w[c, d] = v[c + step d], of 12 classes: columns of memory that overlap, or with step 0 are one."""
    p = cases.planted("fp32", 5, 8, [12], rule="own")
    v = np.random.default_rng(0).standard_normal(12 + 7 * step).astype(np.float32).astype(np.float64)
    p.w = v[np.arange(12)[:, None] + step * np.arange(8)]
    return p


@pytest.mark.parametrize("step", [0, 4, 5])
def test_gradient_of_a_w_whose_columns_overlap(step: int) -> None:
    """dw was laid out by rows, and read by its stride of 1 as if by columns: misaligned stores."""
    p = by_columns(step)
    memory = np.zeros(12 + 7 * step, np.float32)
    memory[np.arange(12)[:, None] + step * np.arange(8)] = p.w
    w = torch.from_numpy(memory).as_strided((12, 8), (1, step))
    forward, backward = Forward(p, "fp32", w=w), Backward(p, "fp32", *upstream(5), w=w)
    agree(p, forward.run())
    assert forward.built("cos_lse_sweep")["w_transposed"]
    assert forward.built("cos_lse_sweep")["vectors"] == (step % 4 == 0)
    gradients_agree(backward)
    assert backward.gradients[1].stride() == gradient_like(w, 12).stride() == (1, 12)


@pytest.mark.parametrize(("strides", "transposed"), [((1, 12), True), ((8, 1), False), ((0, 1), False)])
def test_a_dw_of_the_other_order_is_refused(strides: tuple[int, int], transposed: bool) -> None:
    x, w = torch.zeros(5, 8), torch.zeros(100).as_strided((12, 8), strides)
    call = call_of(x, w, **OWN)

    def plan(dw: tuple[int, int]) -> dict:
        return _core.plan_backward(call, [0, 12], MACHINE, {**MEMORY, "dx": None, "dw": (0, *dw)})

    assert plan(gradient_like(w, 12).stride())["w_transposed"] == transposed
    with pytest.raises(RuntimeError, match=r"dw: expected a stride of 1 along .*, got strides"):
        plan((8, 1) if transposed else (1, 12))


def test_x_of_one_column_is_read_by_rows() -> None:
    """The strides (1, 8) of x were taken for those of a transposed w: its rows were read as 16-byte chunks."""
    p = cases.planted("fp32", 8, 2, [8], rule="own")
    p.x, p.w = np.where(np.arange(8) % 2, 1.0, -1.0)[:, None], np.ones((8, 1))
    p.labels = np.arange(8)
    x, w = (torch.from_numpy(v.astype(np.float32)).as_strided((8, 1), (1, 8)) for v in (p.x, p.w))
    call = Forward(p, "fp32", x=x, w=w)
    agree(p, call.run())
    assert call.built("cos_lse_sweep")["w_transposed"]
    assert not call.built("cos_lse_sweep")["vectors"]


@pytest.mark.parametrize(
    ("dtype", "dim", "w_columns", "of", "copied"),
    [
        (torch.float32, 64, 64, lambda y: y[:, 1:65], True),  # rows begin between 16-byte chunks
        (torch.float32, 64, 64, lambda y: y[:, :64], True),  # and so do later ones, by an odd stride
        (torch.float32, 64, 64, lambda y: y.flatten()[1 : 1 + 20 * 64].view(20, 64), True),  # contiguous
        (torch.bfloat16, 64, 64, lambda y: y[:, 4:68], True),
        (torch.float32, 64, 64, lambda y: y[:, :64].contiguous(), False),
        (torch.float32, 64, 65, lambda y: y[:, 1:65], False),  # w allows no 16-byte copies
        (torch.float32, 63, 63, lambda y: y[:, 1:64], False),  # nor do rows of 63
        (torch.float32, 64, 64, lambda y: y[:, 0:128:2], True),  # rows are read by a stride of 1
    ],
)
def test_an_unaligned_x_is_copied_where_that_is_faster(dtype, dim, w_columns, of, copied) -> None:
    """One unaligned operand took the 16-byte copies from both."""
    operand = "bf16" if dtype == torch.bfloat16 else "fp32"
    x, w = of(torch.randn(20, 129).to(dtype)), torch.randn(50, w_columns).to(dtype)[:, :dim]
    p = Problem(
        x.double().numpy(), w.double().numpy(), np.arange(20) % 13, np.array([0, 50], np.int64), rule="own"
    )
    call = Forward(p, operand, x=x, w=w)
    agree(p, call.run())
    assert call.built("cos_lse_sweep")["vectors"] == (dim == w_columns == 64)
    assert ON_DEVICE or ("aten::copy_" in call.gpu.called) == copied
    backward = Backward(p, operand, *upstream(20), x=x, w=w)
    gradients_agree(backward)
    assert backward.built("coefficients")["vectors"] == (dim == w_columns == 64)
