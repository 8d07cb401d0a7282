"""Partial FC in the module: what is sampled, that the loss is the loss over the sample, and what the optimisers see."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from basket_softmax.losses.sampling import sample_classes

SIZES = [60, 0, 90]


def make(rate: float, mining=None, **options) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    options.setdefault("sparse_grad", True)
    loss = bs.BasketSoftmaxLoss(
        SIZES, 16, mining=mining or bs.TopK(k=4), scale=16.0, sample_rate=rate, **options
    )
    loss.load_full_weight(torch.randn(150, 16))
    return loss


def batch(rows: int = 20):
    torch.manual_seed(1)
    labels = torch.randint(150, (rows,))
    labels[::6] = -1
    return torch.randn(rows, 16, requires_grad=True), labels


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_sample_has_the_positives_the_share_and_no_repeat(rate):
    labels = batch()[1]
    for seed in range(5):
        torch.manual_seed(seed)
        chosen = sample_classes(labels, 150, rate, -1)
        assert len(chosen) == max(int(150 * rate), len(labels[labels >= 0].unique()))
        assert (chosen.diff() > 0).all()
        assert set(labels[labels >= 0].tolist()) <= set(chosen.tolist())


def test_negatives_are_uniform():
    labels = torch.tensor([3])
    counts = torch.zeros(50)
    torch.manual_seed(0)
    for _ in range(2000):
        counts[sample_classes(labels, 50, 0.2, -1)] += 1
    assert counts[3] == 2000
    others = torch.cat([counts[:3], counts[4:]])
    expected = 2000 * 9 / 49
    assert ((others - expected).abs() < 5 * (expected * (1 - 9 / 49)) ** 0.5).all()


@pytest.mark.parametrize("mining", [bs.All(), bs.Own(), bs.TopK(k=4), bs.Below(bs.Absolute(0.1))], ids=repr)
def test_loss_over_the_sample(mining):
    loss = make(0.4, mining)
    x, labels = batch()
    torch.manual_seed(7)
    value = loss(x, labels)
    dx, dw = torch.autograd.grad(value, (x, loss.weight))
    torch.manual_seed(7)
    chosen = sample_classes(labels, 150, 0.4, -1)
    smaller = bs.BasketSoftmaxLoss(
        torch.searchsorted(chosen, loss.baskets.offsets).diff().tolist(), 16, mining=mining, scale=16.0
    )
    smaller.load_full_weight(loss.weight[chosen])
    local = torch.where(labels >= 0, torch.searchsorted(chosen, labels.clamp_min(0)), labels)
    want = smaller(x, local)
    want_dx, want_dw = torch.autograd.grad(want, (x, smaller.weight))
    assert torch.equal(value, want)
    assert torch.equal(dx, want_dx)
    assert dw.layout == torch.sparse_coo
    assert torch.equal(dw.coalesce().indices()[0], chosen)
    assert torch.equal(dw.coalesce().values(), want_dw)
    mined = loss._last.mined_idx
    assert set(mined[mined >= 0].tolist()) <= set(chosen.tolist())


def test_rate_one_and_eval_take_all_classes():
    x, labels = batch()
    full, sampled = make(1.0), make(0.2)
    assert torch.equal(sampled.eval()(x, labels), full.eval()(x, labels))
    assert torch.equal(make(1.0)(x, labels), full.train()(x, labels))
    assert not torch.equal(sampled.train()(x, labels), full(x, labels))


def test_same_seed_same_sample():
    x, labels = batch()
    values = []
    for _ in range(2):
        loss = make(0.3)
        torch.manual_seed(11)
        values.append(loss(x, labels))
    assert torch.equal(*values)


def test_fused_sgd_leaves_the_others_alone():
    loss = make(0.3)
    optimizer = bs.optim.FusedSGD(loss, lr=0.1, momentum=0.9, weight_decay=0.01)
    x, labels = batch()
    loss(x, labels).backward()
    optimizer.step()
    before, momentum = loss.weight.detach().clone(), optimizer.state[loss.weight]["momentum_buffer"].clone()
    torch.manual_seed(5)
    loss(x, labels).backward()
    optimizer.step()
    torch.manual_seed(5)
    chosen = sample_classes(labels, 150, 0.3, -1)
    rest = torch.ones(150, dtype=torch.bool)
    rest[chosen] = False
    assert torch.equal(loss.weight[rest], before[rest])
    assert torch.equal(optimizer.state[loss.weight]["momentum_buffer"][rest], momentum[rest])
    assert (loss.weight[chosen] != before[chosen]).any(dim=1).all()


@pytest.mark.parametrize("make_optimizer", [
    lambda p: torch.optim.SGD([p], lr=0.1),
    lambda p: torch.optim.SparseAdam([p], lr=0.01),
])  # fmt: skip
def test_optimisers_for_sparse_gradients(make_optimizer):
    loss = make(0.3)
    optimizer = make_optimizer(loss.weight)
    x, labels = batch()
    before = loss.weight.detach().clone()
    torch.manual_seed(5)
    loss(x, labels).backward()
    optimizer.step()
    torch.manual_seed(5)
    chosen = sample_classes(labels, 150, 0.3, -1)
    moved = (loss.weight != before).any(dim=1)
    assert torch.equal(torch.nonzero(moved).flatten(), chosen)
