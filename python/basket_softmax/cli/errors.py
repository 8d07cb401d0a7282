"""Errors that a command expects end it with one line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def one_line(*expected: type[Exception]) -> Iterator[None]:
    """Turns `expected` errors into click's; a reader that went away (`bbs … | head`) is none, click ends quietly."""
    try:
        yield
    except BrokenPipeError:
        raise
    except expected as error:
        raise click.ClickException(_text(error)) from error


def _text(error: Exception) -> str:
    """The message; of the system's errors without the number: the path and what is wrong with it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
