"""Launch plans as pure functions: they follow the layout, the limit of workspace and the sub-centres."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import _core
from support.cuda_call import MEMORY, call_of

MACHINE = _core.machine_of(90, 132)
OFFSETS = [0, 60, 100]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_plan_follows_the_layout(dtype: torch.dtype) -> None:
    x, w = torch.randn(8, 64, dtype=dtype), torch.randn(64, 104)
    rows = _core.plan_forward(call_of(x, torch.randn(100, 64), 2), OFFSETS, MACHINE)
    columns = _core.plan_forward(call_of(x, w[:, :100].t(), 2), OFFSETS, MACHINE)
    assert (rows["w_transposed"], columns["w_transposed"]) == (False, True)
    assert rows["vectors"]
    odd = _core.plan_forward(call_of(x[:, :63].contiguous(), torch.randn(100, 63), 2), OFFSETS, MACHINE)
    assert not odd["vectors"]


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_workspace_of_a_backward(needs: tuple[bool, bool]) -> None:
    """Small enough limits all give the smallest plan: a run per tile of 128 classes."""
    x, w = torch.randn(200, 64), torch.randn(1000, 64)
    offsets = [0, 600, 1000]

    def plan(limit: int, needs: tuple[bool, bool] = needs) -> dict:
        strides = [(0, *t.stride()) if need else None for t, need in zip((x, w), needs, strict=True)]
        memory = {**MEMORY, **dict(zip(("dx", "dw"), strides, strict=True))}
        return _core.plan_backward(call_of(x, w, 2), offsets, MACHINE, memory, limit)

    plans = [plan(limit) for limit in (0, 1, 700_000, 64 << 20)]
    sizes, runs = ([p[name] for p in plans] for name in ("workspace", "runs"))
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]
    assert runs[0] == runs[1] == 9 > runs[2] > runs[3] == 1
    assert needs == (True, True) or sizes[3] < plan(64 << 20, (True, True))["workspace"]


@pytest.mark.parametrize(
    ("transposed", "subcenters", "step"), [(False, 3, 126), (True, 3, 120), (True, 15, 120)]
)
def test_tiles_hold_whole_classes(transposed: bool, subcenters: int, step: int) -> None:
    """And begin, where w is transposed, at most a 16-byte chunk before their first class."""
    x, classes = torch.randn(8, 64, dtype=torch.bfloat16), 500
    w = torch.randn(64, classes * subcenters).t() if transposed else torch.randn(classes * subcenters, 64)
    offsets = [offset * subcenters for offset in (0, 101, 500)]
    plan = _core.plan_forward(call_of(x, w.bfloat16(), 2, subcenters=subcenters), offsets, MACHINE)
    assert plan["w_transposed"] == transposed
    assert plan["several"]
    assert not plan["resident"]
    first = -(-101 * subcenters // step)
    assert plan["tile_begin"] == [0, first, first - (-399 * subcenters // step)]
