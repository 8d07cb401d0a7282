"""`BasketSoftmaxLoss` forward and backward through autograd against the fp64 reference: every two of these factors meet
in some case."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from support.pairwise import pairwise

from .steps import LAYOUTS, step

pytestmark = pytest.mark.emulated

RULES = {
    "all": bs.All(),
    "own": bs.Own(),
    "below": bs.Below(bs.Absolute(0.3)),
    "top-k": bs.TopK(2, 2, bs.Relative(0.1)),
    "top-k ema": bs.TopK(4, 0, bs.Ema(1.0)),
    "top-0": bs.TopK(0, 1),
}
MORE_GUARDS = [
    bs.Below(bs.Relative(0.1)), bs.Below(bs.Ema(0.9)), bs.TopK(5, 1), bs.TopK(3, 0, bs.Absolute(0.4)),
]  # fmt: skip


class Callable(torch.nn.Module):
    """A margin that only Python knows, with the embeddings' norms."""

    def forward(self, cos_t: Tensor, ctx: bs.MarginContext) -> Tensor:
        return cos_t - 0.1 * torch.tanh(ctx.norms)


MARGINS = {
    "arcface": bs.ArcFace(0.3),
    "cosface": bs.CosFace(0.2),
    "combined": bs.CombinedMargin(1.0, 0.2, 0.1),
    "sphereface": bs.SphereFace(1.3),
    "callable": Callable(),
}
TYPES = {  # precision, and whether fp32 centres meet 16-bit embeddings
    "fp32": ("fp32", False),
    "tf32": ("tf32", False),
    "fp16": ("fp16", False),
    "fp16 fp32w": ("fp16", True),
    "bf16": ("bf16", False),
    "bf16 fp32w": ("bf16", True),
}
FACTORS = {
    "mining": tuple(RULES),
    "types": tuple(TYPES),
    "margin": tuple(MARGINS),
    "layout": tuple(LAYOUTS),
    "streaming": (False, True),
    "runs": ("one", "several"),
    "subcenters": (1, 3),
    "mates": (False, True),
    "rows": (1, 31, 37),
    "seed": (0, 1),
}
CASES = pairwise(FACTORS)


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(value).replace(" ", "_") for value in case.values())


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_against_the_reference(case: dict[str, Any], gpu) -> None:
    precision, wide_w = TYPES[case["types"]]
    # A single row ties with an Ema guard, which is then its own cosine: 16 bits decide that otherwise than fp64.
    rows = case["rows"] if precision in ("fp32", "tf32") else max(case["rows"], 3)
    one = step(
        RULES[case["mining"]], precision=precision, wide_w=wide_w, layout=case["layout"], rows=rows,
        subcenters=case["subcenters"], mates=case["mates"], margin=MARGINS[case["margin"]],
        workspace_bytes=0 if case["runs"] == "several" else 1 << 20, seed=case["seed"],
        ignored=0.0 if rows <= 3 else 0.16,
        sizes=(300, 17, 1, 0, 48) if case["runs"] == "several" and case["subcenters"] == 1 else (31, 17, 1, 0, 48),
    )  # fmt: skip
    one.check(gpu, seed=case["seed"], streaming=case["streaming"])
    symbols = [launch.symbol for launch in gpu.launches]
    products = [symbol for symbol in symbols if symbol.startswith("bbs_gradient_classes")]
    assert (len(products) > 1) == (case["runs"] == "several")


@pytest.mark.parametrize("mining", MORE_GUARDS, ids=str)
def test_the_other_guards(mining, gpu) -> None:
    step(mining, mates=True).check(gpu)


def test_every_two_values_meet() -> None:
    met = defaultdict(set)
    for case in CASES:
        for a in FACTORS:
            for b in FACTORS:
                met[a, b].add((case[a], case[b]))
    for (a, b), pairs in met.items():
        if a != b:
            assert len(pairs) == len(FACTORS[a]) * len(FACTORS[b])


@pytest.mark.parametrize("rows", [97, 130])
def test_a_resident_x_of_several_tiles(rows: int, gpu) -> None:
    """Two blocks of rows, and several tiles along D."""
    one = step(bs.TopK(3, 1), precision="bf16", rows=rows, depth=136)
    one.check(gpu)
    assert any("resident" in launch.symbol for launch in gpu.launches)


@pytest.mark.parametrize("arch", [80, 90, 120])
def test_other_architectures(arch: int) -> None:
    from support.emulated_gpu import EmulatedGpu

    step(bs.TopK(3, 1), precision="tf32").check(EmulatedGpu(arch, multiprocessors=3))
