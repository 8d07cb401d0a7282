"""A class-parallel head beside its step: centres, sampling, fused optimiser, copies, and every refusal."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs

pytestmark = pytest.mark.dist


@pytest.mark.parametrize("shard", ["basket", "contiguous"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights(workers, shard: str, dtype: torch.dtype) -> None:
    workers.run(3, "heads_in_use.weights", shard, dtype)


@pytest.mark.parametrize(
    "body",
    [
        "evaluation",
        "averaged",
        "checkpointed",
        "mesh",
        "learnable_margin",
        "refused",
        "refused_together",
        "copied",
    ],
)
@pytest.mark.parametrize(
    "world", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)]
)
def test_use(workers, body: str, world: int) -> None:
    workers.run(world, f"heads_in_use.{body}")


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_frozen_somewhere(workers, world: int) -> None:
    workers.run(world, "heads_in_use.frozen_somewhere")


@pytest.mark.slow
def test_compiled(workers) -> None:
    workers.run(2, "heads_in_use.compiled")


@pytest.mark.parametrize("mining", [bs.TopK(5, 1), bs.All()], ids=str)
@pytest.mark.parametrize("world", [1, 3])
def test_sampled(workers, world: int, mining: object) -> None:
    workers.run(world, "heads_in_use.sampled", mining)


@pytest.mark.parametrize("mining", [bs.TopK(5, 1), bs.Below(bs.Absolute(0.3))], ids=str)
def test_fused_sgd(workers, mining: object) -> None:
    workers.run(3, "heads_in_use.fused", mining)
