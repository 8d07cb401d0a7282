"""What a process of the report writes while it works: one JSON file, replaced after each figure.

{key: {"done", "seconds", "data", "failures", "skipped", "go_on"}}, an entry for each item that has begun.
"""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Sheet:
    """The results of one process, item by item."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, dict[str, Any]] = {}
        self._now: dict[str, Any] = {}

    @contextmanager
    def item(self, key: str) -> Iterator[None]:
        """Begin an item; an exception in its block becomes its failure."""
        began = time.monotonic()
        self._now = {
            "done": False,
            "seconds": 0.0,
            "data": {},
            "failures": [],
            "skipped": None,
            "go_on": False,
        }
        self._entries[key] = self._now
        self._save()
        with self.part():
            yield
        self._now.update(done=True, seconds=round(time.monotonic() - began, 2))
        self._save()

    @contextmanager
    def part(self, name: str = "") -> Iterator[None]:
        """A part of an item: an exception in its block becomes a failure, and the item goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            where = f"{name}: " if name else ""
            self.fail(f"{where}{type(error).__name__}: {str(error).strip()[:2000]}")

    def put(self, name: str, value: Any) -> None:
        """Add a figure to the item, or replace it."""
        self._now["data"][name] = plain(value)
        self._save()

    def fail(self, line: str) -> None:
        """Note what is wrong; the item goes on."""
        print(line, flush=True)
        self._now["failures"].append(line)
        self._save()

    def skip(self, reason: str) -> None:
        """Say why nothing was done."""
        self._now["skipped"] = reason

    def go_on(self) -> None:
        """Let the items after this one run although it failed."""
        self._now["go_on"] = True

    def _save(self) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self._entries, allow_nan=False), encoding="utf-8")
        os.replace(new, self.path)


def plain(value: Any) -> Any:
    """`value` as JSON has it; what is not finite becomes its name."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
