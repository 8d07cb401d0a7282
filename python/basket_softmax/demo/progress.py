"""The progress bar of the demo: training steps done, trainings finished, time left."""

from __future__ import annotations

from typing import Any


def progress_bar(*, shown: bool = True) -> Any:
    """A `rich.progress.Progress` that disappears when it ends; nothing on the screen unless `shown`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, transient=True, disable=not shown)
