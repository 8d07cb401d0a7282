"""`CheckReport`: what `check_baskets` found, as values and as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .basket import ImageBasket
from .duplicates import ACROSS_BASKETS, SAME_IDENTITY, TWO_IDENTITIES, Duplicates
from .image import ImageFormat
from .names import listed

_SHOWN = 10


@dataclass(frozen=True, eq=False)
class BasketCheck:
    """One basket.

    single: int64, labels of the identities with one image.
    unreadable: {image: what is wrong}.
    sizes: {(height, width): images}, of readable images, the most frequent first.
    """

    name: str
    images: int
    identities: int
    single: np.ndarray
    unreadable: dict[int, str]
    sizes: dict[tuple[int, int], int]


@dataclass(frozen=True, eq=False)
class CheckReport:
    """All baskets; `str()` is the text for people, with the first ten of each kind.

    baskets: what was checked; checks: one result for each; duplicates: equal images of all of them.
    """

    baskets: tuple[ImageBasket, ...]
    checks: tuple[BasketCheck, ...]
    duplicates: Duplicates
    image_format: ImageFormat

    @property
    def ok(self) -> bool:
        """Whether every image can be read and no basket has the same one under two identities.

        The rest is for a person to judge: identities with one image have no positives besides it, and equal
        images in two baskets are expected where their identities overlap.
        """
        unreadable = any(check.unreadable for check in self.checks)
        return not unreadable and not (self.duplicates.kind == TWO_IDENTITIES).any()

    def __str__(self) -> str:
        lines = [
            line
            for basket, check in zip(self.baskets, self.checks, strict=True)
            for line in self._basket_lines(basket, check)
        ]
        for kind, title in (
            (TWO_IDENTITIES, "the same image under two identities of one basket, so one label is wrong"),
            (
                ACROSS_BASKETS,
                "the same image in several baskets: their identities are one person, or one label is wrong",
            ),
            (SAME_IDENTITY, "the same image twice in one identity"),
        ):
            count = int((self.duplicates.kind == kind).sum())
            if count:
                lines += [f"{count:,} × {title}:", *_first(self._group_lines(kind), count)]
        return "\n".join([*lines, "ok" if self.ok else "not ok"])

    def _basket_lines(self, basket: ImageBasket, check: BasketCheck) -> Iterator[str]:
        yield f"{check.name}: {check.images:,} images of {check.identities:,} identities"
        if len(check.single):
            names = [basket.identities[c] for c in check.single[:_SHOWN]]
            yield f"  identities with one image: {len(check.single):,} ({listed(names, len(check.single))})"
        _, height, width = self.image_format.shape
        other = {size: count for size, count in check.sizes.items() if size != (height, width)}
        if other:
            kinds = [f"{count:,} of {h} × {w}" for (h, w), count in islice(other.items(), _SHOWN)]
            yield (
                f"  images resampled to {height} × {width}: {sum(other.values()):,} ({listed(kinds, len(other))}"
                + (" sizes)" if len(other) > 5 else ")")
            )
        if check.unreadable:
            yield f"  images that cannot be read: {len(check.unreadable):,}"
            damaged = (f"{basket.where(i)}: {what}" for i, what in check.unreadable.items())
            yield from ("  " + line for line in _first(damaged, len(check.unreadable)))
        if basket.skipped:
            yield f"  left out on opening: {basket.skipped}"

    def _group_lines(self, kind: int) -> Iterator[str]:
        for group in self.duplicates.groups(kind):
            names = [
                self.baskets[b].where(i) + (f" ({self.baskets[b].name})" if kind == ACROSS_BASKETS else "")
                for b, i in group[:_SHOWN]
            ]
            more = len(group) - len(names)
            yield " = ".join(names) + (f" and {more:,} more" if more else "")


def _first(lines: Iterable[str], total: int) -> Iterator[str]:
    """The first of them, indented, and how many more there are."""
    yield from ("  " + line for line in islice(lines, _SHOWN))
    if total > _SHOWN:
        yield f"  … and {total - _SHOWN:,} more"
