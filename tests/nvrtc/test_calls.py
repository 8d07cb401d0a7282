"""What the NVRTC path makes of tensors: the plan follows the layout."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import _core
from bbs_kernels.nvrtc import calls

NUMBERS = {
    "scale": 64.0, "rule": 3, "k": 5, "skip": 1, "guard_kind": 0, "guard_value": 0.0, "ignore_index": -1,
    "allow_tf32": False,
}  # fmt: skip
MACHINE = _core.machine_of(90, 132)


def call_of(x, w, offsets=(0, 60, 100), **changed):
    labels = torch.zeros(len(x), dtype=torch.int64)
    return calls.forward_call(x, w, labels, torch.tensor(offsets), None, None, **(NUMBERS | changed))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_plan_follows_the_layout(dtype):
    x, w = torch.randn(8, 64, dtype=dtype), torch.randn(64, 104)
    rows = _core.plan_forward(call_of(x, torch.randn(100, 64)), [0, 60, 100], MACHINE)
    columns = _core.plan_forward(call_of(x, w[:, :100].t()), [0, 60, 100], MACHINE)
    assert (rows["w_transposed"], columns["w_transposed"]) == (False, True)
    assert rows["vectors"]
    odd = _core.plan_forward(call_of(x[:, :63].contiguous(), torch.randn(100, 63)), [0, 60, 100], MACHINE)
    assert not odd["vectors"]


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_workspace_of_a_backward(needs):
    """Small enough limits all give the smallest plan: a run per tile of 128 classes."""
    x, w = torch.randn(200, 64), torch.randn(1000, 64)
    call = call_of(x, w, offsets=(0, 600, 1000))
    names = ("offsets", "tile_begin", "grad_lse", "grad_cos_t", "lse", "mined_idx", "mined_cos", "workspace")
    gradients = [(0, *t.stride()) if need else None for t, need in zip((x, w), needs, strict=True)]
    memory = {**dict.fromkeys(names, 0), **dict(zip(("dx", "dw"), gradients, strict=True))}
    sizes, runs = [], []
    for limit in (0, 1, 700_000, 64 << 20):
        plan = _core.plan_backward(call, [0, 600, 1000], MACHINE, memory, limit)
        size = _core.backward_workspace(call, [0, 600, 1000], MACHINE, *needs, limit)
        assert size == plan["workspace"]
        sizes.append(size)
        runs.append(plan["runs"])
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]
    assert runs[0] == runs[1] == 9 > runs[2] > runs[3] == 1


@pytest.mark.parametrize(
    ("transposed", "subcenters", "step"), [(False, 3, 126), (True, 3, 120), (True, 15, 120)]
)
def test_tiles_hold_whole_classes(transposed, subcenters, step):
    """And begin, where w is transposed, at most a 16-byte chunk before their first class."""
    x, classes = torch.randn(8, 64, dtype=torch.bfloat16), 500
    w = torch.randn(64, classes * subcenters).t() if transposed else torch.randn(classes * subcenters, 64)
    call = call_of(x, w.bfloat16(), (0, 101, 500), subcenters=subcenters)
    offsets = calls.centre_offsets(torch.tensor([0, 101, 500]), subcenters)
    assert offsets == [0, 101 * subcenters, 500 * subcenters]
    plan = _core.plan_forward(call, offsets, MACHINE)
    assert plan["w_transposed"] == transposed
    assert plan["several"]
    assert not plan["resident"]
    first = -(-101 * subcenters // step)
    assert plan["tile_begin"] == [0, first, first - (-399 * subcenters // step)]


def test_operands():
    w = torch.randn(100, 64)
    wanted = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 3}
    for dtype, operand in wanted.items():
        assert call_of(torch.randn(8, 64).to(dtype), w)["operand"] == operand
    assert call_of(torch.randn(8, 64), w, allow_tf32=True)["operand"] == 2


def test_parameters_hold_the_addresses():
    x, w = torch.randn(8, 64), torch.randn(100, 64)
    memory = dict.fromkeys(
        ["offsets", "tile_begin", "bad_label", "lse", "mined_idx", "mined_cos", "workspace"], 256
    )
    packed = _core.pack_forward(call_of(x, w), [0, 60, 100], MACHINE, {**memory, "cos_target": 512})
    for address in (x.data_ptr(), w.data_ptr()):
        assert packed.count(address.to_bytes(8, "little")) == 1
    assert packed[:8] == x.data_ptr().to_bytes(8, "little")
