"""Compares steps with fp64 on the device: tests/support/large_cases.py has the comparison and its bounds."""

from __future__ import annotations

from collections.abc import Sequence

from support.large_cases import compare

from .device import Device
from .plans import plan_of
from .sheet import Sheet
from .sizes import Case


def compare_all(sheet: Sheet, device: Device, cases: Sequence[Case]) -> None:
    """A record for each case: errors beside what is allowed, and the launch plan."""
    for case in cases:
        with sheet.part(case.name):
            outcome = compare(case, device.name)
            sheet.put(
                case.name,
                {
                    "figures": {name: list(figure) for name, figure in outcome.figures.items()},
                    "ok": not outcome.failures,
                    "plan": plan_of(case, device),
                },
            )
            for failure in outcome.failures:
                sheet.fail(f"{case.name}: {failure}")
            device.release()
