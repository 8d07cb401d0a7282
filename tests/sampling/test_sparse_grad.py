"""`sparse_grad`: the gradient of a sampled step as a dense tensor, and what a sparse one is not given to."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

import basket_softmax as bs

SIZES = [60, 0, 90]


def head(**options: Any) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    return bs.BasketSoftmaxLoss(SIZES, 16, sample_rate=0.3, scale=16.0, mining=bs.TopK(4), **options)


def step(loss: nn.Module, seed: int = 1) -> None:
    torch.manual_seed(seed)
    x, labels = torch.randn(20, 16), torch.randint(150, (20,))
    loss(x, labels).backward()


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("subcenters", [1, 3])
def test_the_dense_gradient_has_the_values_of_the_sparse_one(subcenters: int) -> None:
    dense, sparse = (head(sparse_grad=kind, subcenters=subcenters) for kind in (False, True))
    for loss in (dense, sparse):
        step(loss)
    assert dense.weight.grad.layout == torch.strided
    assert sparse.weight.grad.layout == torch.sparse_coo
    assert torch.equal(dense.weight.grad, sparse.weight.grad.to_dense())


def test_a_dense_gradient_can_be_clipped_and_takes_any_optimiser() -> None:
    loss = head(sparse_grad=False)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=0.1)
    step(loss)
    norm = nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
    assert norm > 0.5
    torch.testing.assert_close(loss.weight.grad.norm(), torch.tensor(0.5))
    optimizer.step()


def test_a_head_that_nobody_chose_for_warns_once_and_names_the_option() -> None:
    loss = head()
    with pytest.warns(UserWarning, match="sample_rate below 1 makes .* sparse_grad=False .* FusedSGD"):
        step(loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(loss)
        step(head(sparse_grad=True))
        with torch.no_grad():
            head()(torch.randn(2, 16), torch.tensor([0, 1]))
        fused = head()
        bs.optim.FusedSGD(fused, lr=0.1)
        step(fused)


NO_NORM = "Could not run 'aten::linalg_vector_norm' with arguments from the 'SparseCPU' backend"


@pytest.mark.parametrize("of_a_group", [False, True])
def test_clipping_a_sparse_gradient_gives_the_message_on_the_page_of_limits(
    of_a_group: bool, one_rank: None
) -> None:
    """torch raises it outside this library; a newer torch that says something else needs another page."""
    group = {"process_group": dist.group.WORLD} if of_a_group else {}
    loss = head(sparse_grad=True, **group)
    step(loss)
    with pytest.raises(NotImplementedError, match=NO_NORM):
        nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
    page = Path(__file__).parents[2] / "docs" / "limits.md"
    for text in (page.read_text(encoding="utf-8"), bs.BasketSoftmaxLoss.__doc__ or ""):
        assert NO_NORM in " ".join(text.split())
    clipped = head(sparse_grad=False, **group)
    step(clipped)
    assert nn.utils.clip_grad_norm_(clipped.parameters(), 1e-3) > 1e-3


def test_ddp_and_fsdp_are_told_before_they_fail(one_rank: None) -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    for given in (None, True):
        with pytest.raises(
            RuntimeError, match=r"DistributedDataParallel cannot reduce: .* sparse_grad=False"
        ):
            step(DistributedDataParallel(head(sparse_grad=given)))
        with pytest.raises(RuntimeError, match=r"FSDP cannot reduce: .* sparse_grad=False"):
            fully_shard(head(sparse_grad=given))
    alone = head(sparse_grad=False)
    step(alone)
    wrapped = DistributedDataParallel(head(sparse_grad=False))
    step(wrapped)
    assert torch.equal(wrapped.module.weight.grad, alone.weight.grad)
    sharded = fully_shard(head(sparse_grad=False))
    step(sharded)
    assert torch.equal(sharded.weight.grad.full_tensor(), alone.weight.grad)


def test_what_is_no_choice_is_refused() -> None:
    with pytest.raises(TypeError, match="sparse_grad: expected True, False or None, got 'no'"):
        head(sparse_grad="no")
