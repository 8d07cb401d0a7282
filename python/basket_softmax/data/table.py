"""Tables as CSV: rows with the place of each for messages, and lines that every Python reads back."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .names import listed


def read_table(
    path: str | os.PathLike[str], columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str | None]]]:
    """(place for messages, {column: cell}) of each row; a cell is None where the row is too short.

    Args:
        path: CSV, UTF-8, with a header line.
        columns: that it must have; further ones are not read.

    Raises:
        ValueError: it is no CSV, not UTF-8, or lacks a column, or a row has more cells than the header; the message
            names the file.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            found = rows.fieldnames or ()
            missing = [column for column in columns if column not in found]
            if missing:
                raise ValueError(
                    f"{path} has no column {listed(missing)}, it has {listed(list(found)) or 'none'}"
                    f"{_other_separator(found)}"
                )
            for row in rows:
                line = f"{path}, line {rows.line_num}"
                if None in row:  # csv puts what is beyond the header there
                    cells = len(found) + len(row[None])
                    raise ValueError(
                        f"{line}: expected {len(found)} cells as in the header, got {cells}: a cell with a comma has "
                        "to be in quotes"
                    )
                yield line, {column: row[column] for column in columns}
        except csv.Error as error:
            raise ValueError(f"{path}, line {rows.reader.line_num}: no CSV: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: {error.reason}") from None


def _other_separator(header: Sequence[str]) -> str:
    """What to do about a header that another character than the comma separates, as spreadsheets write it."""
    if len(header) != 1:
        return ""
    used = [name for character, name in ((";", "semicolons"), ("\t", "tabs")) if character in header[0]]
    return f": expected columns separated by commas, got {used[0]}" if used else ""


def csv_line(cells: Iterable[Any]) -> str:
    """The line of a row, ended by a newline; a cell with a comma, a quote or a line break is quoted.

    Before Python 3.13 csv.writer quotes only the line breaks that are in its own line end: with "\\n" a lone "\\r"
    stays bare, and csv.reader refuses the file.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()[:-2] + "\n"
