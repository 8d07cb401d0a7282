"""Views that are neither plain rows nor plain columns: what the kernels read and where they write dw."""

from __future__ import annotations

import cases
import numpy as np
import pytest
import torch
from backward_executor import Backward
from executor import Forward, _core
from oracle import Problem
from test_backward import agree as gradients_agree
from test_backward import upstream
from test_forward import agree

from bbs_kernels._layout import gradient_like
from bbs_kernels.nvrtc import calls

pytestmark = pytest.mark.ptx

MACHINE = _core.machine_of(90, 132)
OWN = {  # the numbers of a call without mining
    "scale": 1.0, "rule": 1, "k": 0, "skip": 0, "guard_kind": 0, "guard_value": 0.0, "ignore_index": -1,
}  # fmt: skip


def by_columns(step: int) -> Problem:
    """w[c, d] = v[c + step d], of 12 classes: columns of memory that overlap, or with step 0 are one."""
    p = cases.planted("fp32", 5, 8, [12], rule="own")
    v = np.random.default_rng(0).standard_normal(12 + 7 * step).astype(np.float32).astype(np.float64)
    p.w = v[np.arange(12)[:, None] + step * np.arange(8)]
    return p


class Overlapping:
    """In front of Forward or Backward: w is `memory`, read with the strides (1, step)."""

    def _call(self, pointers: dict[str, int]) -> dict:
        call = super()._call(pointers)
        address, rows, columns, *_, size = call["w"]
        return {**call, "w": (address, rows, columns, 1, self.step, size)}


class OverlappingForward(Overlapping, Forward):
    def __init__(self, p: Problem, step: int) -> None:
        self.step = step
        super().__init__(p, "fp32", transposed=True)
        self.w = _memory(p, step)


class OverlappingBackward(Overlapping, Backward):
    def __init__(self, p: Problem, step: int) -> None:
        self.step = step
        super().__init__(p, "fp32", *upstream(len(p.labels)), transposed=True)
        self.w = _memory(p, step)


def _memory(p: Problem, step: int) -> np.ndarray:
    v = np.zeros((1, 12 + 7 * step), np.float32)
    v[0, np.arange(12)[:, None] + step * np.arange(8)] = p.w
    return v


@pytest.mark.parametrize("step", [0, 4, 5])
def test_gradient_of_a_w_whose_columns_overlap(step: int) -> None:
    """dw was laid out by rows, and read by its stride of 1 as if by columns: misaligned stores."""
    p = by_columns(step)
    forward, backward = OverlappingForward(p, step), OverlappingBackward(p, step)
    assert forward.plan["w_transposed"]
    assert forward.plan["vectors"] == (step % 4 == 0)
    w = torch.zeros(100).as_strided((12, 8), (1, step))
    assert gradient_like(w, 12).stride() == (1, backward.dw_stride)
    agree(p, forward.run())
    gradients_agree(backward)


@pytest.mark.parametrize(("strides", "transposed"), [((1, 12), True), ((8, 1), False), ((0, 1), False)])
def test_a_dw_of_the_other_order_is_refused(strides: tuple[int, int], transposed: bool) -> None:
    x, w = torch.zeros(5, 8), torch.zeros(100).as_strided((12, 8), strides)
    labels = torch.zeros(5, dtype=torch.int64)
    call = calls.forward_call(x, w, labels, torch.tensor([0, 12]), None, None, allow_tf32=False, **OWN)
    names = ("offsets", "tile_begin", "grad_lse", "grad_cos_t", "lse", "mined_idx", "mined_cos", "workspace")

    def plan(dw: tuple[int, int]) -> dict:
        return _core.plan_backward(
            call, [0, 12], MACHINE, {**dict.fromkeys(names, 0), "dx": None, "dw": (0, *dw)}
        )

    assert plan(gradient_like(w, 12).stride())["w_transposed"] == transposed
    with pytest.raises(RuntimeError, match="dw has strides"):
        plan((8, 1) if transposed else (1, 12))


class OneColumn(Forward):
    """D = 1: x is a row seen as a column, and so is w."""

    def _call(self, pointers: dict[str, int]) -> dict:
        call = super()._call(pointers)
        return {
            **call,
            "x": (pointers.get("x", 0), 8, 1, 1, 8, 4),
            "w": (pointers.get("w", 0), 8, 1, 1, 8, 4),
        }


def test_x_of_one_column_is_read_by_rows() -> None:
    """The strides (1, 8) of x were taken for those of a transposed w: its rows were read as 16-byte chunks."""
    p = cases.planted("fp32", 8, 2, [8], rule="own")
    p.x, p.w = np.where(np.arange(8) % 2, 1.0, -1.0)[:, None], np.ones((8, 1))
    p.labels = np.arange(8)
    call = OneColumn(p, "fp32", transposed=True)
    assert call.plan["w_transposed"]
    assert not call.plan["vectors"]
    agree(p, call.run())


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
        (torch.float32, 64, 64, lambda y: y[:, 0:128:2], True),  # never read
    ],
)
def test_an_unaligned_x_is_copied_where_that_is_faster(dtype, dim, w_columns, of, copied) -> None:
    """One unaligned operand took the 16-byte copies from both."""
    x, w = of(torch.randn(20, 129).to(dtype)), torch.randn(100, w_columns).to(dtype)[:, :dim]
    labels = torch.zeros(20, dtype=torch.int64)
    packed, *_ = calls.packed(x, w, labels)
    assert (packed is not x) == copied
    assert torch.equal(packed, x)
    call = calls.forward_call(packed, w, labels, torch.tensor([0, 100]), None, None, allow_tf32=False, **OWN)
    assert _core.plan_forward(call, [0, 100], MACHINE)["vectors"] == (dim == w_columns == 64)
