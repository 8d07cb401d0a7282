"""One step of several ranks is the step of one process: every rule, both shardings, ragged batches, worlds 1 to 4."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from dist.heads import Case

pytestmark = pytest.mark.dist

RULES = [
    bs.All(), bs.Own(), bs.TopK(5, 1), bs.TopK(3, 2, bs.Absolute(0.2)), bs.TopK(4, 1, bs.Relative(0.1)),
    bs.TopK(4, 1, bs.Ema(0.5)), bs.TopK(64, 1), bs.TopK(0, 0), bs.Below(bs.Absolute(0.3)), bs.Below(bs.Relative(0.1)),
    bs.Below(bs.Ema(0.5)),
]  # fmt: skip
WORLDS = [1, 2, 3, 4]


@pytest.mark.parametrize("shard", ["basket", "contiguous"])
@pytest.mark.parametrize("world", WORLDS)
def test_rules(workers, world: int, shard: str) -> None:
    workers.run(world, "agree.steps_agree", [Case(mining, shard=shard, mates=True) for mining in RULES])


@pytest.mark.parametrize("world", WORLDS)
def test_batches(workers, world: int) -> None:
    """A rank without a row, nobody with one, one row, duplicate classes, a NaN row, weights, row losses, sums."""
    plain = Case()
    workers.run(
        world, "agree.steps_agree",
        [
            plain.replace(rows=(0, 5, 0, 7)),
            plain.replace(rows=(0, 0, 0, 0)),
            plain.replace(rows=(1, 0, 0, 0)),
            plain.replace(rows=(6, 6, 6, 6), options={"equal_batches": True}),
            plain.replace(copies=0.5, mining=bs.TopK(5, 2)),
            *(plain.replace(mining=mining, broken=True) for mining in RULES[:4]),
            plain.replace(weighted=True),
            plain.replace(weighted=True, options={"reduction": "none"}),
            plain.replace(broken=True, options={"reduction": "none"}),
            plain.replace(options={"reduction": "sum"}),
            plain.replace(sizes=(2, 1, 3)),
            plain.replace(sizes=(1,), mining=bs.Own()),
            plain.replace(sizes=(240,), mining=bs.Own()),
            plain.replace(options={"margin": bs.AdaFace(0.4)}),
        ],
    )  # fmt: skip


@pytest.mark.parametrize("world", WORLDS)
def test_dtypes(workers, world: int) -> None:
    cases = [
        Case(mining, dtype=dtype, mates=True)
        for dtype in (torch.float64, torch.bfloat16, torch.float16)
        for mining in (bs.TopK(5, 1), bs.TopK(4, 1, bs.Relative(0.1)), bs.Below(bs.Absolute(0.3)))
    ]
    workers.run(world, "agree.steps_agree", [*cases, Case(autocast=True), Case(bs.All(), autocast=True)])
