"""The CUDA forward, executed in the PTX machine, against the fp64 reference."""

from __future__ import annotations

import math

import pytest
import torch

from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, Rule, TopK
from cpu.agree import check_forward, settle
from cpu.problem import Problem, make

from .machine import forward

pytestmark = pytest.mark.ptx
slow = pytest.mark.slow

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
DTYPES = {"fp32": (F32, F32), "tf32": (F32, F32), "bf16": (BF16, BF16), "fp16": (F16, F16), "bf16_fp32w": (BF16, F32),
          "fp16_fp32w": (F16, F32)}  # fmt: skip
RULES: dict[str, Rule] = {
    "own": Own(),
    "all": All(),
    "below_absolute": Below(Absolute(0.3)),
    "below_relative": Below(Relative(0.2)),
    "below_ema": Below(Ema(0.8)),
    "topk": TopK(3, 1),
    "topk_absolute": TopK(5, 0, Absolute(0.2)),
    "topk_relative": TopK(2, 2, Relative(0.1)),
    "topk_64": TopK(64, 1),
    "topk_0": TopK(0, 1),
}
SIZES = (97, 31, 1, 150, 0, 5)  # tiles that end anywhere, an empty basket, baskets smaller than k


def problem_of(dtype: str, rule: str = "topk", **changes: object) -> Problem:
    x, w = DTYPES[dtype]
    fields = {"rows": 37, "depth": 40, "sizes": SIZES, "mining": RULES[rule], **changes}
    if x == F16:  # norms have to fit into the range
        fields.setdefault("spread", 0.3)
    problem = make(dtype=x, w_dtype=w, **fields)  # type: ignore[arg-type]
    if dtype == "tf32":  # operands that the tensor cores' rounding leaves as they are
        problem = problem.replace(x=to_tf32(problem.x), w=to_tf32(problem.w))
    if isinstance(getattr(problem.mining, "guard", None), Ema):
        problem = problem.replace(ema=torch.linspace(0.2, 0.9, len(problem.offsets) - 1))
    return problem


def to_tf32(t: torch.Tensor) -> torch.Tensor:
    return (t.view(torch.int32) & ~0x1FFF).view(torch.float32)


def agrees(problem: Problem, **how: object) -> tuple[torch.Tensor, ...]:
    problem = settle(problem)
    got = forward(problem, **how)  # type: ignore[arg-type]
    check_forward(problem, got, problem.oracle())
    return got


FAST = [("bf16", "topk"), ("fp32", "below_relative"), ("bf16_fp32w", "own")]
ALL = [(d, r) for d in DTYPES for r in RULES if (d, r) not in FAST]


@pytest.mark.parametrize(("dtype", "rule"), FAST + [pytest.param(*c, marks=slow) for c in ALL])
def test_dtype_and_rule(dtype: str, rule: str) -> None:
    agrees(problem_of(dtype, rule), tf32=dtype == "tf32", blocks=1 + len(rule) % 3)


@slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16_fp32w", "tf32"])
def test_schedules(dtype: str, seed: int) -> None:
    """Warps in random order: the results have the bits of the friendly order."""
    problem = settle(problem_of(dtype, seed=seed, mates=True))
    calm, wild = (forward(problem, seed=s, tf32=dtype == "tf32", blocks=2) for s in (0, seed))
    for a, b in zip(calm, wild, strict=True):
        assert torch.equal(a, b)


SHAPES = {
    "one_row": {"rows": 1},
    "two_row_blocks": {"rows": 131, "sizes": (40, 30)},
    "depth_1": {"depth": 1},
    "depth_31": {"depth": 31},
    "depth_97": {"depth": 97, "sizes": (20, 7)},
    "depth_264": {"depth": 264, "sizes": (20, 7)},
    "one_basket": {"sizes": (131,)},
    "one_class": {"sizes": (1,)},
    "many_baskets": {"sizes": (3, 0, 2, 1, 9, 4, 0, 0, 6, 1), "rows": 20},
    "all_ignored": {"ignored": 1.0},
    "plus_minus_one": {"noise": 0.0, "spread": 0.0},
    "aliases": {"mates": True},
}


@slow
@pytest.mark.parametrize("rule", ["all", "topk"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_shape(dtype: str, rule: str, shape: str) -> None:
    agrees(problem_of(dtype, rule, **SHAPES[shape]), blocks=3)


@pytest.mark.parametrize(
    ("dtype", "depth"), [("bf16", 40), *(pytest.param(d, n, marks=slow) for d in DTYPES for n in (33, 40))]
)
def test_transposed_centres(dtype: str, depth: int) -> None:
    """The transpose of a [D, C] parameter; the bits are those of the row-major copy."""
    problem = settle(problem_of(dtype, depth=depth, sizes=(140, 9)))
    strided = problem.replace(w=problem.w.t().contiguous().t())
    tf32 = dtype == "tf32"
    for a, b in zip(agrees(strided, tf32=tf32), forward(problem, tf32=tf32), strict=True):
        assert torch.equal(a, b)


@slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_do_not_depend_on_place_or_splits(dtype: str) -> None:
    problem = settle(problem_of(dtype, sizes=(150, 300)))
    tf32 = dtype == "tf32"
    _, cos_t, idx, cos = forward(problem, tf32=tf32)
    order = torch.randperm(len(problem.labels), generator=torch.Generator().manual_seed(1))
    moved = problem.replace(x=problem.x[order], labels=problem.labels[order])
    for blocks in (1, 4):
        _, cos_t2, idx2, cos2 = forward(moved, tf32=tf32, blocks=blocks)
        assert torch.equal(cos_t[order], cos_t2)
        assert torch.equal(idx[order], idx2)
        assert torch.equal(cos[order], cos2)


@slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_copy_of_the_target_ties_with_it(dtype: str) -> None:
    """c_t comes from another kernel; its bits must be those of the sweep, or a relative guard of 0 would flip."""
    problem = problem_of(dtype, rows=30, sizes=(60, 200), mining=TopK(1, 0), copies=0.0, ignored=0.0)
    labels = torch.arange(30)
    w = problem.w.clone()
    at = 60 + 5 * labels
    w[at] = w[labels]
    x = (
        w[labels].float() + 0.01 * torch.randn(30, w.shape[1], generator=torch.Generator().manual_seed(0))
    ).to(problem.x.dtype)
    tf32 = dtype == "tf32"
    problem = problem.replace(x=to_tf32(x) if tf32 else x, w=w, labels=labels)
    _, cos_t, idx, cos = forward(problem, tf32=tf32, blocks=2)
    same = idx[:, 1, 0] == at
    assert same.sum() > 20
    assert torch.equal(cos[same, 1, 0], cos_t[same])


@pytest.mark.parametrize(
    "order", ["rising", pytest.param("falling", marks=slow), pytest.param("equal", marks=slow)]
)
@pytest.mark.parametrize("k", [5, pytest.param(100, marks=slow)])
def test_queue_overflows(order: str, k: int) -> None:
    """Far more candidates than a queue holds, in the worst order, and all equal: the smaller index wins."""
    count = 900
    angle = torch.linspace(0.2, 1.3, count, dtype=torch.float64)
    angle = {"rising": angle.flip(0), "falling": angle, "equal": torch.full_like(angle, 0.5)}[order]
    w = torch.zeros(count + 3, 8, dtype=torch.float64)
    w[:3, 2] = 1.0
    w[3:, 0], w[3:, 1] = angle.cos(), angle.sin()
    x = torch.zeros(5, 8, dtype=torch.float64)
    x[:, 0] = 2.0
    problem = Problem(x.float(), w.float(), torch.arange(5) % 3, torch.tensor([0, 3, count + 3]), TopK(k, 2))
    agrees(problem)


@slow
@pytest.mark.parametrize("where", ["row", "own_class", "other_class", "guard"])
@pytest.mark.parametrize("rule", ["own", "all", "topk", "below_ema"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite(where: str, rule: str, value: float) -> None:
    problem = settle(problem_of("fp32", rule, ignored=0.0))
    x, w, ema = problem.x.clone(), problem.w.clone(), problem.ema
    if where == "row":
        x[5, 3] = value
    elif where == "own_class":
        w[problem.labels[5], 3] = value
    elif where == "other_class":
        w[120, 0] = value
    elif ema is not None:
        ema = ema.clone()
        ema[0] = math.nan
    problem = problem.replace(x=x, w=w, ema=ema)
    check_forward(problem, forward(problem, blocks=2), problem.oracle())


@slow
def test_zero_huge_and_tiny_norms() -> None:
    problem = problem_of("fp32", "topk", ignored=0.0)
    x, w = problem.x.clone(), problem.w.clone()
    x[0], w[10], w[100:103] = 0.0, 0.0, 0.0
    x[1] *= 1e17
    w[11:20] *= 1e17
    x[2] *= 1e-11 / x[2].norm()
    w[120:125] *= 2e-12 / w[120:125].norm(dim=1, keepdim=True)
    w[125] *= 0.9e-12 / w[125].norm()
    agrees(problem.replace(x=x, w=w))


@pytest.mark.parametrize("label", [-7, 10**6])
def test_label_out_of_range(label: int) -> None:
    """The row is NaN, nothing out of bounds is read, other rows keep their result."""
    problem = settle(problem_of("bf16", "own", rows=9))
    good = forward(problem)
    labels = problem.labels.clone()
    labels[4] = label
    lse, cos_t, _, _ = forward(problem.replace(labels=labels))
    rest = torch.arange(9) != 4
    assert lse[4].isnan()
    assert cos_t[4].isnan()
    assert torch.equal(lse[rest], good[0][rest])
    assert torch.equal(cos_t[rest], good[1][rest])
