"""One step of several ranks is the step of one process: every rule, both shardings, ragged batches, worlds 1 to 4."""

from __future__ import annotations

import random

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
            plain.replace(options={"margin": bs.MagFace(0.3, 0.8, 0.5, 20.0, 5.0)}, weighted=True),
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


def random_cases(count: int, seed: int) -> list[Case]:
    """Sizes, batches, rules, margins and dtypes at random; planted copies everywhere, so that keys tie."""
    g = random.Random(seed)
    guards = [None, bs.Absolute(0.2), bs.Relative(0.1), bs.Ema(0.7)]
    cases = []
    for _ in range(count):
        rule = g.choice([bs.TopK, bs.TopK, bs.Below, bs.All, bs.Own])
        mining = (
            rule() if rule in (bs.All, bs.Own) else rule(g.choice(guards[1:])) if rule is bs.Below else None
        )
        if mining is None:
            mining = bs.TopK(g.choice([1, 3, 64, 125]), g.choice([0, 1, 2, 3]), g.choice(guards))
        cases.append(
            Case(
                mining,
                shard=g.choice(["basket", "contiguous"]),
                dtype=g.choice([torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16]),
                rows=tuple(g.choice([0, 1, 2, 7, 16, 33]) for _ in range(4)),
                mates=g.random() < 0.5,
                sizes=tuple(g.choice([1, 2, 3, 16, 31, 97, 111, 300]) for _ in range(g.randint(1, 6))),
                weighted=g.random() < 0.3,
                copies=g.choice([0.0, 0.1, 0.6]),
                depth=g.choice([3, 24, 65]),
                options={"reduction": g.choice(["mean", "mean", "sum", "none"])},
            )
        )
    return cases


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", range(3))
def test_random_cases(workers, world: int, seed: int) -> None:
    workers.run(world, "agree.steps_agree", random_cases(60, seed), timeout=600.0)
