"""The shipped host code and kernels end to end on an emulated GPU: from the losses through autograd to PTX.

What has no mark runs by default where nvcc is found; `emulated` is the rest of `make test-emulated`, `exhaustive` what
only `make test-emulated-all` runs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

WHY_NOT = (
    None if shutil.which("nvcc") else "nvcc not found: the kernels of the emulated GPU cannot be compiled"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if WHY_NOT and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=WHY_NOT))


@pytest.fixture(scope="session")
def gpu():
    """An emulated device with two multiprocessors, of an architecture whose kernels the build has, if there is one."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    from support.emulated_gpu import EmulatedGpu
    from support.emulated_gpu.images import BUILT_ARCH

    return EmulatedGpu(BUILT_ARCH)
