"""Checks of plain numbers, NumPy's too: each message names the argument, what was expected and what came."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """An int or a float, also NumPy's, and what torch.compile puts in their place; no bool."""
    return not isinstance(value, bool) and isinstance(value, (int, float, Real))


def is_integer(value: Any) -> bool:
    """An int, also NumPy's; no bool."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def finite(owner: str, name: str, value: Any) -> float:
    """`value` as a float; TypeError or ValueError unless it is a finite number."""
    if not is_number(value):
        raise TypeError(f"{owner}: {name}: expected a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{owner}: {name}: expected a finite number, got {value}")
    return float(value)


def positive_int(name: str, value: Any) -> int:
    """Return `value` as an int; raise ValueError unless it is an integer, also NumPy's, from 1."""
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name}: expected a positive int, got {value!r}")
    return int(value)


def angle(owner: str, name: str, value: Any, unit: str = "radians") -> float:
    """Return an added angle as a float, in the unit in which it came.

    Args:
        unit: "radians" or "degrees".

    Raises:
        TypeError, ValueError: it is no number, or outside of [0, pi) or [0, 180).
    """
    value = finite(owner, name, value)
    end, said = (math.pi, "pi") if unit == "radians" else (180.0, "180")
    if not 0.0 <= value < end:
        hint = radians_hint(value) if unit == "radians" else ""
        raise ValueError(f"{owner}: {name}: expected {unit} in [0, {said}), got {value:g}{hint}")
    return value


def radians_hint(value: float) -> str:
    """What to add to the message about an angle that is too large to be in radians; nothing for others."""
    return f"; for degrees: math.radians({value:g})" if value > math.pi else ""
