"""Margins that also change the negatives: f(c_ij) in place of c_ij in the log-sum-exp, element by element.

CurricularFace weighs hard negatives, inter-class filtering takes look-alikes out, A-Softmax scales a row by its norm.
Such a margin has a method

    negatives(cos_t, ctx) -> NegativeMap

beside its call. It is called once a step and first, with the target cosines [B], detached: the place to update running
statistics. Which classes are negatives is decided by the mining rule on the plain cosines, as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

NOT_FUSED = (
    "which changes the negatives: that works in one process, with one centre for each class and with the optimisers of "
    "torch.optim, not yet under a process group, with sub-centres or FusedSGD"
)


@dataclass(frozen=True)
class NegativeMap:
    """f(c_ij), with numbers of the row.

    function: (cos [r, n], *parameters [r, 1]) -> [r, n], elementwise and differentiable by autograd; it sees the
        cosines block by block, never all of them. Finite for finite arguments.
    parameters: tensors [B], one number a row; those that require a gradient get one.
    """

    function: Callable[..., Tensor]
    parameters: tuple[Tensor, ...] = ()


def negatives_of(margin: Any) -> Callable[..., NegativeMap] | None:
    """The method `negatives` of a margin that has one."""
    return getattr(margin, "negatives", None)


def checked_map(mapping: Any, cos_t: Tensor) -> NegativeMap:
    """`mapping` with its parameters in the dtype of `cos_t`.

    Raises:
        TypeError, ValueError: not a `NegativeMap`, or a parameter that is not [B].
    """
    if not isinstance(mapping, NegativeMap):
        raise TypeError(f"negatives must return a NegativeMap, got {type(mapping).__name__}")
    for parameter in mapping.parameters:
        if parameter.shape != cos_t.shape:
            raise ValueError(
                f"NegativeMap: parameters: expected shape {tuple(cos_t.shape)}, got {tuple(parameter.shape)}"
            )
    return NegativeMap(mapping.function, tuple(p.to(cos_t.dtype) for p in mapping.parameters))
