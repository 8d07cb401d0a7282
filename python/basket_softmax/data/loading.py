"""`read_batches`: a `DataLoader`'s batches, with one message for a damaged image whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from .image import UnreadableImage

_RAISED = f"{UnreadableImage.__module__}.{UnreadableImage.__qualname__}: "


def read_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of `loader`.

    Raises:
        UnreadableImage: with the message it has without workers; a worker process sends its whole traceback as the
            message, whose last line begins with the exception's name.
    """
    try:
        yield from loader
    except UnreadableImage as error:
        raise UnreadableImage(str(error).rpartition(_RAISED)[2].rstrip()) from error
