"""What the linker takes: each check names the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any

from bbs_kernels.validate import is_number


def check_fraction(name: str, value: Any, *, one: bool) -> float:
    """A number in [0, 1], or in [0, 1) without `one`."""
    bounds = "[0, 1]" if one else "[0, 1)"
    if not is_number(value):
        raise TypeError(f"{name}: expected a number in {bounds}, got {value!r}")
    if not 0.0 <= value <= 1.0 or (value == 1.0 and not one):
        raise ValueError(f"{name}: expected a number in {bounds}, got {value}")
    return float(value)


def check_thresholds(exclude: Any, share: Any) -> tuple[float, float | None]:
    """Both cosines as floats, `share` or None."""
    for name, value in (("exclude", exclude), ("share", share)):
        if name == "share" and value is None:
            continue
        if not is_number(value):
            raise TypeError(f"{name}: expected a cosine in [-1, 1], got {value!r}")
        if not -1.0 <= value <= 1.0:
            raise ValueError(f"{name}: expected a cosine in [-1, 1], got {value}")
    if share is not None and share < exclude:
        raise ValueError(
            f"share: expected exclude, {exclude}, or more, since who exchange labels must not be each other's "
            f"negatives, got {share}"
        )
    return float(exclude), None if share is None else float(share)
