"""Bodies of the processes: the step of all ranks against the step of one process."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from .heads import Case, Pair, Step, error

# Of gradients, for a scale of 32: lse is rounded to fp32 on each shard and once more, and it is in the exponent.
# 16-bit gradients are rounded once more themselves.
ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-7 * 32}
SIXTEEN = {torch.float16: 2**-10, torch.bfloat16: 2**-7}


def same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, NaN included."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def check_step(pair: Pair, got: Step, want: Step) -> None:
    """Selection bit-equal, loss within 1e-6, gradients within round-off."""
    own = pair.own
    assert torch.equal(got.mined_idx, want.mined_idx[own]), "mined_idx"
    assert torch.equal(got.mined_cos, want.mined_cos[own]), "mined_cos"
    assert same(got.head._last.cos_t, want.head._last.cos_t), "cos_t"
    assert got.value.dtype == want.value.dtype
    if got.value.dim() == 0:
        off = abs(float(got.value) - float(want.value))
        assert off <= 1e-6 * abs(float(want.value)) or (got.value.isnan() and want.value.isnan()), (
            f"loss off by {off}"
        )
    else:
        assert error(got.value, want.value[own]) <= 1e-6
    floor = SIXTEEN.get(pair.problem.x.dtype, 2**-7 if pair.case.autocast else 0.0)
    bound = ROUNDING[want.value.dtype] + floor
    assert got.dx.dtype == want.dx.dtype
    assert got.dw.dtype == want.dw.dtype
    assert error(got.dx, want.dx[own]) <= bound, f"dx off by {error(got.dx, want.dx[own])}"
    dw = pair.part(want.dw)
    assert error(got.dw, dw) <= bound, f"dw off by {error(got.dw, dw)}"


def steps_agree(group: dist.ProcessGroup, cases: list[Case]) -> None:
    for case in cases:
        try:
            pair = Pair(group, case)
            got, want = pair.step_together(), pair.step_alone()
            check_step(pair, got, want)
            again = pair.step_together()
            for name in ("value", "dx", "dw", "mined_idx", "mined_cos"):
                a, b = getattr(got, name), getattr(again, name)
                assert same(a, b), f"{name} differs from run to run"
            check_stats(got, want)
        except BaseException as problem:
            raise AssertionError(f"{case}: {problem}") from problem


def check_stats(got: Step, want: Step) -> None:
    ours, theirs = got.head.stats(), want.head.stats()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6, equal_nan=True, msg=name)
