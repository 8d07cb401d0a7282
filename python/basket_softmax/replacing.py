"""`replacing`: a file that is written aside and renamed into place, so that a crash leaves the old or the new one.
`check_writable` asks beforehand whether it could be.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

ASIDE = ".new"  # how the name of a file that is not in its place yet ends


@contextmanager
def replacing(path: str | os.PathLike[str], mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """An open file that becomes `path` when the block ends, on disk by then; when it raises, `path` is untouched.

    Several processes may do so at once: each writes a file of its own, and the last one to end stays.

    Args:
        path: a file that is there is replaced; of a link, what it leads to.
        mode: "w" for UTF-8 whose line ends stay as they are written, "wb" for bytes.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    aside = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}{ASIDE}")
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": ""}
    with open(aside, mode, **text) as file:  # type: ignore[call-overload]
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def check_writable(output: Path) -> None:
    """An OSError if the folder could not be made or written; nothing is."""
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{output} cannot be written: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{output} cannot be written: there is no permission to write in {there}")
