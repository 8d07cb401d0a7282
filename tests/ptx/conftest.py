"""Tests of the CUDA kernels without a GPU: skipped as a whole where nvcc is missing, which the Makefile forbids."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    config.addinivalue_line("markers", "ptx: runs CUDA kernels in the PTX machine")


def pytest_collection_modifyitems(items):
    if shutil.which("nvcc"):
        return
    for item in items:
        if "ptx" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="nvcc not found"))
