"""Dense reference of the basket softmax: plain differentiable torch, any dtype; in fp64 the oracle of all tests.

Written for clarity: one loop over the baskets of the rows, one over the baskets of the classes, B x C
cosines held in memory. It shares no code with the kernels or their Python layer, only the rule objects.
A block of rows of one basket and the classes those rows read is exactly the set of (row, class) pairs that
*touch*, so NaN spreads as far as it must and no further.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .margins.call import MarginContext, call_margin, row_norms, takes_context, with_penalty
from .margins.negative_map import NegativeMap, negatives_of
from .rules import Absolute, All, Below, Own, Relative, Rule, TopK, check_rule, ema_guard

ZERO_NORM = 1e-12  # a row or centre below this norm has cosine 0 and gradient 0
EMA_DECAY = 0.98


def cos_lse(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    scale: float,
    mining: Rule,
    aliases: Tensor | None = None,
    ignore_index: int = -1,
    ema: Tensor | None = None,
    training: bool = False,
    norm_limit: float = math.inf,
    row_basket: Tensor | None = None,
    row_alias: Tensor | None = None,
    row_guard: Tensor | None = None,
    mined_in_lse: bool = True,
    subcenters: int = 1,
    negative_map: NegativeMap | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-sum-exp over the negatives, the target cosine, and the mined classes, densely.

    Args:
        x: [B, D] embeddings, fp64, fp32, fp16 or bf16; 16-bit inputs mean fp32 arithmetic on these values.
        w: [C, D] class centres, same dtype, or fp32 with 16-bit `x` (then rounded to x's dtype first).
        labels: [B] int64 global class indices, or `ignore_index`.
        offsets: [K+1] int64, basket b owns the classes offsets[b] ... offsets[b+1]-1.
        scale: s > 0.
        mining: `All`, `Own`, `Below` or `TopK`.
        aliases: [C] int64; classes with the same non-negative alias are one identity.
        ignore_index: label of rows that take no part.
        ema: [K] running means of the target cosine for an `Ema` guard, +inf for a basket never seen;
            updated in place first when `training`.
        norm_limit: a squared norm above it counts as Inf; torch.finfo(torch.float32).max gives fp64 copies
            of fp32 data fp32's own rule.
        row_basket: [B] int64 basket of each row, -1 ignored: `w` is then a shard, and a negative label a class that
            is elsewhere. row_alias: [B] alias of the row's class. row_guard: [B] guards in place of the rule's own.
        mined_in_lse: False: lse is of the own basket alone.
        subcenters: r, sub-centres of a class (Deng et al., ECCV 2020): `w` is [C*r, D], rows c*r ... c*r+r-1 are those
            of class c, whose cosine is the largest of theirs; the gradient goes to that one, the first where they tie.
        negative_map: lse is of scale * f(c_ij), with the map's parameters [B].

    Returns:
        lse [B], cos_t [B], mined_idx [B, K, k] int64 (-1 padded), mined_cos [B, K, k]; k = 0 unless TopK.
        Gradients flow through lse and cos_t.

    Raises:
        ValueError: a label out of range, an `Ema` guard without `ema`, or rows of `w` that are not C*r.
    """
    check_rule(mining)
    x, w = _computed(x, w)
    edges = offsets.tolist()
    if len(w) != edges[-1] * subcenters:
        raise ValueError(f"w: expected {edges[-1]} classes times {subcenters} sub-centres, got {len(w)} rows")
    baskets = len(edges) - 1
    if row_basket is None:
        valid = labels != ignore_index
        _check_labels(labels, valid, edges[-1])
        home = torch.bucketize(
            labels, offsets.to(labels.device)[1:], right=True
        )  # basket of each row's label
    else:
        valid, home = row_basket >= 0, row_basket

    if training and ema is not None and ema_guard(mining) is not None:
        c_t = target_cos(
            x.detach(), w.detach(), labels, ignore_index=ignore_index, norm_limit=norm_limit,
            subcenters=subcenters,
        )  # fmt: skip
        _update_ema(ema, c_t, home, valid)
    k = mining.k if isinstance(mining, TopK) else 0
    # The empty sums keep the outputs attached to the graph when every row is ignored.
    attached = x[:0].sum() + w[:0].sum()
    lse = x.new_full((len(x),), -math.inf) + attached
    cos_t = x.new_zeros(len(x)) + attached
    mined_idx = labels.new_full((len(labels), baskets, k), -1)
    mined_cos = x.new_zeros((len(labels), baskets, k))

    reads_others = not (isinstance(mining, Own) or (isinstance(mining, TopK) and mining.k == 0))
    for b in range(baskets):
        rows = torch.nonzero(valid & (home == b)).flatten()
        if len(rows) == 0:
            continue
        first, last = (0, edges[-1]) if reads_others else (edges[b], edges[b + 1])
        # Normalised block by block: outside, the gradient 0 of a NaN row or centre would become 0 * NaN.
        centres = w[first * subcenters : last * subcenters]
        x_hat, w_hat = _normalised(x[rows], norm_limit), _normalised(centres, norm_limit)
        cos = _Cosines.apply(x_hat, w_hat)  # every pair that touches
        cos = _nearest(cos.unflatten(1, (last - first, subcenters)))  # [R, n]
        classes = torch.arange(first, last, device=labels.device)
        target = classes == labels[rows, None]
        mate = _alias_mates(aliases, labels[rows], classes, None if row_alias is None else row_alias[rows])
        own = (classes >= edges[b]) & (classes < edges[b + 1])

        here = torch.nonzero(target.any(dim=1))  # all rows, unless w is a shard
        block_cos_t = cos.new_zeros(len(rows)).index_put((here.flatten(),), cos[target])
        if row_guard is None:
            guard = _row_guard(mining, block_cos_t.detach(), None if ema is None else ema.detach()[b])
        else:
            guard = row_guard[rows]
        broken = cos.detach().isnan().any(dim=1)
        negative = own & ~target & ~mate
        if guard is not None:
            broken = broken | guard.isnan()
        candidate = ~own & ~mate
        if guard is not None:
            candidate = candidate & (cos.detach() <= guard[:, None])
        if isinstance(mining, (All, Below)):
            negative = negative | candidate
        elif isinstance(mining, TopK) and reads_others:
            for other in range(baskets):
                if other == b:
                    continue
                part = slice(edges[other], edges[other + 1])
                chosen, idx, key = _top_k(cos.detach()[:, part], candidate[:, part], mate[:, part], mining)
                negative[:, part] = chosen & mined_in_lse
                idx = torch.where((idx >= 0) & ~broken[:, None], idx + edges[other], -1)
                mined_idx[rows, other] = idx
                mined_cos[rows, other] = torch.where(idx >= 0, key, 0.0)

        logits = scale * cos
        if negative_map is not None:  # elsewhere at 0: the slope at a NaN would become 0 * NaN in backward
            of_rows = (parameter[rows, None] for parameter in negative_map.parameters)
            logits = scale * negative_map.function(torch.where(negative, cos, 0.0), *of_rows)
        row_lse = torch.logsumexp(torch.where(negative, logits, -math.inf), dim=1)
        # NaN through the embedding itself, so that dX is NaN even where no negative carries it.
        # The factor is NaN in broken rows only: 0 * NaN in backward would reach the others.
        poison = torch.where(broken, math.nan, 0.0)
        row_lse = torch.where(broken, x_hat.sum(dim=1) * poison, row_lse)
        lse = lse.index_copy(0, rows, row_lse)
        cos_t = cos_t.index_copy(0, rows, block_cos_t)
    return lse, cos_t, mined_idx, mined_cos


def target_cos(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = -1,
    norm_limit: float = math.inf,
    subcenters: int = 1,
) -> Tensor:
    """c_t [B], the cosine of each row with its target; 0 at ignored rows. Arguments as for `cos_lse`."""
    x, w = _computed(x, w)
    rows = torch.nonzero(labels != ignore_index).flatten()
    centres = w.view(-1, subcenters, w.shape[1])[labels[rows]].flatten(0, 1)
    x_hat, w_hat = _normalised(x[rows], norm_limit), _normalised(centres, norm_limit)
    cos = (x_hat[:, None] * w_hat.view(-1, subcenters, w.shape[1])).sum(dim=2)
    return x.new_zeros(len(x)).index_copy(0, rows, _nearest(cos))


def row_losses(lse: Tensor, psi: Tensor, *, scale: float) -> Tensor:
    """loss_i = log(1 + exp(lse_i - s*psi_i)), [B]: -log softmax of the margin-adjusted target."""
    z = lse - scale * psi
    return torch.logaddexp(torch.zeros_like(z), z)


def basket_softmax(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    margin: Callable[..., Any],
    scale: float,
    mining: Rule,
    aliases: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -1,
    sample_weight: Tensor | None = None,
    ema: Tensor | None = None,
    training: bool = False,
    norm_limit: float = math.inf,
    subcenters: int = 1,
) -> Tensor:
    """The whole loss, densely: arguments as for `cos_lse`, plus

    Args:
        margin: psi = margin(cos_t) or margin(cos_t, ctx).
        reduction: "mean" (sum of w_i*loss_i over sum of w_i, rows not ignored), "sum" or "none" ([B]).
        sample_weight: [B] weights w_i, 1 when None.
    """
    arguments: dict[str, Any] = {
        "scale": scale, "mining": mining, "aliases": aliases, "ignore_index": ignore_index, "ema": ema,
        "norm_limit": norm_limit, "subcenters": subcenters,
    }  # fmt: skip
    lse, cos_t, _, _ = cos_lse(x, w, labels, offsets, training=training, **arguments)
    valid = labels != ignore_index
    with_context = takes_context(margin)
    norms = row_norms(x, valid, cos_t.dtype)
    negatives = negatives_of(margin)
    if negatives is not None:
        mapping = negatives(cos_t.detach(), MarginContext(norms, labels, training, valid))
        lse, *_ = cos_lse(x, w, labels, offsets, negative_map=mapping, **arguments)
    psi = call_margin(margin, with_context, cos_t, x, labels, valid, training, norms)
    weight = torch.ones_like(lse) if sample_weight is None else sample_weight.to(lse.dtype)
    losses = with_penalty(row_losses(lse, psi, scale=scale), margin, norms, labels, valid, training)
    losses = losses[valid] * weight[valid]
    if reduction == "none":
        return torch.zeros_like(lse).index_copy(0, torch.nonzero(valid).flatten(), losses)
    divisor = weight[valid].sum()
    if reduction == "sum":
        return losses.sum()
    return losses.sum() * 0.0 if float(divisor.detach()) == 0.0 else losses.sum() / divisor


def _computed(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Operands in the dtype of the arithmetic: fp64 stays, everything else is fp32."""
    if w.dtype != x.dtype:
        w = _RoundTo.apply(w, x.dtype)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # Contiguous: equal rows of a transposed tensor may be summed in another order and would not tie.
    return x.to(dtype).contiguous(), w.to(dtype).contiguous()


def _normalised(v: Tensor, norm_limit: float) -> Tensor:
    """v / ||v||, with 0 (and gradient 0) below ZERO_NORM, NaN where the squared norm is not finite."""
    square = (v * v).sum(dim=1)
    zero = square < ZERO_NORM**2
    inverse = torch.where(zero, 0.0, torch.where(zero, 1.0, square).rsqrt())
    inverse = torch.where(square.isfinite() & (square <= norm_limit), inverse, math.nan)
    return v * inverse[:, None]


def _nearest(cos: Tensor) -> Tensor:
    """Cosines of classes from those of their sub-centres [..., r]: the largest, NaN if there is one.

    max() passes the gradient to one of them alone, the first where they tie.
    """
    return cos.squeeze(-1) if cos.shape[-1] == 1 else cos.max(dim=-1).values


def _update_ema(ema: Tensor, c_t: Tensor, home: Tensor, valid: Tensor) -> None:
    """The running means [K], in place: the first batch mean, then 0.98 old + 0.02 new; +inf is "never seen"."""
    for b in range(len(ema)):
        batch = c_t[valid & (home == b) & c_t.isfinite()]
        if len(batch):
            mean, old = batch.mean(), ema[b].clone()
            ema[b] = mean if old.isposinf() else EMA_DECAY * old + (1.0 - EMA_DECAY) * mean


def _row_guard(mining: Rule, c_t: Tensor, mean: Tensor | None) -> Tensor | None:
    """g_i [R] of rows of one basket, `mean` its running mean; None without a guard."""
    guard = mining.guard if isinstance(mining, (Below, TopK)) else None
    if guard is None:
        return None
    if isinstance(guard, Absolute):
        return torch.full_like(c_t, guard.t)
    if isinstance(guard, Relative):
        return c_t - guard.d
    if mean is None:
        raise ValueError("ema: an Ema guard needs the running means [K], got None")
    return (guard.r * mean).to(c_t.dtype).expand_as(c_t)


def _alias_mates(
    aliases: Tensor | None, targets: Tensor, classes: Tensor, row_alias: Tensor | None = None
) -> Tensor:
    """[R, n]: classes known to be the identity of the row (the target itself included)."""
    if aliases is None:
        return torch.zeros((len(targets), len(classes)), dtype=torch.bool, device=targets.device)
    if row_alias is None:
        row_alias = torch.full_like(targets, -1)
        row_alias[targets >= 0] = aliases[targets[targets >= 0]]
    mine = row_alias[:, None]
    return (mine >= 0) & (aliases[classes] == mine)


def _top_k(cos: Tensor, candidate: Tensor, mate: Tensor, mining: TopK) -> tuple[Tensor, Tensor, Tensor]:
    """Of one basket [R, n]: which are mined, and their local indices and cosines [R, k] in key order."""
    rows, size = cos.shape
    if size == 0:
        none = cos.new_zeros((rows, mining.k))
        return candidate, torch.full_like(none, -1, dtype=torch.int64), none
    ranked, order = torch.where(candidate, cos, -math.inf).sort(dim=1, descending=True, stable=True)
    skip = (mining.skip - mate.sum(dim=1)).clamp_min(0)[:, None]
    count = candidate.sum(dim=1)[:, None]
    rank = torch.arange(size, device=cos.device)
    kept = (rank >= skip) & (rank < skip + mining.k) & (rank < count)
    chosen = torch.zeros_like(candidate).scatter(1, order, kept)
    place = skip + torch.arange(mining.k, device=cos.device)
    exists = place < count
    place = place.clamp_max(size - 1)
    idx = torch.where(exists, order.gather(1, place), -1)
    return chosen, idx, torch.where(exists, ranked.gather(1, place), 0.0)


def _check_labels(labels: Tensor, valid: Tensor, classes: int) -> None:
    wrong = labels[valid & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise ValueError(f"labels: {int(wrong[0])} is out of range [0, {classes})")


class _Cosines(torch.autograd.Function):
    """x_hat @ w_hat.T, each element summed by itself.

    A matrix product may sum two equal columns differently, depending on where they lie, and exact
    duplicates would no longer tie.
    """

    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, w_hat: Tensor) -> Tensor:
        ctx.save_for_backward(x_hat, w_hat)
        out = x_hat.new_empty((len(x_hat), len(w_hat)))
        for i, row in enumerate(x_hat):
            torch.sum(w_hat * row, dim=1, out=out[i])
        return out + 0.0

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x_hat, w_hat = ctx.saved_tensors
        return grads[0] @ w_hat, grads[0].t() @ x_hat


class _RoundTo(torch.autograd.Function):
    """Values rounded to a 16-bit dtype; the gradient passes in the operand's own dtype, unrounded."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, dtype: torch.dtype) -> Tensor:
        return v.to(dtype).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
