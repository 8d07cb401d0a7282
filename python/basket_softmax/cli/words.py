"""Numbers with their nouns."""

from __future__ import annotations


def count(number: int, one: str, many: str) -> str:
    """ "1 class", "1,024 classes"."""
    return f"{number:,} {one if number == 1 else many}"
