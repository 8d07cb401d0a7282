"""The table of pairs as CSV, one row per pair, surest first."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ..data.names import listed
from ..data.table import csv_line, read_table
from ..replacing import replacing
from .find import Overlaps
from .names import ClassNames

PAIR = ("basket_a", "identity_a", "basket_b", "identity_b")
COLUMNS = (*PAIR, "cosine", "confidence")
NONE = "n/a"  # where there is no confidence

Path = str | os.PathLike[str]


def write_report(path: Path, overlaps: Overlaps, names: ClassNames) -> None:
    """Write `overlaps`; a file that is there is replaced. Confidences are rounded down, so that none reads as 1.

    A confidence of NaN is written as n/a.
    """
    with replacing(path) as file:
        file.write(csv_line(COLUMNS))
        for first, second, cosine, confidence in zip(*overlaps, strict=True):
            sure = NONE if np.isnan(confidence) else f"{np.floor(confidence * 1e4) / 1e4:.4f}"
            numbers = f"{cosine:.6f}", sure
            file.write(csv_line((*names.of(int(first)), *names.of(int(second)), *numbers)))


def read_report(path: Path, names: ClassNames) -> Overlaps:
    """What `write_report` wrote.

    Raises:
        ValueError: a column is missing, a class is unknown, or a number is none; the message says in which line.
    """
    rows = []
    for line, row in table(path, COLUMNS):
        try:
            first, second = pair_of(row, names)
            sure = np.nan if row["confidence"] == NONE else float(row["confidence"])
            rows.append((first, second, float(row["cosine"]), sure))
        except ValueError as error:
            raise ValueError(f"{line}: {error}") from None
    first, second, cosine, confidence = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Overlaps(first.astype(np.int64), second.astype(np.int64), cosine.astype(np.float32), confidence)


def table(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """(place for messages, row) of a CSV that has these columns; further ones are not read."""
    for line, row in read_table(path, columns):
        short = [column for column, cell in row.items() if cell is None]
        if short:
            raise ValueError(f"{line}: expected a cell for each column, got none for {listed(short)}")
        yield line, {column: cell or "" for column, cell in row.items()}


def pair_of(row: dict[str, str], names: ClassNames) -> tuple[int, int]:
    """The classes of a row, the lower one first; a ValueError unless they are known and different."""
    first = names.find(row["basket_a"], row["identity_a"])
    second = names.find(row["basket_b"], row["identity_b"])
    if first == second:
        raise ValueError(
            f"identity {row['identity_a']!r} of basket {row['basket_a']!r} is paired with itself"
        )
    return min(first, second), max(first, second)
