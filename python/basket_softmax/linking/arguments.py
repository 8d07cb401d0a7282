"""What the linker takes: each check names the argument, what came and what is allowed."""

from __future__ import annotations

from typing import Any

from bbs_kernels.scalars import is_number


def check_fraction(name: str, value: Any, *, one: bool) -> float:
    """A number in [0, 1], or in [0, 1) without `one`."""
    allowed = "[0, 1]" if one else "[0, 1)"
    if not is_number(value):
        raise TypeError(f"{name} must be a number in {allowed}, got {value!r}")
    if not 0.0 <= value <= 1.0 or (value == 1.0 and not one):
        raise ValueError(f"{name} is {value}, allowed is {allowed}")
    return float(value)


def check_thresholds(exclude: Any, share: Any) -> tuple[float, float | None]:
    """Both cosines as floats, `share` or None."""
    for name, value in (("exclude", exclude), ("share", share)):
        if name == "share" and value is None:
            continue
        if not is_number(value):
            raise TypeError(f"{name} must be a cosine in [-1, 1], got {value!r}")
        if not -1.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}, allowed are cosines in [-1, 1]")
    if share is not None and share < exclude:
        raise ValueError(
            f"share is {share} and exclude {exclude}, allowed is share >= exclude: who exchange labels must not be "
            "each other's negatives"
        )
    return float(exclude), None if share is None else float(share)
