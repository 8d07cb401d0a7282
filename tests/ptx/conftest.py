"""The CUDA kernels in the PTX machine, or with BBS_EXECUTOR=device the same cases on a GPU."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

# What looks at the machine's own figures, at its PTX, or at single kernels.
MACHINE_ONLY = (
    "test_mutations",
    "test_shared_access",
    "test_sort_pairs",
    "test_backward_rows",
    "test_recorder",
)


def pytest_collection_modifyitems(items):
    on_device = os.environ.get("BBS_EXECUTOR") == "device"
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if not on_device and not shutil.which("nvcc"):
            item.add_marker(pytest.mark.skip(reason="nvcc not found"))
        if on_device and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU"))
        if on_device and item.path.stem in MACHINE_ONLY:
            item.add_marker(pytest.mark.skip(reason="needs the PTX machine"))
