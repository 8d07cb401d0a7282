"""The checkpoints of a run, one folder per step: checkpoints/step-00000120. What else lies there is somebody's own."""

from __future__ import annotations

import re
from pathlib import Path

from .manifest import NAME


def step_folder(checkpoints: Path, step: int) -> Path:
    """Of one step, whether it is there or not."""
    return checkpoints / f"step-{step:08d}"


def named_steps(checkpoints: Path) -> dict[int, Path]:
    """Folders that are named as `step_folder` names them, complete or not, by step in ascending order."""
    named = [path for path in checkpoints.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return {int(path.name[5:]): path for path in sorted(named) if path.is_dir()}


def complete_steps(checkpoints: Path) -> dict[int, Path]:
    """Those whose manifest, which is written last, is there."""
    return {step: path for step, path in named_steps(checkpoints).items() if (path / NAME).exists()}
