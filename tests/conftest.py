"""Hypothesis profiles: `fast` is the same examples in every run; `slow` (--hypothesis-profile=slow) searches.

Tests of a package without compiled libraries end at once, with the line that says what to do.
"""

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PACKAGE = Path(find_spec("bbs_kernels").origin).resolve().parent
if not (PACKAGE / "libbbs_cpu.so").exists():
    pytest.exit(runpy.run_path(str(PACKAGE / "_not_built.py"))["not_built"](PACKAGE), returncode=4)

settings.register_profile(
    "fast", max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("slow", max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("fast")
