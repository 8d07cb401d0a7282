"""What the launch plan decides for a case on the report's device."""

from __future__ import annotations

from typing import Any

from bbs_static.plan import Problem, plan_sweep
from bbs_static.work import Sweep

from .device import Device
from .sizes import W_BYTES, Case


def plan_of(case: Case, device: Device) -> dict[str, Any]:
    """Return whether the rows stay in shared memory, and the blocks of the sweep.

    Both as for one basket: neither depends on how many there are.
    """
    operand = case.kind.partition(",")[0]
    sweep = Sweep(operand, W_BYTES[case.kind], transposed=False, resident=True)
    launch = plan_sweep(
        sweep, Problem(case.rows, case.classes, case.width), *device.machine(), streaming=False
    )
    return {"resident": launch.resident, "blocks": launch.blocks}
