"""Runs the cases of a suite: on the CPU in processes, one after another, on a GPU in this one.

Allocator, threads and peak memory on the CPU belong to a process. Nothing of the kind is true of a GPU, where each
process would make its context and load its kernels again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .cases import SUITES
from .measure import measure
from .results import LeftOut, Timing
from .settings import CudaSetting, Setting


def run_suite(
    suite: str,
    settings: Sequence[Setting],
    *,
    rounds: int,
    describe: Callable[[str], None],
    advance: Callable[[], None],
) -> tuple[list[Timing], list[LeftOut]]:
    """Time every case of a suite under each setting; measure memory once per provider.

    Raises:
        RuntimeError: a process failed; its error text is in the message.
    """
    timings: list[Timing] = []
    left_out: list[LeftOut] = []
    for case in SUITES[suite]:
        of_case: list[Timing] = []
        for setting in settings:
            describe(f"{case.name}, {setting.label()}")
            if isinstance(setting, CudaSetting):
                timed, missing = measure(case, setting, rounds=rounds, advance=advance)
                of_case += timed
                left_out += missing
                continue
            for message in _child(
                "time",
                suite,
                case.name,
                rounds,
                setting.allocator,
                setting.threads,
                env=setting.environment(),
            ):
                if "round" in message:
                    advance()
                    continue
                of_case += [Timing(setting=setting, **timing) for timing in message["timings"]]
                left_out += [LeftOut(setting=setting, **item) for item in message["left_out"]]
        unmeasured = dict.fromkeys(t.provider for t in of_case if t.extra_mib is None)
        extra: dict[str, float] = {}
        for provider in unmeasured:
            describe(f"{case.name}, memory")
            (message,) = _child("memory", suite, case.name, provider, env={})
            extra[provider] = message["extra_mib"]
        timings += [
            t if t.extra_mib is not None else replace(t, extra_mib=extra[t.provider]) for t in of_case
        ]
    return timings, left_out


def _child(*arguments: object, env: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "bbs_bench.child", *map(str, arguments)]
    # Errors go to a file: a pipe that nobody empties while the results are read could fill up and stop the child.
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **env}
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
        if process.wait():
            errors.seek(0)
            raise RuntimeError(f"{' '.join(map(str, arguments))} failed:\n{errors.read()[-2000:]}")
