"""Finished trainings, one JSON line each, appended and flushed at once: a stop loses the training that was running.

A line: {"cell", "rule", "seed", "rank1", "tar_1e3", "tar_1e4", "seconds", "machine", ...}; figures are fractions.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[str, str, int]


def key(row: Row) -> Key:
    """(cell, rule, seed): what makes a training the same training."""
    return row["cell"], row["rule"], row["seed"]


def read(path: Path) -> list[Row]:
    """The rows of `path`, an empty list when there is no such file.

    Raises:
        ValueError: a line that is not JSON, with its number; or two lines of the same training.
    """
    if not path.exists():
        return []
    rows: dict[Key, Row] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON ({error}): delete that line") from None
        if key(row) in rows:
            raise ValueError(f"{path}, line {number}: {key(row)} is there already, delete one of the two")
        rows[key(row)] = row
    return list(rows.values())


def has(path: Path, wanted: Key) -> bool:
    """Whether the training is in the file now."""
    return any(key(row) == wanted for row in read(path))


def append(path: Path, row: Row) -> None:
    """Add a line and wait until it is on the disk; a training that is there by now is left as it is."""
    if has(path, key(row)):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
