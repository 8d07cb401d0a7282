"""The report as a document: a record for every item from the start, written whole each time."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from .items import ITEMS
from .page import page

OK, FAILED, SKIPPED, CUT_OFF, NOT_REACHED = "ok", "failed", "skipped", "cut off", "not reached"
KEYS = tuple(item.key for item in ITEMS)
FILES = ("report.json", "report.md")


def blank(device: str = "cuda", keys: tuple[str, ...] = KEYS) -> dict[str, Any]:
    """A report of which nothing has been reached."""
    return {
        "device": device,
        "outcome": "not run",
        "began": None,
        "budget": None,
        "seconds": None,
        "items": {key: record() for key in keys},
    }


def record() -> dict[str, Any]:
    """The record of an item that was not reached.

    status: one of the constants above. reason: why it was skipped, cut off or not reached. data: what was measured.
    failures: a line each. output: the last lines that a process printed which did not end as it should.
    """
    return {
        "status": NOT_REACHED,
        "reason": None,
        "seconds": None,
        "data": {},
        "failures": [],
        "output": [],
    }


def write(document: dict[str, Any], folder: Path) -> None:
    """report.json and report.md, each replaced at once: a reader never meets half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / FILES[0], json.dumps(document, indent=1, allow_nan=False) + "\n")
    replace(folder / FILES[1], page(document))


def replace(path: Path, text: str) -> None:
    """Write `text` beside `path`, then move it there."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


if __name__ == "__main__":  # python -m bbs_gpu.document FOLDER: a report of nothing
    write(blank(), Path(sys.argv[1]))
