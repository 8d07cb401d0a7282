"""The forward pass of one problem, densely in fp64 NumPy: what the kernels are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RULES = {"all": 0, "own": 1, "below": 2, "topk": 3}
GUARDS = {"none": 0, "absolute": 1, "relative": 2, "rows": 3}


@dataclass
class Problem:
    """x [B, D] and w [C * subcenters, D] are what is multiplied, in fp64 (already rounded to the operand type)."""

    x: np.ndarray
    w: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    rule: str = "topk"
    k: int = 0
    skip: int = 0
    scale: float = 32.0
    guard: str = "none"
    guard_value: float = 0.0
    guard_rows: np.ndarray | None = None
    aliases: np.ndarray | None = None
    ignore_index: int = -1
    # Of a shard, which the oracle does not know: test_shards.py puts shards together and compares the whole.
    row_basket: np.ndarray | None = None
    row_alias: np.ndarray | None = None
    mined_in_lse: bool = True
    subcenters: int = 1

    @property
    def classes(self) -> int:
        return len(self.w) // self.subcenters

    @property
    def baskets(self) -> int:
        return len(self.offsets) - 1


@dataclass
class Result:
    lse: np.ndarray
    cos_t: np.ndarray
    mined_idx: np.ndarray
    mined_cos: np.ndarray


def centre_cosines(p: Problem) -> np.ndarray:
    """[B, C, subcenters]; NaN where a squared norm overflows fp32, 0 where a norm is below 1e-12."""

    def inverse(v: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            n2 = (v * v).sum(1)
            n2 = np.where(n2 > np.finfo(np.float32).max, np.inf, n2)
            return np.where(
                np.isfinite(n2), np.where(n2 < 1e-24, 0.0, 1 / np.sqrt(np.where(n2 == 0, 1, n2))), np.nan
            )

    with np.errstate(all="ignore"):
        xi, wi = inverse(p.x), inverse(p.w)
        x = np.where(np.isnan(xi)[:, None], 0, p.x)
        w = np.where(np.isnan(wi)[:, None], 0, p.w)
        cos = (x @ w.T) * xi[:, None] * wi[None, :] + 0.0
    return cos.reshape(len(cos), p.classes, p.subcenters)


def cosines(p: Problem) -> np.ndarray:
    """[B, C], of the nearest centres; NaN if one of the class's is."""
    return centre_cosines(p).max(2)


def nearest(p: Problem) -> np.ndarray:
    """[B, C]: the row of w that is the nearest centre of each class."""
    return centre_cosines(p).argmax(2) + np.arange(p.classes) * p.subcenters


def negatives(p: Problem, cos: np.ndarray, i: int, basket: int, guard: float) -> np.ndarray:
    """Candidates of row i in a basket, as a mask over its classes: the exclusions and, elsewhere, the guard applied."""
    first, last = p.offsets[basket], p.offsets[basket + 1]
    classes = np.arange(first, last)
    label = p.labels[i]
    ok = classes != label
    if p.aliases is not None and p.aliases[label] >= 0:
        ok &= p.aliases[first:last] != p.aliases[label]
    if not first <= label < last:
        ok &= cos[i, first:last] <= guard
    return ok


def forward(p: Problem) -> Result:
    rows, k = len(p.labels), p.k if p.rule == "topk" else 0
    cos = cosines(p)
    out = Result(
        np.full(rows, -np.inf), np.zeros(rows),
        np.full((rows, p.baskets, k), -1, np.int64), np.zeros((rows, p.baskets, k)),
    )  # fmt: skip
    reads = p.rule in ("all", "below") or k > 0
    for i, label in enumerate(p.labels):
        if label == p.ignore_index:
            continue
        if not 0 <= label < p.classes:
            out.lse[i] = out.cos_t[i] = np.nan
            continue
        own = int(np.searchsorted(p.offsets, label, side="right")) - 1
        out.cos_t[i] = c_t = cos[i, label]
        guard = {
            "none": np.inf, "absolute": p.guard_value, "relative": c_t - p.guard_value,
            "rows": None if p.guard_rows is None else p.guard_rows[i],
        }[p.guard]  # fmt: skip
        touched = cos[i] if reads else cos[i, p.offsets[own] : p.offsets[own + 1]]
        if np.isnan(touched).any() or np.isnan(guard):
            out.lse[i] = np.nan
            continue
        values = []
        for b in range(p.baskets):
            first = p.offsets[b]
            local = cos[i, first : p.offsets[b + 1]]
            ok = negatives(p, cos, i, b, guard)
            if b == own or p.rule in ("all", "below"):
                values.append(local[ok])
            elif k > 0:
                skip = p.skip
                if p.aliases is not None and p.aliases[label] >= 0:
                    skip = max(0, skip - int((p.aliases[first : p.offsets[b + 1]] == p.aliases[label]).sum()))
                order = np.flatnonzero(ok)
                order = order[np.argsort(-local[order], kind="stable")][skip : skip + k]
                out.mined_idx[i, b, : len(order)] = order + first
                out.mined_cos[i, b, : len(order)] = local[order]
                values.append(local[order])
        z = p.scale * np.concatenate(values) if values else np.zeros(0)
        if len(z):
            out.lse[i] = z.max() + np.log(np.exp(z - z.max()).sum())
    return out
