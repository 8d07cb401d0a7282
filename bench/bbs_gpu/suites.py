"""Runs tests of this repository in the process of an item, counting each outcome as it comes.

A run that is cut off keeps what it has counted, which pytest's own reports would not.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import pytest

from .device import Device
from .facts import ROOT
from .sheet import Sheet

MOST_WORKERS = 8  # each has a CUDA context of its own
MAX_FAILURES = 25
SHOWN = 10  # failures whose text is kept


class Tally:
    """Counts outcomes; under pytest-xdist it hears those of all workers."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self._texts = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or (report.outcome != "passed" and report.when is not None):
            self.counts[report.outcome] += 1
            self.sheet.put("counts", self.counts)
        if report.failed:
            self._fail(report.nodeid, report.longreprtext)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.counts["failed"] += 1
            self._fail(report.nodeid, report.longreprtext)

    def _fail(self, name: str, text: str) -> None:
        if self._texts < SHOWN:
            text = "\n".join(text.splitlines()[-6:])
            name = f"{name}: {text}"
            self._texts += 1
        self.sheet.fail(name)


def run_tests(
    sheet: Sheet, device: Device, runs: Sequence[Sequence[str]], *, parallel: Sequence[bool]
) -> None:
    """Run pytest with each list of arguments, in several processes where `parallel` says so and xdist is there.

    A run on a GPU in which no test passed has shown nothing, and fails.
    """
    os.chdir(ROOT)
    tally = Tally(sheet)
    for arguments, spread in zip(runs, parallel, strict=True):
        workers = _workers(device) if spread else 0
        command = [*arguments, "-q", f"--maxfail={MAX_FAILURES}", "-p", "no:cacheprovider"]
        if workers:
            command += ["-n", str(workers)]
            os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
        sheet.put(f"run {' '.join(arguments)}", {"workers": workers})
        status = pytest.main(command, plugins=[tally])
        if status not in (
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            sheet.fail(f"pytest {' '.join(arguments)}: exit status {int(status)}")
    if device.is_gpu and not tally.counts["passed"]:
        sheet.fail("no test passed: nothing was shown")


def _workers(device: Device) -> int:
    """As many as the cores feed and the GPU holds; 0: in this process."""
    if not device.is_gpu or importlib.util.find_spec("xdist") is None:
        return 0
    return min(MOST_WORKERS, max(1, (os.cpu_count() or 1) // 2))
