"""Marks everything here `cuda_torch`: for a CUDA build of torch, without a GPU (`make test-cuda-torch`)."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.resolve().parents:
            item.add_marker(pytest.mark.cuda_torch)
