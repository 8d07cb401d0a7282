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
from typing import ClassVar, NamedTuple, TypeAlias

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


class _Guard:
    """What all guards have.

    kind: code of the ops. needs_means: it hangs on running means, one per basket; the ops then get one number per row.
    reads_target: it hangs on the target cosine. Each has `rows(cos_t, means)`: g_i, of the shape of `cos_t`, target
    cosines; `means` are the running means of the rows' baskets.
    """

    kind: ClassVar[int]
    needs_means: ClassVar[bool] = False
    reads_target: ClassVar[bool] = False

    @property
    def value(self) -> float:
        """The number of the ops, 0 where they get one per row."""
        return 0.0


@dataclass(frozen=True)
class Absolute(_Guard):
    """Guard g_i = t: a candidate with a cosine above `t` may be the same identity and is left out.

    Args:
        t: cosine threshold, a finite number (useful values lie in [-1, 1]).

    Raises:
        TypeError, ValueError: `t` is not a finite number.

    Source: with the `Below` rule this is the threshold of dataset-aware learning (DAIL).
    """

    t: float
    kind = GUARD_ABSOLUTE

    def __post_init__(self) -> None:
        object.__setattr__(self, "t", finite("Absolute", "t", self.t))

    @property
    def value(self) -> float:
        """t."""
        return self.t

    def rows(self, cos_t: Tensor, means: Tensor | None = None) -> Tensor:
        """t everywhere."""
        return torch.full_like(cos_t, self.t)


@dataclass(frozen=True)
class Relative(_Guard):
    """Guard g_i = c_t[i] - d: candidates may not come closer than `d` to the row's target cosine.

    Args:
        d: distance below the target cosine, a finite number; negative values put the guard above it.

    Raises:
        TypeError, ValueError: `d` is not a finite number.
    """

    d: float
    kind = GUARD_RELATIVE
    reads_target = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "d", finite("Relative", "d", self.d))

    @property
    def value(self) -> float:
        """d."""
        return self.d

    def rows(self, cos_t: Tensor, means: Tensor | None = None) -> Tensor:
        """cos_t - d."""
        return cos_t - self.d


@dataclass(frozen=True)
class Ema(_Guard):
    """Guard g_i = r * mu_b, with mu_b the running mean of the target cosine in the row's basket b.

    A basket that has never had a row has g = +inf (nothing is left out). The running means live in the
    loss's buffer `ema` [K]; the functional form takes them as an argument.

    Args:
        r: fraction of the running mean, a finite number > 0.

    Raises:
        TypeError, ValueError: `r` is not a finite number > 0.
    """

    r: float
    kind = GUARD_ROWS
    needs_means = True

    def __post_init__(self) -> None:
        value = finite("Ema", "r", self.r)
        if value <= 0.0:
            raise ValueError(f"Ema: r: expected a number above 0, got {value}")
        object.__setattr__(self, "r", value)

    def rows(self, cos_t: Tensor, means: Tensor | None = None) -> Tensor:
        """r * means."""
        assert means is not None, "an Ema guard needs running means"
        return self.r * means


Guard: TypeAlias = Absolute | Relative | Ema


class _Rule:
    """What all rules have.

    code: of the ops. guard: None without one. k, skip: classes listed of each other basket, and left out before; 0 but
    for `TopK`.
    """

    code: ClassVar[int]
    guard: Guard | None  # no value here, which the fields of subclasses would take for their default
    k: int = 0
    skip: int = 0

    def offered(self) -> Rule:
        """The rule by which a shard finds what it offers: what one process would skip may lie on another shard."""
        return self  # type: ignore[return-value]

    def op_arguments(self) -> OpArguments:
        """The rule as op arguments; an `Ema` guard arrives as one number per row."""
        kind, value = (GUARD_NONE, 0.0) if self.guard is None else (self.guard.kind, self.guard.value)
        return OpArguments(self.code, self.k, self.skip, kind, value)


@dataclass(frozen=True)
class All(_Rule):
    """Every class of the other baskets is a negative: a naive merge of the datasets.

    With one basket (K = 1) this is plain ArcFace/CosFace.
    """

    code = RULE_ALL
    guard = None


@dataclass(frozen=True)
class Own(_Rule):
    """No class of another basket is a negative: one softmax head per dataset; the others are not read."""

    code = RULE_OWN
    guard = None


@dataclass(frozen=True)
class Below(_Rule):
    """Every class of another basket with a cosine at or below the guard is a negative.

    Args:
        guard: `Absolute`, `Relative` or `Ema`.

    Raises:
        TypeError: `guard` is something else.
    """

    guard: Guard
    code = RULE_BELOW

    def __post_init__(self) -> None:
        if not isinstance(self.guard, (Absolute, Relative, Ema)):
            raise TypeError(f"Below: guard: expected Absolute, Relative or Ema, got {self.guard!r}")


@dataclass(frozen=True)
class TopK(_Rule):
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
    code = RULE_TOPK

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

    def offered(self) -> TopK:
        """The k + skip most similar."""
        return TopK(self.k + self.skip if self.k > 0 else 0, 0, self.guard)


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
    return mining.guard if isinstance(mining.guard, Ema) else None


def check_listed(mining: Rule, sizes: Sequence[int]) -> None:
    """Raise ValueError when a rule would list more classes of a row than the kernels hold."""
    mined = sum(min(mining.k, size) for size in sizes)
    if mined > MAX_SLOTS:
        raise ValueError(
            f"mining: expected up to {MAX_SLOTS} listed classes a row, got {mined} (k = {mining.k} over {len(sizes)} "
            "baskets): use a smaller k"
        )


def check_rule_size(mining: Rule, offsets: Tensor) -> None:
    """The bound on the mined list, early and by name; under torch.compile the op itself checks it."""
    if mining.k > 0 and not torch.compiler.is_compiling():
        edges = (
            offsets.tolist()
        )  # reads host memory: no op, which a FakeTensorMode would take for data-dependent
        check_listed(mining, [stop - start for start, stop in pairwise(edges)])
