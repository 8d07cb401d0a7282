"""A folder with the checkpoint of a run after one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoint.training import Run


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run = Run()
    run.step()
    run.save(tmp_path)
    return tmp_path
