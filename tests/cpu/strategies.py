"""Hypothesis strategies for whole problems: shapes, dtypes, rules, guards, layouts and planted trouble."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK

from .problem import Problem, make

DTYPES = {
    "fp64": (torch.float64, torch.float64),
    "fp32": (torch.float32, torch.float32),
    "fp16": (torch.float16, torch.float16),
    "bf16": (torch.bfloat16, torch.bfloat16),
    "fp16-fp32": (torch.float16, torch.float32),
    "bf16-fp32": (torch.bfloat16, torch.float32),
}
SIZES = (1, 2, 3, 5, 16, 31, 47, 48, 49, 97, 111)


def guards() -> st.SearchStrategy:
    values = st.sampled_from([-0.5, 0.0, 0.1, 0.3, 0.7])
    return st.one_of(values.map(Absolute), values.map(Relative), st.sampled_from([0.5, 1.0]).map(Ema))


@st.composite
def rules(draw):
    """TopK in most examples, since most can go wrong there."""
    kind = draw(st.sampled_from(["topk", "guarded", "below", "topk", "guarded", "all", "topk", "own"]))
    if kind in ("topk", "guarded"):
        k, skip = draw(st.sampled_from([5, 1, 2, 0, 31, 64, 125])), draw(st.sampled_from([1, 0, 2, 3]))
        return TopK(k, skip, draw(guards()) if kind == "guarded" else None)
    return {"all": All(), "own": Own()}.get(kind) or Below(draw(guards()))


def layout(t: torch.Tensor, kind: str) -> torch.Tensor:
    """The same values with other strides."""
    rows, cols = t.shape
    if kind == "transposed":
        return t.t().contiguous().t()
    if kind == "padded":
        return torch.nn.functional.pad(t, (2, 3), value=float("nan"))[:, 2 : 2 + cols]
    if kind == "every second column":
        wide = t.new_full((rows, 2 * cols), float("nan"))
        wide[:, ::2] = t
        return wide[:, ::2]
    if kind == "every second row":
        tall = t.new_full((2 * rows, cols), float("nan"))
        tall[::2] = t
        return tall[::2]
    if kind == "transposed slice":
        return torch.nn.functional.pad(t.t(), (1, 2), value=float("nan"))[:, 1 : 1 + rows].t()
    return t.contiguous()


LAYOUTS = (
    "contiguous",
    "transposed",
    "padded",
    "every second column",
    "every second row",
    "transposed slice",
)


@st.composite
def problems(draw, dtypes: tuple[str, ...] = tuple(DTYPES), subcenters: tuple[int, ...] = (1,)) -> Problem:
    centres = draw(st.sampled_from(subcenters))
    dtype, w_dtype = DTYPES[draw(st.sampled_from(dtypes))]
    sizes = draw(st.lists(st.sampled_from((0, *SIZES)), min_size=1, max_size=5))
    if draw(st.integers(0, 9)) == 0:
        sizes[0] = 450  # more than one chunk of classes
    if sum(sizes) == 0:
        sizes[-1] = 1
    problem = make(
        rows=draw(st.sampled_from([17, 1, 2, 5, 15, 16, 33, 70])),
        depth=draw(st.sampled_from([17, 31, 1, 2, 3, 8, 15, 16, 64, 65, 97])),
        sizes=tuple(sizes),
        dtype=dtype,
        w_dtype=w_dtype,
        seed=draw(st.integers(0, 2**20)),
        noise=draw(st.sampled_from([0.0, 0.3, 0.7, 2.0])),
        spread=draw(st.sampled_from([0.0, 0.5])),
        copies=draw(st.sampled_from([0.0, 0.1, 0.4])),
        ignored=draw(st.sampled_from([0.0, 0.2, 1.0])),
        mates=draw(st.booleans()),
        subcenters=centres,
        mining=draw(rules()),
        scale=draw(st.sampled_from([1.0, 16.0, 30.1, 64.0, 128.0])),
        ignore_index=-1,
    )
    if draw(st.integers(0, 4)) == 0:
        problem.x[0] = 0.0
        problem.w[draw(st.integers(0, len(problem.w) - 1))] = 0.0
    ema = torch.linspace(
        -0.2, 0.9, len(sizes), dtype=torch.float64 if dtype == torch.float64 else torch.float32
    )
    x_layout, w_layout = draw(st.sampled_from(LAYOUTS)), draw(st.sampled_from(LAYOUTS))
    return problem.replace(x=layout(problem.x, x_layout), w=layout(problem.w, w_layout), ema=ema)
