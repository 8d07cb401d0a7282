"""What all ranks must bring alike: compared by a number that is sent along, told in words when it differs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any


def fingerprint(common: Mapping[str, Any]) -> int:
    """Return an int64 that is the same in every process for values of the same `repr`."""
    digest = hashlib.blake2b(repr(dict(common)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def disagreement(every: Sequence[Mapping[str, str]]) -> str:
    """Return a sentence about the first name whose value is not the same on all ranks.

    Args:
        every: what each rank brought as text, in the order of the ranks.
    """
    for name in dict.fromkeys(name for words in every for name in words):
        texts = [words.get(name, "nothing") for words in every]
        other = next((rank for rank, text in enumerate(texts) if text != texts[0]), None)
        if other is not None:
            return (
                f"{name}: expected the same on all {len(every)} ranks, got {texts[0]} on rank 0 and {texts[other]} on "
                f"rank {other}: every rank must make the head and call it alike"
            )
    raise AssertionError("the ranks agree")
