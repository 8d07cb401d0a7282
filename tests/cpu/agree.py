"""Comparisons with the fp64 oracle: values within the tolerance table, mined classes equal except for near-ties.

Whether a class is mined can hang on the last bit of a cosine, and then the whole row differs. `settle` finds rows
that hang on less than the tolerance and takes them out of the problem, so that the rest can be compared tightly;
exact ties (bit-equal centres, zero rows) stay in, since there every backend must decide alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbs_kernels import reference
from bbs_kernels.rules import Absolute, All, Below, Relative, TopK
from support.tolerances import (
    COSINE,
    FP64_OVER_FP32,
    GRADIENT_PER_SCALE,
    LOSS_RELATIVE,
    PRECISION,
    ROUNDING,
    TABLE,
    TIMES_EAGER,
    loss_bound,
    precision_of,
    relative_l2,
)

from .problem import F32_MAX, Problem


def centre_cosines(problem: Problem) -> Tensor:
    """[B, C, r] in fp64, through the oracle's own normalisation."""
    x, w = problem.exact_operands()
    limit = F32_MAX if problem.x.dtype != torch.float64 else float("inf")
    x_hat, w_hat = reference._normalised(x, limit), reference._normalised(w, limit)
    return reference._Cosines.apply(x_hat, w_hat).unflatten(1, (problem.num_classes, problem.subcenters))


def cosines(problem: Problem) -> Tensor:
    """[B, C]: those of the nearest centres."""
    return reference._nearest(centre_cosines(problem))


def same_centres(problem: Problem) -> Tensor:
    """[C, r] int64, equal for bit-equal centres and for those without a norm."""
    w = problem.exact_operands()[1]
    zero = w.square().sum(1) < 1e-24
    ids = torch.unique(torch.where(zero[:, None], 0.0, w), dim=0, return_inverse=True)[1]
    return ids.unflatten(0, (problem.num_classes, problem.subcenters))


def settle_centres(problem: Problem) -> Problem:
    """`problem` with those rows ignored of which the nearest centre of a class hangs on less than the tolerance.

    Equal centres stay: the first of them is the nearest, on every backend.
    """
    cos, same = centre_cosines(problem), same_centres(problem).expand(len(problem.labels), -1, -1)
    other = same != same.gather(2, cos.argmax(dim=2, keepdim=True))
    runner_up = torch.where(other, cos, -torch.inf).amax(2)
    near = cos.amax(2) - runner_up < 3 * COSINE[precision_of(problem.x.dtype)]
    near &= (problem.exact_operands()[0].square().sum(1) >= 1e-24)[:, None]
    return problem.replace(labels=torch.where(near.any(1), problem.ignore_index, problem.labels))


def result_dtype(problem: Problem) -> torch.dtype:
    return torch.float64 if problem.x.dtype == torch.float64 else torch.float32


def settle(problem: Problem) -> Problem:
    """`problem` with those rows ignored whose selection hangs on less than the tolerance."""
    if not isinstance(problem.mining, (Below, TopK)) or not len(problem.labels):
        return problem
    tolerance = 3 * COSINE[precision_of(problem.x.dtype)]
    cos = cosines(problem)
    x = problem.exact_operands()[0]
    # Classes of the same centres tie exactly; with several centres a class may also tie by one of them, and the row
    # is then left out.
    same = torch.unique(same_centres(problem), dim=0, return_inverse=True)[1]
    edges = problem.offsets.tolist()
    labels = problem.labels.clone()
    for i, label in enumerate(problem.labels.tolist()):
        if label == problem.ignore_index or float(x[i].square().sum()) < 1e-24:
            continue
        home = int(torch.searchsorted(problem.offsets, label, right=True)) - 1
        guard = _guard(problem, cos[i], label, home)
        mate = torch.zeros(problem.num_classes, dtype=torch.bool)
        if problem.aliases is not None and problem.aliases[label] >= 0:
            mate = problem.aliases == problem.aliases[label]
        for b in range(len(edges) - 1):
            part = slice(edges[b], edges[b + 1])
            if b == home or edges[b] == edges[b + 1]:
                continue
            c = cos[i, part][~mate[part]]
            ids = same[part][~mate[part]]
            if guard is not None:
                near = (c - guard).abs() < tolerance
                tied = (ids == same[label]) & (guard == cos[i, label])
                if (near & ~tied).any():
                    labels[i] = problem.ignore_index
                c, ids = c[c <= guard], ids[c <= guard]
            if isinstance(problem.mining, TopK):
                order = c.argsort(descending=True, stable=True)
                skip = max(problem.mining.skip - int(mate[part].sum()), 0)
                for cut in (skip, skip + problem.mining.k):
                    if 0 < cut < len(c):
                        inside, outside = order[cut - 1], order[cut]
                        if c[inside] - c[outside] < tolerance and ids[inside] != ids[outside]:
                            labels[i] = problem.ignore_index
    return problem.replace(labels=labels)


def negatives(problem: Problem) -> Tensor:
    """[B, C] bool: N_i, from the definition, for the eager baseline; ignored rows have none."""
    classes, labels = torch.arange(problem.num_classes), problem.labels.clamp_min(0)
    basket = torch.searchsorted(problem.offsets, classes, right=True) - 1
    own = basket[labels][:, None] == basket
    target = labels[:, None] == classes
    mate = torch.zeros_like(own)
    if problem.aliases is not None:
        mine = problem.aliases[labels][:, None]
        mate = (mine >= 0) & (problem.aliases == mine)
    mined = torch.zeros_like(own)
    if isinstance(problem.mining, All):
        mined = ~own
    elif isinstance(problem.mining, Below):
        cos = cosines(problem)
        guard = [
            _guard(problem, cos[i], label, int(basket[label])) for i, label in enumerate(labels.tolist())
        ]
        mined = ~own & (cos <= torch.tensor([float(g) for g in guard]).double()[:, None])
    elif isinstance(problem.mining, TopK):
        idx = problem.oracle()[2].flatten(1)
        padded = torch.zeros(len(labels), problem.num_classes + 1, dtype=torch.bool)
        mined = padded.scatter(1, torch.where(idx < 0, problem.num_classes, idx), True)[:, :-1]
    return ((own & ~target) | mined) & ~mate & problem.valid[:, None]


def _guard(problem: Problem, cos: Tensor, label: int, home: int) -> float | Tensor | None:
    guard = problem.mining.guard  # type: ignore[union-attr]
    if guard is None:
        return None
    if isinstance(guard, Absolute):
        return guard.t
    if isinstance(guard, Relative):
        return cos[label] - guard.d
    return guard.r * problem.ema[home].double()  # type: ignore[index]


def check_close(name: str, got: Tensor, want: Tensor, bound: Tensor | float) -> None:
    """|got - want| <= bound, NaN in the same places."""
    assert torch.equal(got.isnan(), want.isnan()), f"{name}: NaN in other places"
    excess = ((got.double() - want).abs() - bound).nan_to_num(0.0)
    assert (excess <= 0).all(), f"{name}: off by {excess.max():.3g} beyond the tolerance"


def check_losses(
    problem: Problem, lse: Tensor, cos_t: Tensor, want_lse: Tensor, want_cos_t: Tensor, margin: float = 0.2
) -> None:
    """loss = softplus(lse - s * (cos_t - margin)) within `loss_bound`."""
    s = problem.scale
    got = _softplus((lse - s * (cos_t - margin)).double())
    want = _softplus(want_lse - s * (want_cos_t - margin))
    finite = want.isfinite() & problem.valid
    bound = loss_bound(want, s) * (FP64_OVER_FP32 if lse.dtype == torch.float64 else 1.0)
    excess = ((got - want).abs() - bound)[finite]
    assert (excess <= 0).all(), f"loss off by {excess.max():.3g} beyond the tolerance"
    assert torch.equal(got.isnan(), want.isnan())


def _softplus(z: Tensor) -> Tensor:
    return torch.logaddexp(torch.zeros_like(z), z)


def check_forward(problem: Problem, got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    """lse, cos_t, mined_idx, mined_cos of a settled problem against the oracle's."""
    lse, cos_t, mined_idx, mined_cos = got
    want_lse, want_cos_t, want_idx, want_cos = want
    dtype = result_dtype(problem)
    precision = precision_of(dtype)
    tolerance = COSINE[precision]
    assert lse.dtype == cos_t.dtype == mined_cos.dtype == dtype
    assert mined_idx.dtype == torch.int64
    assert mined_idx.shape == want_idx.shape == mined_cos.shape
    relative = LOSS_RELATIVE if precision == "fp32" else COSINE["fp64"]
    ulps = relative * want_lse.abs().clamp_min(1.0)
    assert torch.equal(lse.isinf(), want_lse.isinf())
    finite = want_lse.isfinite()
    check_close("lse", lse[finite], want_lse[finite], (ulps + problem.scale * tolerance)[finite])
    check_close("cos_t", cos_t, want_cos_t, tolerance)
    check_losses(problem, lse, cos_t, want_lse, want_cos_t)
    check_mined(problem, mined_idx, mined_cos, want_idx, want_cos, tolerance)


def check_mined(
    problem: Problem, idx: Tensor, cos: Tensor, want_idx: Tensor, want_cos: Tensor, tolerance: float
) -> None:
    """Values equal in key order; indices may differ only where the cosines differ by less than the tolerance."""
    assert torch.equal(idx < 0, want_idx < 0)
    assert (cos[idx < 0] == 0).all()
    check_close("mined_cos", cos, want_cos, tolerance)
    truth = cosines(problem)
    for i, b, n in torch.nonzero(idx != want_idx).tolist():
        assert abs(truth[i, idx[i, b, n]] - truth[i, want_idx[i, b, n]]) <= 2 * tolerance, (i, b, n)
    if idx.shape[2] > 1:  # key order: larger cosine first, then smaller class index
        first, second = idx[..., :-1], idx[..., 1:]
        listed = second >= 0
        falling = (cos[..., :-1] > cos[..., 1:]) | ((cos[..., :-1] == cos[..., 1:]) & (first < second))
        assert falling[listed].all()
    for row in idx.flatten(1):
        listed = row[row >= 0]
        assert len(listed.unique()) == len(listed)


def gradient_floors(problem: Problem, u: Tensor, t: Tensor) -> tuple[float, float]:
    """Norms of dX and dW before the component along the vector is taken out: what their rounding scales with.

    With D = 1, or c_t = 1 and no negatives, the true gradient is 0 and only the rounding of this is left.
    """
    x, w = problem.exact_operands()
    valid = problem.valid
    cos, lse = cosines(problem)[valid], problem.oracle()[0][valid]
    d_cos = (
        u.double()[valid, None].abs()
        * problem.scale
        * (problem.scale * cos - lse[:, None]).clamp_max(0.0).exp()
    )
    d_cos = d_cos.nan_to_num(0.0)
    d_cos[torch.arange(len(d_cos)), problem.labels[valid]] += t.double()[valid].abs()
    centre = centre_cosines(problem)[valid]
    of_nearest = torch.zeros_like(centre).scatter(2, centre.argmax(2, keepdim=True), d_cos[..., None])
    per_row, per_centre = d_cos.sum(1), of_nearest.sum(0).flatten()
    norms = x[valid].norm(dim=1), w.norm(dim=1)
    inverse = [torch.where(n < 1e-12, 0.0, 1 / n).nan_to_num(0.0) for n in norms]
    return float((per_row * inverse[0]).norm()), float((per_centre * inverse[1]).norm())


def check_gradient(
    name: str, got: Tensor, want: Tensor, eager: Tensor, scale: float, floor: float = 0.0
) -> None:
    """Relative L2 within the table's bound for fp32, plus one rounding to a 16-bit gradient's dtype.

    `GRADIENT_PER_SCALE` besides, the rounding of a cosine in the exponent: a few rows decide the error of a small
    problem, and eager may have been lucky with them. test_numerics.py has the bound without it, over many problems.
    """
    nan = f"{name}: NaN in {int(got.isnan().sum())} places, not {int(want.isnan().sum())}"
    assert torch.equal(got.isnan(), want.isnan()), nan
    if got.dtype == torch.float64:
        bound, floor = TABLE["fp64"].floor, 1e-14 * floor
    else:
        yardstick = TIMES_EAGER * relative_l2(eager, want)
        bound = max(TABLE["fp32"].floor, GRADIENT_PER_SCALE * scale, yardstick)
        floor = GRADIENT_PER_SCALE * floor
    bound += ROUNDING[PRECISION[got.dtype]]
    if got.dtype == torch.float16:
        floor += 2**-25 * want.numel() ** 0.5  # fp16 has subnormals
    error, norm = float((got.double() - want).nan_to_num(0.0).norm()), float(want.nan_to_num(0.0).norm())
    assert error <= bound * norm + floor, (
        f"{name}: off by {error:.3g} of {norm:.3g}, bound {bound * norm + floor:.3g}"
    )


def check_backward(problem: Problem, u: Tensor, t: Tensor, wrt: str = "xw") -> None:
    """dX and dW of a settled problem, as far as `wrt` asks for them, for upstream gradients of lse and cos_t."""
    got, want = problem.kernel_gradients(u, t, wrt), problem.oracle_gradients(u, t)
    eager, floors = problem.eager_gradients(u, t, negatives(problem)), gradient_floors(problem, u, t)
    for i, (name, like) in enumerate((("x", problem.x), ("w", problem.w))):
        if name not in wrt:
            assert got[i] is None
            continue
        assert got[i].dtype == like.dtype
        assert got[i].shape == like.shape
        check_gradient(f"d{name}", got[i], want[i], eager[i], problem.scale, floors[i])
    if "x" in wrt:
        assert (got[0][~problem.valid] == 0).all()
