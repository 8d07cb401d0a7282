"""`open_basket`: one dataset from wherever it lies."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from .basket import ImageBasket
from .folder import open_folder

_ALLOWED = "a folder with one sub-folder per identity"


def open_basket(
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    image_column: str = "path",
    identity_column: str = "identity",
) -> ImageBasket:
    """Open a dataset of images; labels follow the natural order of its identities' names.

    Args:
        path: a folder with one sub-folder per identity.
        name: of the basket; None takes the folder's or file's name without extension.
        image_column, identity_column: columns of a manifest.

    Warns:
        UserWarning: what was left out (files that are not images, identities without one), with examples; the
            full count is in `ImageBasket.skipped`.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is of another kind, or holds no image.
    """
    path = Path(path)
    if name is None:
        name = path.resolve().name if path.is_dir() else path.stem
    if path.is_dir():
        basket = open_folder(path, name)
    elif not path.exists():
        raise FileNotFoundError(f"path is {path}, which does not exist; allowed is {_ALLOWED}")
    else:
        raise ValueError(f"path is {path}, allowed is {_ALLOWED}")
    if basket.skipped:
        warnings.warn(f"basket {name!r} leaves out {basket.skipped}", stacklevel=2)
    return basket
