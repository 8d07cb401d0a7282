"""Shared memory without bank conflicts, every product of the tensor cores needed, W read once per row block."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.rules import Own
from cpu.problem import make

from .machine import forward, ptxvm

pytestmark = pytest.mark.ptx

F32, BF16 = torch.float32, torch.bfloat16


@pytest.mark.parametrize(
    ("x", "w", "tf32"),
    [
        (BF16, BF16, False),
        *(pytest.param(*c, marks=pytest.mark.slow) for c in [(BF16, F32, False), (F32, F32, True)]),
    ],
    ids=["bf16", "bf16_fp32w", "tf32"],
)
def test_traffic_of_the_sweep(x: torch.dtype, w: torch.dtype, tf32: bool) -> None:
    stats: dict[str, ptxvm.Stats] = {}
    rows, depth, classes = 128, 128, 256
    forward(
        make(rows=rows, depth=depth, sizes=(classes,), dtype=x, w_dtype=w, mining=Own(), ignored=0.0),
        tf32=tf32,
        stats=stats,
    )
    sweep = stats["forward_kernel"]
    conflicts = [site for site, (_, wavefronts, ideal) in sweep.bank.items() if wavefronts > ideal]
    assert conflicts == []
    assert sweep.mma_flops == 2 * rows * classes * depth
    copied = classes * depth * w.itemsize + 2 * rows * depth * x.itemsize  # X again for each of two tiles
    assert copied <= sweep.global_load_bytes <= 1.1 * copied


@pytest.mark.slow
def test_fp32_has_no_bank_conflicts() -> None:
    stats: dict[str, ptxvm.Stats] = {}
    forward(make(rows=128, depth=128, sizes=(140,), mining=Own()), stats=stats)
    assert [
        site for site, (_, wavefronts, ideal) in stats["forward_kernel"].bank.items() if wavefronts > ideal
    ] == []
