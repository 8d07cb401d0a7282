"""Mining rules: which classes of *other* baskets are negatives of a row.

Someone in another dataset may be the same identity, so classes of other baskets are admitted by their
similarity to the row: all of them, none, those below a guard, or the k most similar after leaving out the
first `skip`. The objects here are small, frozen and hold no tensors; the kernels receive what
`op_arguments()` returns. In the spirit of "Basket-based Softmax" (abstract and introduction: similarity
scores as the clue to mining negative classes from other datasets); the default is this library's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from .validate import finite, is_integer

# Codes of the op arguments `rule` and `guard_kind`; csrc/common uses the same numbers.
RULE_ALL, RULE_OWN, RULE_BELOW, RULE_TOPK = 0, 1, 2, 3
GUARD_NONE, GUARD_ABSOLUTE, GUARD_RELATIVE, GUARD_ROWS = 0, 1, 2, 3

MAX_LIST = 128  # k + skip: the length of the sorted list a kernel keeps per row and basket
MAX_SLOTS = 16384  # sum over baskets of min(k, size): mined classes of one row


class OpArguments(NamedTuple):
    """What a rule means to the ops: `rule`, `k`, `skip`, `guard_kind`, `guard_value`."""

    rule: int
    k: int
    skip: int
    guard_kind: int
    guard_value: float


@dataclass(frozen=True)
class Absolute:
    """Guard g_i = t: a candidate with a cosine above `t` may be the same identity and is left out.

    Args:
        t: cosine threshold, a finite number (useful values lie in [-1, 1]).

    Raises:
        TypeError, ValueError: `t` is not a finite number.

    Source: with the `Below` rule this is the threshold of dataset-aware learning (DAIL).
    """

    t: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", finite("Absolute", "t", self.t))


@dataclass(frozen=True)
class Relative:
    """Guard g_i = c_t[i] - d: candidates may not come closer than `d` to the row's target cosine.

    Args:
        d: distance below the target cosine, a finite number; negative values put the guard above it.

    Raises:
        TypeError, ValueError: `d` is not a finite number.
    """

    d: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "d", finite("Relative", "d", self.d))


@dataclass(frozen=True)
class Ema:
    """Guard g_i = r * mu_b, with mu_b the running mean of the target cosine in the row's basket b.

    A basket that has never had a row has g = +inf (nothing is left out). The running means live in the
    loss's buffer `ema` [K]; the functional form takes them as an argument.

    Args:
        r: fraction of the running mean, a finite number > 0.

    Raises:
        TypeError, ValueError: `r` is not a finite number > 0.
    """

    r: float

    def __post_init__(self) -> None:
        value = finite("Ema", "r", self.r)
        if value <= 0.0:
            raise ValueError(f"Ema: r: expected a number above 0, got {value}")
        object.__setattr__(self, "r", value)


Guard: TypeAlias = Absolute | Relative | Ema


@dataclass(frozen=True)
class All:
    """Every class of the other baskets is a negative: a naive merge of the datasets.

    With one basket (K = 1) this is plain ArcFace/CosFace.
    """

    def op_arguments(self) -> OpArguments:
        """The rule as op arguments."""
        return OpArguments(RULE_ALL, 0, 0, GUARD_NONE, 0.0)


@dataclass(frozen=True)
class Own:
    """No class of another basket is a negative: one softmax head per dataset; the others are not read."""

    def op_arguments(self) -> OpArguments:
        """The rule as op arguments."""
        return OpArguments(RULE_OWN, 0, 0, GUARD_NONE, 0.0)


@dataclass(frozen=True)
class Below:
    """Every class of another basket with a cosine at or below the guard is a negative.

    Args:
        guard: `Absolute`, `Relative` or `Ema`.

    Raises:
        TypeError: `guard` is something else.
    """

    guard: Guard

    def __post_init__(self) -> None:
        if not isinstance(self.guard, (Absolute, Relative, Ema)):
            raise TypeError(f"Below: guard: expected Absolute, Relative or Ema, got {self.guard!r}")

    def op_arguments(self) -> OpArguments:
        """The rule as op arguments."""
        return OpArguments(RULE_BELOW, 0, 0, *_guard_arguments(self.guard))


@dataclass(frozen=True)
class TopK:
    """Of each other basket: remove what the guard forbids, leave out the `skip` most similar, take the next `k`.

    An identity occurs at most once in a basket, so only the single most similar class of another basket
    can be the same person; hence skip = 1. Order: larger cosine first, then smaller class index.
    The default, TopK(k=64, skip=1) without a guard, is this library's choice and has nothing to tune.

    Args:
        k: negatives per other basket, >= 0; clipped to the basket's size; 0 reads no other basket.
        skip: most similar candidates to leave out, >= 0; k + skip <= 128.
        guard: `Absolute`, `Relative`, `Ema` or None.

    Raises:
        TypeError, ValueError: an argument is not of these.
    """

    k: int = 64
    skip: int = 1
    guard: Guard | None = None

    def __post_init__(self) -> None:
        for name in ("k", "skip"):
            value = getattr(self, name)
            if not is_integer(value):
                raise TypeError(f"TopK: {name}: expected an int, got {value!r}")
            if value < 0:
                raise ValueError(f"TopK: {name}: expected an int from 0, got {value}")
            object.__setattr__(self, name, int(value))
        if self.k + self.skip > MAX_LIST:
            raise ValueError(
                f"TopK: k + skip: expected at most {MAX_LIST}, got k={self.k} and skip={self.skip}"
            )
        if self.guard is not None and not isinstance(self.guard, (Absolute, Relative, Ema)):
            raise TypeError(f"TopK: guard: expected Absolute, Relative, Ema or None, got {self.guard!r}")

    def op_arguments(self) -> OpArguments:
        """The rule as op arguments."""
        return OpArguments(RULE_TOPK, self.k, self.skip, *_guard_arguments(self.guard))


Rule: TypeAlias = All | Own | Below | TopK


def check_rule(mining: object) -> Rule:
    """Return `mining` if it is one of the rules, else raise a TypeError that names them."""
    if not isinstance(mining, (All, Own, Below, TopK)):
        raise TypeError(
            f"mining: expected All(), Own(), Below(guard) or TopK(k, skip, guard), got {mining!r}"
        )
    return mining


def ema_guard(mining: Rule) -> Ema | None:
    """The rule's guard if it is an `Ema`, which needs running means; None otherwise."""
    guard = mining.guard if isinstance(mining, (Below, TopK)) else None
    return guard if isinstance(guard, Ema) else None


def _guard_arguments(guard: Guard | None) -> tuple[int, float]:
    """(guard_kind, guard_value) of the ops; an Ema guard arrives as one number per row."""
    if guard is None:
        return GUARD_NONE, 0.0
    if isinstance(guard, Absolute):
        return GUARD_ABSOLUTE, guard.t
    if isinstance(guard, Relative):
        return GUARD_RELATIVE, guard.d
    return GUARD_ROWS, 0.0


def check_listed(mining: Rule, sizes: Sequence[int]) -> None:
    """Raise ValueError when a rule would list more classes of a row than the kernels hold."""
    if not isinstance(mining, TopK):
        return
    mined = sum(min(mining.k, size) for size in sizes)
    if mined > MAX_SLOTS:
        raise ValueError(
            f"mining: expected up to {MAX_SLOTS} listed classes a row, got {mined} (k = {mining.k} over {len(sizes)} "
            "baskets): use a smaller k"
        )


def check_rule_size(mining: Rule, offsets: Tensor) -> None:
    """The bound on the mined list, early and by name; under torch.compile the op itself checks it."""
    if isinstance(mining, TopK) and not torch.compiler.is_compiling():
        edges = (
            offsets.tolist()
        )  # reads host memory: no op, which a FakeTensorMode would take for data-dependent
        check_listed(mining, [stop - start for start, stop in pairwise(edges)])
