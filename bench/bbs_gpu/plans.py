"""What the launch plan decides for a case on the report's device."""

from __future__ import annotations

from typing import Any

from bbs_static.plan import Problem, plan_sweep
from bbs_static.work import Sweep

from .device import Device
from .sizes import W_BYTES, Case


def plan_of(case: Case, device: Device) -> dict[str, Any]:
    """Whether the rows stay in shared memory; blocks of the sweep. As for one basket, on which neither depends."""
    operand = case.kind.partition(",")[0]
    sweep = Sweep(operand, W_BYTES[case.kind], transposed=False, resident=True)
    launch = plan_sweep(
        sweep, Problem(case.rows, case.classes, case.width), *device.machine(), streaming=False
    )
    return {"resident": launch.resident, "blocks": launch.blocks}
