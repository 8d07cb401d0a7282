"""Sub-centres over ranks: the step of one process, whole classes on every rank, the fused optimiser."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from dist.heads import Case

pytestmark = pytest.mark.dist

RULES = [bs.All(), bs.Own(), bs.TopK(5, 1), bs.TopK(4, 1, bs.Relative(0.1)), bs.TopK(4, 1, bs.Ema(0.5))]


@pytest.mark.parametrize("world", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_steps(workers, world: int) -> None:
    workers.run(
        world, "agree.steps_agree",
        [
            Case(mining, shard=shard, mates=True, options={"subcenters": 3})
            for mining in RULES
            for shard in ("basket", "contiguous")
        ]
        + [Case(dtype=torch.float64, options={"subcenters": 5}), Case(broken=True, options={"subcenters": 2})],
    )  # fmt: skip


@pytest.mark.parametrize("shard", ["basket", "contiguous"])
def test_weights(workers, shard: str) -> None:
    workers.run(3, "subcenters.weights", shard)


def test_checkpoint_at_another_number_of_ranks(workers, tmp_path) -> None:
    workers.run(3, "subcenters.save", str(tmp_path), "basket")
    workers.run(2, "subcenters.load", str(tmp_path), "contiguous")


@pytest.mark.parametrize("rate", [1.0, 0.4])
def test_fused_sgd(workers, rate: float) -> None:
    workers.run(2, "subcenters.fused", rate)
