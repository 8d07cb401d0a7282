"""Candidates of mining as integers whose order is the rule's: larger cosine first, then smaller class index.

An fp32 cosine and its class are one 64-bit key, as in csrc/common/topk_key.h but for signed compares; an fp64 cosine
needs two words. Keys are distinct, so the order is total: what is selected does not depend on how the classes were
split, and two boundary keys say exactly which classes lie between them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ABSENT = torch.iinfo(torch.int64).min  # below every key
_LOW = 0xFFFFFFFF


def make_keys(cos: Tensor, classes: Tensor) -> Tensor:
    """[…] cosines (not NaN, no -0) and global classes, -1 for none, as keys […, words]."""
    absent = classes < 0
    if cos.dtype == torch.float64:
        bits = cos.contiguous().view(torch.int64)
        words = [torch.where(bits < 0, bits ^ torch.iinfo(torch.int64).max, bits), ~classes]
        return torch.stack([torch.where(absent, ABSENT, word) for word in words], dim=-1)
    bits = cos.contiguous().view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ torch.iinfo(torch.int32).max, bits).to(torch.int64)
    return torch.where(absent, ABSENT, (ordered << 32) | (~classes & _LOW)).unsqueeze(-1)


def read_keys(keys: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The cosines and classes of keys; 0 and -1 where absent."""
    absent = keys[..., 0] == ABSENT
    if dtype == torch.float64:
        ordered, classes = keys[..., 0], ~keys[..., 1]
        bits = torch.where(ordered < 0, ordered ^ torch.iinfo(torch.int64).max, ordered)
        cos = bits.contiguous().view(torch.float64)
    else:
        ordered, classes = (keys[..., 0] >> 32).to(torch.int32), ~keys[..., 0] & _LOW
        bits = torch.where(ordered < 0, ordered ^ torch.iinfo(torch.int32).max, ordered)
        cos = bits.contiguous().view(torch.float32)
    return torch.where(absent, 0.0, cos), torch.where(absent, -1, classes)


def best(keys: Tensor, count: int) -> Tensor:
    """[…, n, words] → the `count` first in order, […, count, words]; absent ones behind them."""
    count = min(count, keys.shape[-2])
    if keys.shape[-1] == 1:
        return keys[..., 0].topk(count, dim=-1, sorted=True).values.unsqueeze(-1)
    order = keys[..., 1].argsort(dim=-1, descending=True, stable=True)
    keys = keys.take_along_dim(order.unsqueeze(-1), dim=-2)
    order = keys[..., 0].argsort(dim=-1, descending=True, stable=True)[..., :count]
    return keys.take_along_dim(order.unsqueeze(-1), dim=-2)


def not_after(a: Tensor, b: Tensor) -> Tensor:
    """[…] bool: key `a` is `b`, or comes before it."""
    if a.shape[-1] == 1:
        return a[..., 0] >= b[..., 0]
    return (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] >= b[..., 1]))


class Selected(NamedTuple):
    """classes, cos [b, K, k], in order, -1 and 0 padded. first, last [b, K, words]: the keys that enclose them."""

    classes: Tensor
    cos: Tensor
    first: Tensor
    last: Tensor


def select(keys: Tensor, skip: Tensor, k: int, most_skipped: int, dtype: torch.dtype) -> Selected:
    """The k candidates after the first `skip` of each (row, basket).

    Args:
        keys: [b, K, n, words], candidates of all shards.
        skip: [b, K] int64, at most `most_skipped`.
        dtype: of the cosines.
    """
    ranked = best(keys, most_skipped + k)
    place = skip[..., None] + torch.arange(k, device=keys.device)
    most = ranked.shape[-2]
    picked = ranked.take_along_dim(place.clamp_max(most - 1).unsqueeze(-1), dim=-2)
    picked = torch.where((place < most).unsqueeze(-1), picked, ABSENT)
    count = (picked[..., 0] != ABSENT).sum(-1, keepdim=True)
    last = picked.take_along_dim((count - 1).clamp_min(0).unsqueeze(-1), dim=-2)[..., 0, :]
    # With nothing selected `first` is ABSENT, and no key comes as early as this `last`.
    last = torch.where(count > 0, last, torch.iinfo(torch.int64).max)
    cos, classes = read_keys(picked, dtype)
    return Selected(classes, cos, picked[..., 0, :], last)


def between(keys: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """[B, K, n] bool: which of keys [B, K, n, words] lie in first … last [B, K, words]."""
    return not_after(first.unsqueeze(-2), keys) & not_after(keys, last.unsqueeze(-2))
