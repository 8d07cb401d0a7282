"""Runs a few lines of Python in a fresh process: another instruction set, another thread count, a clean peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def run(code: str, **environment: str) -> str:
    """Standard output of `code`; `environment` is added to this process's."""
    # Not from the working directory: a source tree there would shadow the installed package.
    script = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script] if sys.version_info >= (3, 11) else [sys.executable, "-c", script],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, cwd="/", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()
