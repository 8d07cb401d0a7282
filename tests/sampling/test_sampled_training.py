"""Training with sampled classes: accumulation, loss scaling, compilation, and momentum of rows that come and go."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from basket_softmax.losses.sampling import sample_classes
from cpu.problem import make

SIZES = (60, 0, 39, 1)
CLASSES = 100
RATE = 0.3


def head(**options) -> bs.BasketSoftmaxLoss:
    loss = bs.BasketSoftmaxLoss(
        SIZES, 12, scale=16.0, mining=bs.TopK(4, 1), sample_rate=RATE, sparse_grad=True, **options
    )
    loss.load_full_weight(torch.randn(CLASSES, 12, generator=torch.Generator().manual_seed(0)))
    return loss


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    problem = make(rows=13, depth=12, sizes=SIZES, spread=0.1, noise=1.0, seed=seed)
    return problem.x.requires_grad_(), problem.labels


def sampled_gradient(loss: bs.BasketSoftmaxLoss, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(classes, their gradient) of the step that `seed` draws."""
    torch.manual_seed(seed)
    dw = torch.autograd.grad(loss(*batch(seed)), loss.weight)[0].coalesce()
    return dw.indices()[0], dw.values()


def test_sparse_gradients_accumulate() -> None:
    loss = head()
    want = torch.zeros(CLASSES, 12)
    for seed in (1, 2):
        classes, rows = sampled_gradient(loss, seed)
        want[classes] += rows
        torch.manual_seed(seed)
        loss(*batch(seed)).backward()
    assert loss.weight.grad.is_sparse
    assert torch.equal(loss.weight.grad.to_dense(), want)


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.0, "weight_decay": 0.0},
        {"momentum": 0.0, "weight_decay": 0.05},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"momentum": 0.9, "weight_decay": 0.0, "nesterov": True},
    ],
    ids=str,
)
def test_fused_sgd_is_sgd_on_the_sampled_rows(settings: dict) -> None:
    """Every sampled row makes torch.optim.SGD's step with its own momentum; the others keep weight and momentum."""
    loss = head()
    optimizer = bs.optim.FusedSGD(loss, 0.1, **settings)
    buffer = torch.zeros(CLASSES, 12)
    for seed in range(4):
        before = loss.full_weight()
        loss.fused_step = None  # for the gradient alone
        classes, gradient = sampled_gradient(loss, seed)
        loss.fused_step = optimizer
        torch.manual_seed(seed)
        loss(*batch(seed)).backward()
        optimizer.step()

        rows = torch.nn.Parameter(before[classes])
        plain = torch.optim.SGD([rows], 0.1, **settings)
        if seed > 0 and settings["momentum"]:
            plain.state[rows]["momentum_buffer"] = buffer[classes]
        rows.grad = gradient
        plain.step()
        want = before.clone()
        want[classes] = rows.detach()
        assert torch.equal(loss.weight, want)
        if settings["momentum"]:
            buffer[classes] = plain.state[rows]["momentum_buffer"]
            assert torch.equal(optimizer.state[loss.weight]["momentum_buffer"], buffer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_a_grad_scaler(dtype: torch.dtype) -> None:
    loss = head()
    before = loss.full_weight()
    optimizer = torch.optim.SGD(loss.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype == torch.float16)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype):
        value = loss(*batch())
    scaler.scale(value).backward()
    scaler.step(optimizer)
    torch.manual_seed(1)
    classes = sample_classes(batch()[1], CLASSES, RATE, -1)
    rest = torch.ones(CLASSES, dtype=torch.bool).index_fill(0, classes, False)
    assert value.dtype == torch.float32
    assert torch.equal(loss.weight[rest], before[rest])
    assert (loss.weight[classes] != before[classes]).any(dim=1).all()


def test_compiles_without_a_graph_break() -> None:
    loss = head()
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        torch.manual_seed(seed)
        want = loss(*batch(seed))
        torch.manual_seed(seed)
        got = compiled(*batch(seed))
        assert torch.equal(got, want)
    got.backward()
    classes = loss.weight.grad.coalesce().indices()[0]
    assert len(classes) == 30


def test_a_batch_with_more_identities_than_the_rate_asks_for() -> None:
    labels = torch.randperm(CLASSES)[:50]
    loss = head()
    loss(torch.randn(50, 12), labels).backward()
    assert loss.weight.grad.coalesce().indices()[0].tolist() == sorted(labels.tolist())


def test_statistics_count_the_sample() -> None:
    loss = head(margin=bs.CosFace(0.2))
    x, labels = batch()
    torch.manual_seed(3)
    loss(x, labels)
    torch.manual_seed(3)
    classes = sample_classes(labels, CLASSES, RATE, -1)
    mined = loss._last.mined_idx
    assert set(mined[mined >= 0].tolist()) <= set(classes.tolist())
    valid = labels >= 0
    cosines = torch.nn.functional.cosine_similarity(x[valid], loss.weight[labels[valid]])
    torch.testing.assert_close(loss.stats()["mean_target_cosine"], cosines.mean().detach())
