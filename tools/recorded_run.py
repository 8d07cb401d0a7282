"""Commands whose outcome goes into a report: as one types them, how long they took, how they ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TAIL = 40  # lines of a failed command that are kept


class Command:
    """A program of this Python's environment with its arguments and additions to the environment variables."""

    def __init__(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        self.words, self.env = words, dict(env or {})

    def __str__(self) -> str:
        return " ".join([*(f"{name}={value}" for name, value in self.env.items()), *self.words])

    def run(self, folder: Path, *unreported: str) -> dict[str, Any]:
        """Run it in `folder` with its output shown. `unreported`: arguments that only this run needs.

        Returns:
            command, seconds, exit; and the last lines of the output where the exit status is not 0.
        """
        print(f"+ {self}", flush=True)
        program = Path(sys.executable).parent / self.words[0]
        began = time.monotonic()
        lines: list[str] = []
        with subprocess.Popen(
            [str(program), *self.words[1:], *unreported], cwd=folder, env={**os.environ, **self.env}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                lines = [*lines[1 - TAIL :], line.rstrip("\n")]
        record = {
            "command": str(self),
            "seconds": round(time.monotonic() - began, 1),
            "exit": process.returncode,
        }
        return record | ({"output": lines} if process.returncode else {})


def pytest_counts(results: Path) -> dict[str, Any]:
    """Counts of passed, skipped and failed tests in pytest's JUnit file, and the names of the failed ones."""
    counts: dict[str, Any] = {"passed": 0, "skipped": 0, "failed": 0, "failures": []}
    for case in ElementTree.parse(results).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
            counts["failures"].append(f"{case.get('classname')}::{case.get('name')}")
        else:
            counts["passed" if case.find("skipped") is None else "skipped"] += 1
    return counts
