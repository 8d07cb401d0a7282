"""Values that replace those of a config, by their path of keys: what `--set`, `--basket` and `load_config` change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .config_errors import ConfigError
from .key_path import shown_keys

Changes = Mapping[str | tuple[str, ...], Any]
SOURCES = (("baskets",), ("validation", "baskets"))  # by name
NAMED = ("margin", "mining", "guard", "optimizer")  # sections that a name alone stands for


def split_key(key: str) -> tuple[str, ...]:
    """Return the keys of "loss.margin.margin", from the root on.

    Raises:
        ConfigError: there is nothing before, between or behind the dots.
    """
    keys = tuple(key.split("."))
    if not all(part.strip() for part in keys):
        raise ConfigError(f"{key!r}: expected the name of a key on both sides of each dot, got an empty one")
    return keys


def change_values(values: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return a copy of `values` in which `changes` are made, one after the other; the caller's values stay.

    A change of a section replaces all of its keys, also those that an earlier change has set.

    Raises:
        ConfigError: a change names no key, or stands below a value that has no keys.
    """
    for key, value in changes.items():
        values = _changed(values, split_key(key) if isinstance(key, str) else key, value)
    return values


def holds(values: Any, keys: Sequence[str], above: tuple[str, ...] = ()) -> bool:
    """Return True when `values`, the section below the keys `above`, has a value at the path `keys`."""
    if not keys:
        return True
    inner = _as_section(values, above)
    return (
        isinstance(inner, Mapping) and keys[0] in inner and holds(inner[keys[0]], keys[1:], (*above, keys[0]))
    )


def _changed(
    values: dict[str, Any], keys: Sequence[str], value: Any, above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A copy of the section below the keys `above`, with `value` at the path `keys` in it."""
    first, *rest = keys
    if not rest:
        return {**values, first: value}
    here = (*above, first)
    inner = _as_section(values.get(first), here)
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise ConfigError(
            f"{shown_keys(here)}: expected a mapping of keys to values, since {shown_keys((*here, *rest))} is given, "
            f"got {inner!r}"
        )
    return {**values, first: _changed(inner, rest, value, here)}


def _as_section(value: Any, keys: tuple[str, ...]) -> Any:
    """`value`, a short form written out: data/a is {path: data/a}, topk is {name: topk}."""
    if isinstance(value, (str, Path)) and keys[:-1] in SOURCES:
        return {"path": value}
    if isinstance(value, str) and keys[-1:] and keys[-1] in NAMED:
        return {"name": value}
    return value
