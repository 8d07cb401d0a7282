"""`read_table`: the rows of a CSV with a header, as text, with the place of each for messages."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence

from .names import listed


def read_table(
    path: str | os.PathLike[str], columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str | None]]]:
    """(place for messages, {column: cell}) of each row; a cell is None where the row is too short.

    Args:
        path: CSV, UTF-8, with a header line.
        columns: that it must have; further ones are not read.

    Raises:
        ValueError: it is no CSV, not UTF-8, or lacks a column; the message names the file.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            found = rows.fieldnames or ()
            missing = [column for column in columns if column not in found]
            if missing:
                raise ValueError(
                    f"{path} has no column {listed(missing)}, it has {listed(list(found)) or 'none'}"
                )
            for row in rows:
                yield f"{path}, line {rows.line_num}", {column: row[column] for column in columns}
        except csv.Error as error:
            raise ValueError(f"{path}, line {rows.reader.line_num}: no CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: {error.reason}") from None
