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
        raise click.ClickException(str(error)) from error
