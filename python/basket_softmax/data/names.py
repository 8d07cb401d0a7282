"""Names of identities and files: their natural order, and what counts as an image file."""

from __future__ import annotations

import re

IMAGE_EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

_DIGITS = re.compile("([0-9]+)")


def natural_key(name: str) -> tuple[list[tuple[int, str] | str], str]:
    """Sorts "n2" before "n10": digits by their value, the rest by code point, equal ones ("1", "01") by the text.

    Digits compare as (length, text) without leading zeros: no limit on how many there are.
    """
    parts: list[tuple[int, str] | str] = list(_DIGITS.split(name))
    for i in range(1, len(parts), 2):
        digits = str(parts[i]).lstrip("0")
        parts[i] = (len(digits), digits)
    return parts, name


def is_image(name: str) -> bool:
    """Whether the extension is an image's, in any case."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def listed(names: list[str], total: int | None = None, shown: int = 5) -> str:
    """ "a, b, c and 7 more": the first `shown` of `total` names, for messages."""
    total = len(names) if total is None else total
    first = names[:shown]
    more = total - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")
