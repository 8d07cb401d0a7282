"""The cases of the PTX machine, on the device; what looks at the machine itself is left out."""

from __future__ import annotations

import os

from .device import Device
from .sheet import Sheet
from .suites import run_tests

MACHINE_ONLY = ("test_mutations", "test_shared_access", "test_sort_pairs", "test_backward_rows")


def run(sheet: Sheet, device: Device) -> None:
    os.environ["BBS_EXECUTOR"] = "device"
    # A rehearsal collects two files: without a GPU every case is skipped.
    where = ["tests/ptx"] if device.is_gpu else ["tests/ptx/test_smoke.py", "tests/ptx/test_step.py"]
    ignored = [f"--ignore=tests/ptx/{name}.py" for name in MACHINE_ONLY]
    run_tests(sheet, device, [[*where, "-m", "ptx and not exhaustive", *ignored]], parallel=[True])
