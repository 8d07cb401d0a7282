"""What a run writes down: a CSV file that survives kill -9 and resuming, and TensorBoard.

A row of CSV is on its way to the disk before the next step begins, and holds nothing that depends on the clock, so an
interrupted and resumed run leaves the same file as one that was not interrupted.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.table import csv_line
from ..replacing import replacing
from .state import ResumeError

Row = Mapping[str, float | int | str]
START = "step,"  # of every log's header


class CsvLog:
    """Rows with a column `step`; the first row decides the columns.

    Args:
        path: of the file.
        step: of the checkpoint that a run goes on from: later rows are removed. 0 starts an empty file.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        self.columns: Sequence[str] | None = None
        _keep(path, step)
        if path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                self.columns = next(csv.reader(file), None)

    def write(self, row: Row) -> None:
        """Append one row, and the header before the first; a ValueError if its columns are others."""
        text = ""
        if self.columns is None:
            self.columns = list(row)
            text = csv_line(self.columns)
        if list(row) != list(self.columns):
            raise ValueError(f"{self.path} has the columns {list(self.columns)}, the row {list(row)}")
        text += csv_line([_text(value) for value in row.values()])
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(text)

    def last(self) -> dict[str, float | int | str]:
        """The last row, as it is written; empty without one."""
        if not self.path.exists():
            return {}
        with open(self.path, encoding="utf-8", newline="") as file:
            row = deque(csv.DictReader(file), maxlen=1).pop()
        return {key: _value(cell) for key, cell in row.items()}


class TensorBoardLog:
    """The same numbers for TensorBoard; later steps of an interrupted run are purged from what it shows."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, row: Row, prefix: str) -> None:
        """Every number of `row` but its step and epoch."""
        for key, value in row.items():
            if key not in ("step", "epoch") and not isinstance(value, str):
                self.writer.add_scalar(f"{prefix}/{key}", value, int(row["step"]))

    def close(self) -> None:
        """Write what is buffered."""
        self.writer.close()


def _keep(path: Path, step: int) -> None:
    """Drop rows after `step`, and a last line that was cut; the file changes in one move or not at all."""
    if not path.exists():
        return
    if step == 0:
        path.unlink()
        return
    try:
        text = path.read_bytes().decode()
        lines = _whole_rows(text)
        if not lines and START.startswith(text[: len(START)]):  # a header that was cut
            path.unlink()
            return
        place = next(csv.reader(lines[:1])).index("step")
        kept = [line for line in lines[1:] if int(next(csv.reader([line]))[place]) <= step]
    except (ValueError, IndexError, StopIteration, csv.Error):
        raise ResumeError(
            f"{path} is not the log that the run wrote, with a step in every row: restore it, or move it away and the "
            "run goes on with a new one"
        ) from None
    if kept:
        with replacing(path) as file:
            file.writelines([lines[0], *kept])
    else:
        path.unlink()


def _whole_rows(text: str) -> list[str]:
    """The rows of a CSV as they are written, without a last one that was cut.

    A row ends at a newline outside of quotes: nothing else that `str.splitlines` splits at, as a name may hold it.
    """
    rows, row = [], ""
    for line in io.StringIO(text, newline="\n"):
        row += line
        if row.endswith("\n") and row.count('"') % 2 == 0:
            rows.append(row)
            row = ""
    return rows


def _value(cell: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell


def _text(value: Any) -> str:
    return (
        f"{value:.9g}" if isinstance(value, float) else str(value)
    )  # nine digits tell any two fp32 numbers apart
