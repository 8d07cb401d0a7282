"""The backward pass of one problem, densely in fp64 NumPy: what the kernels are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from oracle import Problem, Result, cosines, forward, nearest, negatives


@dataclass
class Gradients:
    """Rows that are NaN are so in dx and left out of dw; `touched` says which classes they touch. `dx_terms` and
    `dw_terms`: root of the sum of squares of each entry's terms, which the rounding of the operands scales with."""

    dx: np.ndarray
    dw: np.ndarray
    touched: np.ndarray
    dx_terms: np.ndarray
    dw_terms: np.ndarray


def inverse_norms(v: np.ndarray) -> np.ndarray:
    """0 below 1e-12 and where the squared norm overflows fp32: nothing is to be made of such a vector."""
    with np.errstate(all="ignore"):
        n2 = (v * v).sum(1)
        good = (n2 >= 1e-24) & (n2 <= np.finfo(np.float32).max)
        return np.where(good, 1 / np.sqrt(np.where(good, n2, 1)), 0.0)


def unit(v: np.ndarray) -> np.ndarray:
    inverse = inverse_norms(v)
    return np.where(inverse[:, None] > 0, v, 0) * inverse[:, None]


def coefficients(p: Problem, out: Result, u: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dL/dc [B, C] of the rows that are not NaN, and which pairs a NaN row touches."""
    cos = cosines(p)
    dcos, nan = np.zeros_like(cos), np.zeros(cos.shape, bool)
    reads = p.rule in ("all", "below") or (p.rule == "topk" and p.k > 0)
    for i, label in enumerate(p.labels):
        if not 0 <= label < p.classes:
            continue
        own = int(np.searchsorted(p.offsets, label, side="right")) - 1
        if np.isnan(out.lse[i]):
            nan[i, slice(None) if reads else slice(*p.offsets[own : own + 2])] = True
            continue
        guard = {
            "none": np.inf, "absolute": p.guard_value, "relative": out.cos_t[i] - p.guard_value,
            "rows": None if p.guard_rows is None else p.guard_rows[i],
        }[p.guard]  # fmt: skip
        chosen = np.zeros(p.classes, bool)
        for b in range(p.baskets):
            if b == own or p.rule in ("all", "below"):
                chosen[p.offsets[b] : p.offsets[b + 1]] = negatives(p, cos, i, b, guard)
        mined = out.mined_idx[i]
        chosen[mined[mined >= 0]] = True
        dcos[i, chosen] = u[i] * p.scale * np.exp(p.scale * cos[i, chosen] - out.lse[i])
        dcos[i, label] = t[i]
    return dcos, nan


def gradients(p: Problem, u: np.ndarray, t: np.ndarray, out: Result | None = None) -> Gradients:
    out = out or forward(p)
    of_classes, nan = coefficients(p, out, u, t)
    x, w = unit(p.x), unit(p.w)
    dcos, cos = np.zeros((2, len(p.x), len(p.w)))
    at = nearest(p)
    np.put_along_axis(dcos, at, of_classes, axis=1)
    np.put_along_axis(cos, at, np.nan_to_num(cosines(p)), axis=1)
    dx = inverse_norms(p.x)[:, None] * (dcos @ w - (dcos * cos).sum(1)[:, None] * x)
    dw = inverse_norms(p.w)[:, None] * (dcos.T @ x - (dcos * cos).sum(0)[:, None] * w)
    dx[np.isnan(out.lse)] = np.nan
    dx_terms = inverse_norms(p.x)[:, None] * np.sqrt(dcos**2 @ w**2)
    dw_terms = inverse_norms(p.w)[:, None] * np.sqrt((dcos**2).T @ x**2)
    return Gradients(dx, dw, nan.any(0).repeat(p.subcenters), dx_terms, dw_terms)
