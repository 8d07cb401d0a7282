"""Baskets: several datasets, each with its own label space, laid side by side in one global class index.

A basket is one dataset. Basket b owns the global classes offsets[b] ... offsets[b+1]-1, in the order in
which the baskets are given; label y of basket b is the global class offsets[b] + y.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from bbs_kernels import functional as core
from bbs_kernels.ops.placement import on_device
from bbs_kernels.validate import class_indices, is_integer


class LocalLabels(NamedTuple):
    """labels: [B] int64, from 0 in each basket; basket: [B] int64, index of the basket."""

    labels: Tensor
    basket: Tensor


class Baskets:
    """Names and sizes of the datasets, and the way from their labels to global classes and back.

    Args:
        baskets: {"webface": 10572, "glint": 360232} (name: number of classes), or [10572, 360232] (then
            the names are "0", "1", …), or another `Baskets`. A basket may be empty (0 classes).

    Raises:
        TypeError: a name that is not a string or a size that is not an int.
        ValueError: no basket, or a negative size.
    """

    def __init__(self, baskets: Mapping[str, int] | Iterable[int] | Baskets) -> None:
        if isinstance(baskets, Baskets):
            baskets = baskets.as_dict()
        elif isinstance(baskets, (str, bytes)) or not isinstance(baskets, (Mapping, Iterable)):
            raise TypeError(f"baskets: expected a dict of name: size or a list of sizes, got {baskets!r}")
        elif not isinstance(baskets, Mapping):
            baskets = {str(i): size for i, size in enumerate(baskets)}
        checked = {}
        for name, size in baskets.items():
            if not isinstance(name, str):
                raise TypeError(f"baskets: expected names that are strings, got {name!r}")
            if not is_integer(size):
                raise TypeError(f"baskets[{name!r}]: expected an int, the number of classes, got {size!r}")
            if size < 0:
                raise ValueError(f"baskets[{name!r}]: expected an int from 0, got {size}")
            checked[name] = int(size)
        if not checked:
            raise ValueError("baskets: expected at least one basket, got none")
        self.names: tuple[str, ...] = tuple(checked)
        self.sizes: tuple[int, ...] = tuple(checked.values())
        self.offsets: Tensor = torch.tensor([0, *accumulate(self.sizes)], device="cpu")  # [K + 1] int64

    def as_dict(self) -> dict[str, int]:
        """Return {name: number of classes}, in order."""
        return dict(zip(self.names, self.sizes, strict=True))

    @property
    def num_classes(self) -> int:
        """C, the number of classes of all baskets together."""
        return sum(self.sizes)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Baskets) and (self.names, self.sizes) == (other.names, other.sizes)

    def __hash__(self) -> int:
        return hash((self.names, self.sizes))

    def __repr__(self) -> str:
        return f"Baskets({self.as_dict()})"

    def index(self, name: str) -> int:
        """Position of the basket called `name`; a KeyError that lists the names if there is none."""
        if name not in self.names:
            raise KeyError(f"basket: expected one of {', '.join(map(repr, self.names))}, got {name!r}")
        return self.names.index(name)

    def check_ignore_index(self, ignore_index: int) -> None:
        """Raise ValueError when `ignore_index` is a global class: rows of that class would pass for ignored ones."""
        if 0 <= ignore_index < self.num_classes:
            raise ValueError(
                f"ignore_index: expected a number below 0 or from {self.num_classes}, the number of classes, got "
                f"{ignore_index}, which is a class"
            )

    def to_global(self, labels: Tensor, basket: Tensor | int | str, *, ignore_index: int = -1) -> Tensor:
        """Global class indices of labels that start at 0 in each basket.

        Args:
            labels: [B] in [0, size of the basket), any integer dtype, or `ignore_index`, which is kept.
            basket: [B] indices of baskets, any integer dtype, or one index or name for the whole batch.
            ignore_index: label of rows that take no part; no global class.

        Returns:
            [B] int64.

        Raises:
            TypeError, ValueError, KeyError: wrong dtype or shape, an unknown basket, a label that its
                basket does not have, an `ignore_index` that is a class. On CUDA and under torch.compile a wrong
                label or basket becomes a class that does not exist, which the loss reports without a synchronisation.
        """
        labels, basket = self._checked_rows(labels, basket)
        classes = self.global_or_none(labels, basket, ignore_index=ignore_index)
        if not on_device(labels) and not torch.compiler.is_compiling():
            self._refuse_wrong(labels, basket, classes, ignore_index)
        return classes

    def global_or_none(self, labels: Tensor, basket: Tensor | int | str, *, ignore_index: int = -1) -> Tensor:
        """As `to_global`, but a wrong label or basket becomes a class that does not exist, on the CPU too.

        So ranks that must go on to their next collective find it together.
        """
        self.check_ignore_index(ignore_index)
        labels, basket = self._checked_rows(labels, basket)
        known = (basket >= 0) & (basket < len(self))
        slot = torch.where(known, basket, 0)
        first = core.first_class(slot, self.offsets)
        exists = known & (labels >= 0) & (labels < core.first_class(slot + 1, self.offsets) - first)
        no_class = self.num_classes + (ignore_index == self.num_classes)
        return torch.where(labels != ignore_index, torch.where(exists, labels + first, no_class), labels)

    def _checked_rows(self, labels: Tensor, basket: Tensor | int | str) -> tuple[Tensor, Tensor]:
        """`labels` and `basket` as int64 tensors [B], checked but for their values."""
        labels = _checked_labels(labels)
        if isinstance(basket, str):
            basket = self.index(basket)
        if is_integer(basket):
            if not 0 <= basket < len(self):
                raise ValueError(f"basket: expected 0 to {len(self) - 1}, got {basket}")
            basket = torch.full_like(labels, int(basket))
        basket = class_indices(basket, "basket", "basket", ", an int or a name")
        if basket.shape != labels.shape:
            raise ValueError(f"basket: expected shape {tuple(labels.shape)}, got {tuple(basket.shape)}")
        return labels, basket

    def _refuse_wrong(self, labels: Tensor, basket: Tensor, classes: Tensor, ignore_index: int) -> None:
        """Raise ValueError for the first row that `global_or_none` gave no class; it waits for the device."""
        wrong = (labels != ignore_index) & (classes >= self.num_classes)
        if not bool(wrong.any()):
            return
        i = int(wrong.nonzero()[0])
        b = int(basket[i])
        if not 0 <= b < len(self):
            raise ValueError(f"basket[{i}]: expected 0 to {len(self) - 1}, got {b}")
        raise ValueError(
            f"labels[{i}]: expected 0 to {self.sizes[b] - 1} in basket {self.names[b]!r}, or ignore_index = "
            f"{ignore_index}, got {int(labels[i])}"
        )

    def to_local(self, labels: Tensor, *, ignore_index: int = -1) -> LocalLabels:
        """The inverse of `to_global`: labels from 0 in each basket, and the basket of each.

        Args:
            labels: [B] global classes, any integer dtype, or `ignore_index`, which is kept, with basket -1.
            ignore_index: label of rows that take no part; no global class.

        Returns:
            LocalLabels(labels [B], basket [B]), int64.
        """
        self.check_ignore_index(ignore_index)
        labels = _checked_labels(labels)
        valid = labels != ignore_index
        basket = core.basket_of(labels, self.offsets)
        local = labels - core.first_class(basket, self.offsets)
        return LocalLabels(torch.where(valid, local, labels), torch.where(valid, basket, -1))


def _checked_labels(labels: Tensor) -> Tensor:
    labels = class_indices(labels)
    if labels.dim() != 1:
        raise ValueError(f"labels: expected shape [B], got {tuple(labels.shape)}")
    return labels
