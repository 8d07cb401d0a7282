"""A class-parallel head on device "cuda", among ranks that only pretend to be there: one step of one of them."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import basket_softmax as bs
from cuda_torch.fake_heads import RULES, WIDTH
from support.fake_cuda import CUDA, NoHostSync, fake_cuda, outside

WORLD = 2
KNOWN = torch._C._dispatch_has_kernel_for_dispatch_key("c10d::_allgather_base_", "Meta")
pytestmark = pytest.mark.skipif(not KNOWN, reason="collectives of this torch take no fake tensors")


@pytest.fixture
def group():
    dist.init_process_group("fake", rank=1, world_size=WORLD, store=FakeStore())
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize("shard", ["basket", "contiguous"])
@pytest.mark.parametrize("mining", RULES)
def test_step_of_equal_batches_never_waits(group, mining, shard):
    with fake_cuda():
        baskets = outside(lambda: bs.Baskets([30, 0, 20, 1]))
        loss = outside(
            lambda: bs.BasketSoftmaxLoss(
                baskets, WIDTH, mining=RULES[mining], process_group=group, shard=shard, equal_batches=True
            )
        )
        weight = torch.empty(loss.weight.shape, device="cuda")
        loss.weight = torch.nn.Parameter(weight)
        if "ema" in loss._buffers:
            loss.ema = torch.empty(4, device="cuda")
        x = torch.randn(6, WIDTH, device="cuda", requires_grad=True)
        labels = torch.randint(51, (6,), device="cuda")
        loss(x, labels).backward()  # the first step copies the tables of the shard to the device
        with NoHostSync():
            loss(x, labels).backward()
        assert (x.grad.device, x.grad.shape) == (CUDA, x.shape)
        assert (loss.weight.grad.device, loss.weight.grad.shape) == (CUDA, weight.shape)
