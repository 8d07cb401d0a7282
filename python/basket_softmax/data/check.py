"""`check_baskets`: reads every image once and says what is wrong before a training run finds out.

Files are read by threads, since storage answers late more often than slowly. Of an image a hash and its size are
kept, 24 bytes: nothing of its content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from .basket import ImageBasket
from .check_report import BasketCheck, CheckReport
from .duplicates import find_duplicates
from .extras import pil_image
from .image import ImageFormat, parse_image, pixel_problem, reason

_THREADS = 8
_BLOCK = 1024  # images handed to the threads at once; all at once would be a Python object for each


def check_baskets(
    baskets: Sequence[ImageBasket],
    image_format: ImageFormat,
    progress: Callable[[int, int], None] | None = None,
    *,
    decode: bool = False,
) -> CheckReport:
    """Look for unreadable images, equal files, identities with one image and sizes other than the format's.

    Args:
        baskets: to check, with different names.
        image_format: what the images will be turned into.
        progress: called with (images read, all images) now and then, and at the end.
        decode: also decode every pixel, which finds files that are cut off; slower. Without it the header is
            looked at.

    Returns:
        CheckReport: to print; `.ok` says whether the baskets can be trained on as they are.

    Raises:
        ValueError: no basket, or a name twice.
    """
    names = [basket.name for basket in baskets]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"baskets: expected at least one, with different names, got {names}")
    pil_image()  # a missing Pillow is not a damaged image
    total, done, checks, digests = sum(map(len, baskets)), 0, [], []
    with ThreadPoolExecutor(_THREADS) as pool:
        for basket in baskets:
            digest, size = np.zeros((len(basket), 2), np.uint64), np.zeros((len(basket), 2), np.int64)
            damage: dict[int, str] = {}
            for begin in range(0, len(basket), _BLOCK):
                block = range(begin, min(begin + _BLOCK, len(basket)))
                for i, seen in zip(block, pool.map(partial(_look, basket, decode), block), strict=True):
                    if isinstance(seen, str):
                        damage[i] = seen
                    else:
                        digest[i], size[i] = np.frombuffer(seen.digest, np.uint64), seen.size
                done += len(block)
                if progress is not None:
                    progress(done, total)
            digests.append(digest)
            checks.append(_summary(basket, size, damage, image_format))
    readable = np.concatenate([_all_but(len(b), c.unreadable) for b, c in zip(baskets, checks, strict=True)])
    return CheckReport(
        tuple(baskets),
        tuple(checks),
        find_duplicates(baskets, np.concatenate(digests), readable),
        image_format,
    )


class _Seen(NamedTuple):
    """digest: 16 bytes, of the file's bytes; size: (height, width)."""

    digest: bytes
    size: tuple[int, int]


def _look(basket: ImageBasket, decode: bool, i: int) -> _Seen | str:
    """Hash and size of an image, or what is wrong with it."""
    try:
        data = basket.read(i)
        image = parse_image(data, pixels=decode)
    except (OSError, ValueError) as error:  # ValueError: a record without a whole header
        return reason(error) if isinstance(error, OSError) else str(error)
    unusable = pixel_problem(image)
    if unusable is not None:
        return unusable
    width, height = image.size
    return _Seen(hashlib.blake2b(data, digest_size=16).digest(), (height, width))


def _summary(
    basket: ImageBasket, size: np.ndarray, damage: dict[int, str], image_format: ImageFormat
) -> BasketCheck:
    different, count = np.unique(size[_all_but(len(basket), damage)], axis=0, return_counts=True)
    sizes = {
        (int(height), int(width)): int(count[k])
        for k, (height, width) in sorted(enumerate(different), key=lambda item: -count[item[0]])
    }
    single = np.flatnonzero(basket.images_per_identity == 1)
    return BasketCheck(basket.name, len(basket), len(basket.identities), single, damage, sizes)


def _all_but(count: int, without: dict[int, str]) -> np.ndarray:
    """[count] bool, False at these indices."""
    mask = np.ones(count, bool)
    mask[list(without)] = False
    return mask
