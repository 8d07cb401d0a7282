"""How a margin is called: `margin(cos_t)` or `margin(cos_t, ctx)`, decided once by its signature.

Most margins need only the target cosine. Quality-aware ones (AdaFace, MagFace) also need the embedding
norms, learnable or per-class ones the labels; those take a second argument, a `MarginContext`. A margin of that form
may also have `row_penalty(ctx)` -> [B], which is added to the losses of the rows before their reduction.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..recompute import called_as_before


class MarginContext(NamedTuple):
    """What a margin may look at besides the target cosine.

    norms: [B] ||x_i||, differentiable, fp32 (fp64 for fp64); 0 at ignored rows.
    labels: [B] int64 global class indices, as given.
    training: whether the loss is in training mode (a margin updates running statistics only then).
    valid: [B] bool, False at ignored rows.
    """

    norms: Tensor
    labels: Tensor
    training: bool
    valid: Tensor


def takes_context(margin: Callable[..., Any]) -> bool:
    """Whether `margin` is to be called as margin(cos_t, ctx).

    It is when its second positional parameter has no default, or is named `ctx` or `context`. Callables
    without a readable signature (built-in functions) get the cosine alone.

    Raises:
        TypeError: not callable, or neither of the two forms fits.
    """
    if isinstance(margin, type):
        raise TypeError(f"margin: expected an object such as ArcFace(0.5), got the class {margin.__name__}")
    if not callable(margin):
        raise TypeError(f"margin: expected a callable margin(cos_t) or margin(cos_t, ctx), got {margin!r}")
    target = margin.forward if isinstance(margin, torch.nn.Module) else margin
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    required = sum(p.default is p.empty for p in positional)
    if required > 2 or (not positional and not variadic):
        raise TypeError(
            f"margin: expected a callable margin(cos_t) or margin(cos_t, ctx), got the signature "
            f"{inspect.signature(target)}"
        )
    return required == 2 or (len(positional) > 1 and positional[1].name in ("ctx", "context"))


def row_norms(x: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """||x_i|| [B] in `dtype`, differentiable; 0 at rows that are not valid."""
    # Ignored rows are cut out before the norm: a NaN there must not come back as 0 * NaN in backward.
    used = torch.where(valid.unsqueeze(1), x.to(dtype), 0.0)
    return torch.linalg.vector_norm(used, dim=1)


def call_margin(
    margin: Callable[..., Any],
    with_context: bool,
    cos_t: Tensor,
    x: Tensor,
    labels: Tensor,
    valid: Tensor,
    training: bool,
    norms: Tensor | None = None,
) -> Tensor:
    """psi [B] in the dtype of `cos_t`: the margin applied, its result checked.

    Args:
        margin, with_context: the callable and `takes_context(margin)`.
        cos_t: [B] target cosines, fp32 or fp64.
        x: [B, D] embeddings, for the norms; only read when `with_context`.
        labels, valid: [B]; training: bool.
        norms: [B] norms of the embeddings, where the caller has them; computed from `x` when None.

    Raises:
        TypeError, ValueError: the result is not a floating-point tensor of shape [B].
    """
    if with_context:
        norms = row_norms(x, valid, cos_t.dtype) if norms is None else norms
        psi = called_as_before(margin, margin, cos_t, MarginContext(norms, labels, training, valid))
    else:
        psi = called_as_before(margin, margin, cos_t)
    if not isinstance(psi, Tensor) or not psi.is_floating_point():
        kind = psi.dtype if isinstance(psi, Tensor) else type(psi).__name__
        raise TypeError(f"margin must return a floating-point tensor, got {kind}")
    if psi.shape != cos_t.shape:
        raise ValueError(
            f"margin must return the shape of cos_t, {tuple(cos_t.shape)}, got {tuple(psi.shape)}"
        )
    return psi.to(cos_t.dtype)


def with_penalty(
    losses: Tensor,
    margin: Callable[..., Any],
    norms: Tensor | None,
    labels: Tensor,
    valid: Tensor,
    training: bool,
) -> Tensor:
    """losses [B] with the margin's `row_penalty` added; `losses` itself where it has none.

    Raises:
        TypeError: the margin has one and does not take a context, so that there are no `norms`.
        ValueError: the penalty is not [B].
    """
    penalty_of = getattr(margin, "row_penalty", None)
    if penalty_of is None:
        return losses
    if norms is None:
        raise TypeError(
            f"margin: expected a callable margin(cos_t, ctx), since it has row_penalty, got {margin!r}"
        )
    penalty = called_as_before(margin, penalty_of, MarginContext(norms, labels, training, valid))
    if penalty.shape != losses.shape:
        raise ValueError(
            f"row_penalty must return the shape {tuple(losses.shape)}, got {tuple(penalty.shape)}"
        )
    return losses + penalty.to(losses.dtype)
