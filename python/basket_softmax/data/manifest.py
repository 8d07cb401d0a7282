"""A CSV or Parquet table with one row per image, its path and its identity, as an `ImageBasket`.

pyarrow reads both; the paths stay in its string buffer, so ten million rows become no Python objects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .basket import ImageBasket
from .extras import optional
from .names import natural_key
from .paths import ImagePaths

SUFFIXES = (".csv", ".parquet")


def open_manifest(path: Path, name: str, image_column: str, identity_column: str) -> ImageBasket:
    """The images that the table names, in its order; labels follow the natural order of the identities.

    Args:
        path: `.csv` (comma, with a header line, UTF-8) or `.parquet`.
        name: of the basket.
        image_column: of paths, relative to the table's folder or absolute. Files are not looked for here.
        identity_column: of strings or integers; a CSV's are taken as text, so "007" is not 7.

    Raises:
        ImportError: pyarrow is missing.
        ValueError: a missing column, one of another type, an empty cell, identities that only blanks at an end tell
            apart, no row, or not such a table.
    """
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    images, identities = read(path, image_column, identity_column)
    arrow = optional("pyarrow", "pyarrow", f"reading {path}")
    types = arrow.types
    views = [types.is_string_view] if hasattr(types, "is_string_view") else []  # pyarrow 16
    strings = (types.is_string, types.is_large_string, *views)
    images = _text(path, image_column, images, *strings)
    text, start, stop = _buffer(images)
    identities = _text(path, identity_column, identities, *strings, types.is_integer)
    coded = identities.dictionary_encode()
    names = coded.dictionary.to_pylist()
    _check_blanks(path, identity_column, names)
    order = sorted(range(len(names)), key=lambda k: natural_key(names[k]))
    label = np.empty(len(names), np.int64)
    label[order] = np.arange(len(names))
    labels = label[coded.indices.to_numpy()]
    return ImageBasket(name, [names[k] for k in order], labels, ImagePaths(path.parent, text, start, stop))


def _read_csv(path: Path, *columns: str) -> list[Any]:
    arrow, csv = (optional(module, "pyarrow", f"reading {path}") for module in ("pyarrow", "pyarrow.csv"))
    try:
        with csv.open_csv(path) as first:
            _check_columns(path, columns, first.schema.names)
        kinds = dict.fromkeys(columns, arrow.string())
        options = csv.ConvertOptions(include_columns=list(dict.fromkeys(columns)), column_types=kinds)
        table = csv.read_csv(path, convert_options=options)
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as CSV: {error}") from error
    return [table.column(column) for column in columns]


def _read_parquet(path: Path, *columns: str) -> list[Any]:
    arrow, parquet = (
        optional(module, "pyarrow", f"reading {path}") for module in ("pyarrow", "pyarrow.parquet")
    )
    try:
        _check_columns(path, columns, parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=list(dict.fromkeys(columns)))
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error
    return [table.column(column) for column in columns]


def _check_columns(path: Path, columns: tuple[str, ...], found: list[str]) -> None:
    for column in columns:
        if found.count(column) != 1:
            what = f"has no column {column!r}" if column not in found else f"has two columns {column!r}"
            raise ValueError(
                f"{path} {what}, it has {', '.join(map(repr, found))}; choose with image_column and identity_column"
            )


def _check_blanks(path: Path, column: str, names: list[str]) -> None:
    """Two identities that only blanks at an end tell apart are one that was written in two ways."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.strip(), name)
        if other != name:
            raise ValueError(
                f"column {column!r} of {path} has the identities {other!r} and {name!r}, which only blanks at an end "
                "tell apart: remove them, or give the identities other names"
            )


def _text(path: Path, column: str, values: Any, *kinds: Any) -> Any:
    """One array of large strings without empty cells."""
    arrow, compute = (
        optional(module, "pyarrow", f"reading {path}") for module in ("pyarrow", "pyarrow.compute")
    )
    kind = values.type.value_type if arrow.types.is_dictionary(values.type) else values.type
    if not any(is_kind(kind) for is_kind in kinds):
        names = "strings or integers" if arrow.types.is_integer in kinds else "strings"
        raise ValueError(f"column {column!r} of {path}: expected {names}, got {values.type}")
    values = values.cast(kind).cast(arrow.large_string())
    if len(values) == 0:
        raise ValueError(f"{path}: expected a row per image, got none")
    empty = compute.fill_null(compute.equal(values, ""), True)
    if compute.any(empty).as_py():
        row = compute.index(empty, True).as_py() + 1
        raise ValueError(f"column {column!r} of {path} is empty in row {row} (the header is not counted)")
    return arrow.concat_arrays(values.chunks)  # large strings: one buffer may exceed 2 GiB


def _buffer(strings: Any) -> tuple[bytes, np.ndarray, np.ndarray]:
    """(text, start, stop) of an array of large strings."""
    _, offsets, text = strings.buffers()
    edges = np.frombuffer(offsets, np.int64, len(strings) + 1, 8 * strings.offset)
    return text.to_pybytes(), edges[:-1].copy(), edges[1:].copy()
