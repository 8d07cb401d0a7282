"""Known overlaps as a table: which identities of which baskets are one person.

A CSV with the columns `basket,identity,alias`: rows with the same alias are one person. Any text is an alias (a name,
a number); identities that are in no row have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..baskets import Baskets
from ..replacing import replacing
from .basket import ImageBasket
from .names import listed
from .table import csv_line, read_table

COLUMNS = ("basket", "identity", "alias")

Identities = Baskets | Mapping[str, Sequence[str]] | Sequence[ImageBasket]


def read_aliases(
    path: str | os.PathLike[str], baskets: Identities, *, unknown: Literal["raise", "skip"] = "raise"
) -> Tensor:
    """The table as `BasketSoftmaxLoss(aliases=...)` takes it.

    Args:
        path: CSV, UTF-8, with a header line; further columns are not read.
        baskets: the image baskets in the loss's order; or {name: identities}; or `bs.Baskets`, whose identities
            are called by their labels, "0", "1", ….
        unknown: "raise" when a row names a basket or identity that is not there, or "skip" such rows: the table may
            cover identities that a validation split keeps out of training.

    Returns:
        [C] int64 by global class, on the CPU: persons numbered from 0 by their first class, -1 without alias.

    Raises:
        ValueError: no CSV, not UTF-8, missing columns, an empty cell, an identity in two rows, an unknown one.
    """
    if unknown not in ("raise", "skip"):
        raise ValueError(f"unknown: expected 'raise' or 'skip', got {unknown!r}")
    classes: dict[str, dict[str, int]] = {}
    total = 0
    for name, identities in _names(baskets).items():
        classes[name] = {identity: total + c for c, identity in enumerate(identities)}
        total += len(identities)
    alias_of: dict[int, str] = {}
    for line, basket, identity, alias in _rows(path):
        label = classes.get(basket, {}).get(identity)
        if label is not None:
            alias_of[label] = alias
        elif unknown == "raise":
            what = f"basket: expected one of {listed(list(map(repr, classes)))}, got {basket!r}"
            if basket in classes:
                what = f"basket {basket!r} has {len(classes[basket]):,} identities, but no {identity!r}"
            raise ValueError(f"{line}: {what}")
    number: dict[str, int] = {}
    aliases = torch.full((total,), -1)
    for label in sorted(alias_of):
        aliases[label] = number.setdefault(alias_of[label], len(number))
    return aliases


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, str, str, str]]:
    """(place for messages, basket, identity, alias) of each row; no cell is empty and no identity comes twice."""
    seen: set[tuple[str, str]] = set()
    for line, row in read_table(path, COLUMNS):
        basket, identity, alias = row.values()
        if not (basket and identity and alias):
            raise ValueError(
                f"{line}: {', '.join(COLUMNS)} are {(basket, identity, alias)}, none may be empty"
            )
        if (basket, identity) in seen:
            raise ValueError(f"{line}: identity {identity!r} of basket {basket!r} is in an earlier row too")
        seen.add((basket, identity))
        yield line, basket, identity, alias


def write_aliases(path: str | os.PathLike[str], aliases: Tensor, baskets: Identities) -> None:
    """Write the table; `read_aliases` gives the same persons back.

    Args:
        path: the CSV; a file that is there is replaced.
        aliases: [C] int64 by global class, negative without alias.
        baskets: as for `read_aliases`.

    Raises:
        TypeError, ValueError: aliases of another dtype or shape.
    """
    names = _names(baskets)
    total = sum(map(len, names.values()))
    if not isinstance(aliases, Tensor) or aliases.dtype != torch.int64 or aliases.shape != (total,):
        what = f"{aliases.dtype} {tuple(aliases.shape)}" if isinstance(aliases, Tensor) else repr(aliases)
        raise ValueError(f"aliases: expected an int64 tensor [{total}], one value per class, got {what}")
    values = iter(aliases.tolist())
    with replacing(path) as file:
        file.write(csv_line(COLUMNS))
        for name, identities in names.items():
            for identity, alias in zip(identities, values):  # noqa: B905  (the values go on in the next basket)
                if alias >= 0:
                    file.write(csv_line([name, identity, alias]))


def _names(baskets: Identities) -> dict[str, Sequence[str]]:
    """{basket: identities}, in the order of the global classes."""
    if isinstance(baskets, Baskets):
        return {
            name: [str(c) for c in range(size)]
            for name, size in zip(baskets.names, baskets.sizes, strict=True)
        }
    if isinstance(baskets, Mapping):
        return dict(baskets)
    names: dict[str, Sequence[str]] = {basket.name: basket.identities for basket in baskets}
    if len(names) != len(baskets):
        raise ValueError(f"baskets: expected different names, got {[basket.name for basket in baskets]}")
    return names
