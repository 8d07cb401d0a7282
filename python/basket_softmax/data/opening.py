"""`open_basket`: one dataset from wherever it lies."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from .basket import ImageBasket
from .folder import open_folder
from .insightface_records import open_records
from .manifest import SUFFIXES, open_manifest

_KINDS = (
    "a folder with one sub-folder per identity, a .csv or .parquet table of images, or a RecordIO file (.rec with "
    ".idx beside it)"
)


def open_basket(
    path: str | os.PathLike[str],
    name: str | None = None,
    *,
    image_column: str = "path",
    identity_column: str = "identity",
) -> ImageBasket:
    """Open a dataset of images; its identities' labels follow the natural order of their names ("n2", "n10").

    Args:
        path: a folder with one sub-folder per identity; or a table (`.csv`, `.parquet`) with a row per image, paths
            relative to the table's folder; or insightface's RecordIO (`.rec` with `.idx` beside it).
        name: of the basket; None takes the folder's name, or the file's without extension.
        image_column, identity_column: columns of a table.

    Warns:
        UserWarning: what was left out (files that are not images, identities without one), with examples; the
            full count is in `ImageBasket.skipped`.

    Raises:
        FileNotFoundError: there is nothing at `path`, or a `.rec` has no index.
        ValueError: it is of another kind, damaged, or holds no image.
        ImportError: a table, and pyarrow is missing.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path: expected {_KINDS}, got {path}, which does not exist")
    suffix = "" if path.is_dir() else path.suffix.lower()
    if name is None:
        name = path.resolve().name if path.is_dir() else path.stem
    columns = (image_column, identity_column)
    if suffix not in SUFFIXES and columns != ("path", "identity"):
        raise ValueError(f"image_column and identity_column are {columns}, but {path} is not a table")
    if path.is_dir():
        basket = open_folder(path, name)
    elif suffix in SUFFIXES:
        basket = open_manifest(path, name, image_column, identity_column)
    elif suffix == ".rec":
        basket = open_records(path, name)
    else:
        raise ValueError(f"path: expected {_KINDS}, got {path}")
    if basket.skipped:
        warnings.warn(f"basket {name!r} leaves out {basket.skipped}", stacklevel=2)
    return basket
