"""Optional libraries of the data layer, imported when first used; a missing one says which extra brings it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtra(ImportError):
    """A library that an extra brings is not installed; the message says what for, and how to get it."""


def optional(module: str, library: str, use: str) -> Any:
    """`module`, of the PyPI package `library`; `use` is what for, in the words of the message.

    Raises:
        MissingExtra: for example `reading images needs pillow: pip install "bbs-kernels[train]"`.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(f'{use} needs {library}: pip install "bbs-kernels[train]"') from error


def pil_image() -> Any:
    """The module `PIL.Image`."""
    return optional("PIL.Image", "pillow", "reading images")
