"""Twenty steps of all ranks are twenty steps of one process within 1e-4, whoever reduces the backbone's gradients."""

from __future__ import annotations

import pytest

import basket_softmax as bs
from dist.heads import Case

pytestmark = pytest.mark.dist

CASE = Case(rows=(12, 7, 9, 4), sizes=(17, 0, 9, 1, 20), options={"scale": 16.0, "margin": bs.CosFace(0.2)})


@pytest.mark.parametrize(
    ("world", "wrapper", "optimizer"),
    [(2, "ddp", "sgd"), (4, "ddp", "fused"), (3, "by hand", "sgd"), (2, "fsdp", "adam")],
)
def test_twenty_steps(workers, world: int, wrapper: str, optimizer: str) -> None:
    workers.run(world, "training.twenty_steps", CASE, wrapper, optimizer)


RULES = [bs.All(), bs.Own(), bs.TopK(5, 1, bs.Ema(0.8)), bs.Below(bs.Relative(0.2))]
WRAPPERS = ["ddp", "by hand", "fsdp"]
OPTIMIZERS = ["sgd", "fused", "adam"]
# A Latin square: every pair of values of rule, wrapper, optimiser and number of ranks occurs.
SQUARE = [
    (2 + 2 * ((r + w) % 2), OPTIMIZERS[(r + w) % 3], WRAPPERS[w], RULES[r])
    for r in range(4)
    for w in range(3)
]


@pytest.mark.slow
@pytest.mark.parametrize(("world", "optimizer", "wrapper", "mining"), SQUARE, ids=str)
def test_twenty_steps_thorough(workers, world: int, optimizer: str, wrapper: str, mining: object) -> None:
    workers.run(world, "training.twenty_steps", CASE.replace(mining=mining), wrapper, optimizer)
