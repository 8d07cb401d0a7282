"""Lower bounds of a step by one resource alone, computed from the peaks that a report measured.

A forward multiplies all rows with all classes that their rule reads; a backward takes three products of that size, with
the classes of the row's own basket only. Tiles are 128 rows by 128 classes.

tensor  the flops at the rate of a square product in the same precision
HBM     W once (forward); W and dW once (backward); at the rate of a copy
L2      what the tiles of the present kernels ask for, at the rate of repeated reads of a small buffer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .sizes import PEAK_OF, W_BYTES, X_BYTES, Case

TILE = 128


class Floors(NamedTuple):
    """Seconds, None where the peak was not measured."""

    tensor: float | None
    hbm: float | None
    l2: float | None


class Work(NamedTuple):
    flops: float
    hbm_bytes: float
    l2_bytes: float


def forward_work(case: Case) -> Work:
    """Every block of rows asks for W; the rows stay in shared memory."""
    w = case.classes * case.width * W_BYTES[case.kind]
    return Work(2.0 * case.rows * case.classes * case.width, w, w * _tiles(case.rows))


def backward_work(case: Case) -> Work:
    """`coefficients` reads W and x and writes p in both orders; each product reads p and its other operand."""
    w, x_bytes = case.classes * case.width * W_BYTES[case.kind], X_BYTES[case.kind]
    row_tiles, class_tiles, columns = _tiles(case.rows), _tiles(case.classes), _tiles(case.width)
    p = case.rows * case.classes * x_bytes
    rows_read = class_tiles * case.rows * case.width * x_bytes
    classes_read = row_tiles * case.classes * case.width * x_bytes
    coefficients = w * row_tiles + rows_read + 2 * p
    products = (p * columns + classes_read) + (p * columns + rows_read)
    own = 1.0 / case.baskets
    flops = 6.0 * case.rows * case.classes * case.width * own
    return Work(flops, 2.0 * w, own * (coefficients + products))


def floors(work: Work, kind: str, peaks: Mapping[str, Any]) -> Floors:
    """Seconds that the work takes at the measured peaks, one resource at a time.

    Args:
        peaks: `copy`, `l2` and the names of `sizes.PEAKS`, in bytes and flops per second; a missing one gives None.
    """
    return Floors(
        _time(work.flops, peaks.get(PEAK_OF[kind])),
        _time(work.hbm_bytes, peaks.get("copy")),
        _time(work.l2_bytes, peaks.get("l2")),
    )


def _tiles(length: int) -> int:
    return -(-length // TILE)


def _time(amount: float, rate: float | None) -> float | None:
    return amount / rate if rate else None
