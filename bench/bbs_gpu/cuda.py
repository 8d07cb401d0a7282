"""tests/cuda, without the large cases, which are an item of their own; the bench, which times, alone."""

from __future__ import annotations

from .device import Device
from .sheet import Sheet
from .suites import run_tests

BENCH, LARGE = "tests/cuda/test_bench.py", "tests/cuda/test_large.py"


def run(sheet: Sheet, device: Device) -> None:
    ops = ["tests/cuda", "-m", "cuda", f"--ignore={BENCH}", f"--ignore={LARGE}"]
    run_tests(sheet, device, [ops, [BENCH, "-m", "cuda"]], parallel=[True, False])
