"""Each barrier and each wait is needed, and the tests would notice its loss: every one is taken out of the compiler's
PTX in turn, and the machine must object, or the result must change. A problem is large enough for every site to
matter: more k-tiles than stages, several tiles a block, and two ranges of them in one row block."""

from __future__ import annotations

import functools

import cases
import numpy as np
import pytest
from backward_executor import Backward
from backward_rows import sort_pairs
from executor import ARCH, Forward
from mutation import SEEDS, SYNC, WARP_SYNC, unnoticed
from test_backward import spread, upstream
from test_forward import TYPES, agree
from test_sort_pairs import random_pairs

from support.chosen import each
from support.emulated_gpu.images import ptx_of, shipped_ptx

pytestmark = pytest.mark.ptx

CHECKS = {"bank": False}
STRICT = {"warp_order": "strict", **CHECKS}  # votes and shuffles order no memory
SWEEPS = {
    "bf16-resident": ("bf16", False),
    "bf16-streaming": ("bf16", True),
    "bf16-w32-streaming": ("bf16-w32", True),
    "fp32-streaming": ("fp32", True),
    "tf32-word-by-word": ("tf32", True),
    "bf16-subcenters": ("bf16", True),
}
FORWARD = [*((variant, "cos_lse_sweep") for variant in SWEEPS), ("bf16-resident", "merge_splits")]
# Two barriers of the sweep order nothing: a warp enters the baskets of the rows that it has just listed, and the last
# products are followed by a barrier already. Without both, ptxas spilled in an element-wise fp32 sweep on sm_90.
KEPT = 2
# With several centres to a class the barrier after the masks orders nothing where there are aliases: these have had one
# since the norms, and the search for the nearest centres has its own before it touches a mask.
KEPT_WITH_CENTRES = 1
PRODUCTS = ("gradient_rows", "gradient_classes")
BACKWARD = [
    *(
        ("bf16", kernel)
        for kernel in ("order_rows", "row_scale", "backward_pairs", "coefficients", *PRODUCTS)
    ),
    ("bf16-wide-columns", "backward_pairs"),
    ("bf16-w32", "coefficients"),
    ("bf16-subcenters", "coefficients"),
    *(("fp32-columns", kernel) for kernel in ("coefficients", "normalize_classes", *PRODUCTS)),
]


def exhaustive_but(chosen: set[tuple[str, str]], cases: list[tuple[str, str]]) -> list:
    return [pytest.param(*c, marks=() if c in chosen else pytest.mark.exhaustive) for c in cases]


def ptx_text(symbol: str) -> str:
    return shipped_ptx(symbol, ARCH) or ptx_of(symbol, f"sm_{ARCH}")


@functools.cache
def forward_call(variant: str, rule: str = "topk") -> Forward:
    kind, streaming = SWEEPS[variant]
    operand, w_bytes = TYPES[kind]
    dim = 160 if operand == "bf16" else 80  # five k-tiles: more than stages
    if variant.endswith("word-by-word"):
        dim -= 1
    centres = 3 if variant.endswith("subcenters") else 1
    sizes = [size // centres for size in (140, 33, 300)]
    lists = {"k": 5, "skip": 1} if rule == "topk" else {}
    p = cases.planted(operand, 30, dim, sizes, rule=rule, **lists, subcenters=centres)
    p = cases.with_aliases(p, 40)
    return Forward(p, operand, w_bytes=w_bytes, streaming=streaming, multiprocessors=1)


@functools.cache
def backward_call(variant: str) -> Backward:
    """The rows of the first basket make dW of five k-tiles; the others need a second range of tiles in a row block."""
    kind, columns = variant.removesuffix("-columns"), variant.endswith("-columns")
    if kind == "bf16-wide":  # a row in two runs
        p = cases.planted("bf16", 5, 1040, [20, 30], rule="topk", k=2, skip=1)
        return Backward(p, "bf16", *upstream(5), transposed=columns, multiprocessors=1)
    centres = 3 if kind.endswith("subcenters") else 1
    operand, w_bytes = TYPES[kind.removesuffix("-subcenters")]
    first = 140 if operand == "bf16" else 70
    sizes = [size // centres for size in (140, 20, 32)]
    p = cases.planted(operand, first + 10, 48, sizes, rule="topk", k=2, skip=1, subcenters=centres)
    p = cases.with_aliases(spread(p, [first, 0, 10]), 40)
    p.x = cases.round_to(operand, p.x)
    return Backward(p, operand, *upstream(first + 10), w_bytes=w_bytes, transposed=columns, multiprocessors=1)


@functools.cache
def unchanged(variant: str) -> tuple[np.ndarray, np.ndarray]:
    return backward_call(variant).run(checks=STRICT)


@each(variant=SWEEPS, seed=SEEDS)
def test_unchanged_forward(variant, seed):
    made = forward_call(variant)
    agree(made.p, made.run(seed=seed, checks=CHECKS))


@pytest.mark.parametrize(
    ("variant", "kernel"), exhaustive_but({("bf16-resident", "merge_splits")}, FORWARD), ids=str
)
def test_forward_needs_every_barrier_and_wait(variant, kernel):
    made = forward_call(variant)
    made.run()
    symbol = made.launched(kernel)[0].symbol

    def attempt(seed: int, text: str) -> None:
        for rule in ("topk", "own"):  # under topk rows need not be asked which tiles they need
            call = forward_call(variant, rule)
            agree(call.p, call.run(seed=seed, mutated={symbol: text}, checks=CHECKS))

    sites, left = unnoticed(ptx_text(symbol), attempt)
    assert sites
    kept = KEPT if kernel == "cos_lse_sweep" else 0
    assert len(left) == kept + KEPT_WITH_CENTRES * variant.endswith("subcenters"), left


@pytest.mark.exhaustive
@pytest.mark.parametrize("variant", sorted({variant for variant, _ in BACKWARD}))
def test_unchanged_backward(variant):
    again = backward_call(variant).run(seed=1, checks=STRICT)
    for got, want in zip(again, unchanged(variant), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("variant", "kernel"), exhaustive_but({("bf16", "order_rows")}, BACKWARD), ids=str)
def test_backward_needs_every_barrier_and_wait(variant, kernel):
    made = backward_call(variant)
    unchanged(variant)
    symbol = made.launched(kernel)[0].symbol

    def attempt(seed: int, text: str) -> None:
        got = made.run(seed=seed, mutated={symbol: text}, checks=STRICT)
        for mine, want in zip(got, unchanged(variant), strict=True):
            np.testing.assert_array_equal(mine, want)

    sites, left = unnoticed(ptx_text(symbol), attempt)
    assert sites
    assert len(left) == KEPT_WITH_CENTRES * variant.endswith("subcenters"), left


@pytest.mark.parametrize(
    ("kernel", "pattern"),
    [
        ("count_digits", SYNC),
        *(
            pytest.param(kernel, pattern, marks=pytest.mark.exhaustive)
            for kernel, pattern in (
                ("scan_digits", SYNC),
                ("scatter_digits", SYNC),
                ("scatter_digits", WARP_SYNC),
            )
        ),
    ],
    ids=["count_digits", "scan_digits", "scatter_digits", "scatter_digits-warps"],
)
def test_sort_needs_every_barrier(kernel, pattern):
    symbol = f"bbs_{kernel}"
    pairs = random_pairs(3000, 300)
    want = pairs[np.argsort(pairs["label"], kind="stable")]

    def attempt(seed: int, text: str) -> None:
        got = sort_pairs(pairs, 300, seed=seed, mutated={symbol: text}, checks=STRICT)
        np.testing.assert_array_equal(got, want)

    sites, left = unnoticed(ptx_text(symbol), attempt, pattern)
    assert sites
    assert left == []
