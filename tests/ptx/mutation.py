"""Takes the barriers and waits of a kernel out of the compiler's PTX one at a time, and asks who notices."""

from __future__ import annotations

import re
from collections.abc import Callable

import ptxvm

SYNC = re.compile(r"^\s*(@%p\d+ )?(bar(rier)?\.(sync|cta\.sync|red|cta\.red)\S*|cp\.async\.wait_\w+)")
WARP_SYNC = re.compile(r"^\s*(@%p\d+ )?bar\.warp\.sync")
RED = re.compile(r"(?:bar|barrier)\S*red\S*\.pred\s+(%p\d+), \d+, (?:\d+, )?(%p\d+);")
SEEDS = range(4)


def without(lines: list[str], at: int) -> str:
    red = RED.search(lines[at])
    # A barrier that also reduces leaves each thread with its own predicate.
    replacement = "" if red is None else f"mov.pred {red[1]}, {red[2]};"
    return "\n".join([*lines[:at], replacement, *lines[at + 1 :]])


def unnoticed(
    text: str, attempt: Callable[[int, str], None], pattern: re.Pattern = SYNC
) -> tuple[int, list[str]]:
    """How many lines of a kernel's PTX match, its barriers and waits, and those without which `attempt(seed, mutated
    text)` raises neither an error of the machine nor an AssertionError under any seed."""
    lines = text.splitlines()
    sites = [i for i, line in enumerate(lines) if pattern.match(line)]
    return len(sites), [
        f"{number} of {len(sites)}: {lines[at].strip()} after {place(lines, at)}"
        for number, at in enumerate(sites)
        if not any(notices(attempt, seed, without(lines, at)) for seed in SEEDS)
    ]


def notices(attempt: Callable[[int, str], None], seed: int, text: str) -> bool:
    try:
        attempt(seed, text)
    except (ptxvm.LaunchError, ptxvm.PTXParseError):  # not the kernel's fault: nothing was put to the test
        raise
    except (ptxvm.PTXError, AssertionError):
        return True
    return False


def place(lines: list[str], at: int) -> str:
    """The nearest mark of a source line above."""
    return next((line.strip() for line in reversed(lines[:at]) if ".loc" in line), "the start")
