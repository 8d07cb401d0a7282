"""sample_rate: Partial FC over the classes of all baskets, in training only."""

from __future__ import annotations

import torch

import basket_softmax as bs
from basket_softmax.losses.sampling import sample_classes
from losses.planted import planted


def test_sample_holds_the_batch_and_is_ascending() -> None:
    labels = torch.tensor([5, 90, -1, 5, 33])
    for seed in range(20):
        torch.manual_seed(seed)
        index = sample_classes(labels, 97, 0.1, -1)
        assert len(index) == 10
        assert (index.diff() > 0).all()
        assert {5, 33, 90} <= set(index.tolist())


def test_every_class_has_the_same_chance() -> None:
    torch.manual_seed(0)
    counts = torch.zeros(50)
    for _ in range(2000):
        counts[sample_classes(torch.tensor([7]), 50, 0.2, -1)] += 1
    others = torch.cat([counts[:7], counts[8:]]) / 2000
    assert counts[7] == 2000
    assert (others - 9 / 49).abs().max() < 0.05


def test_more_labels_than_the_rate_allows() -> None:
    assert len(sample_classes(torch.arange(40), 97, 0.1, -1)) == 40
    assert sample_classes(torch.arange(300) % 97, 97, 0.1, -1).tolist() == list(range(97))


def test_gradient_is_sparse_and_evaluation_reads_all_classes() -> None:
    head, batch = planted(sample_rate=0.6)
    full, _ = planted()
    torch.manual_seed(0)
    loss = head(*batch)
    assert loss <= full(*batch)  # fewer negatives
    loss.backward()
    grad = head.weight.grad
    assert grad.is_sparse
    assert grad.coalesce().indices().shape == (1, 59)
    seen = batch.labels[batch.labels >= 0]
    assert set(seen.tolist()) <= set(grad.coalesce().indices()[0].tolist())
    assert torch.equal(head.eval()(*batch), full(*batch))
    torch.optim.SGD(head.parameters(), lr=0.1).step()


def test_sampled_step_equals_a_smaller_problem() -> None:
    """The classes that take part, renumbered, as a head of their own."""
    head, batch = planted(bs.TopK(3, 1), sample_rate=0.7)
    torch.manual_seed(1)
    loss = head(*batch)
    torch.manual_seed(1)
    index = sample_classes(batch.labels, 97, 0.7, -1)
    sizes = [
        int(((index >= a) & (index < b)).sum()) for a, b in head.baskets.offsets.unfold(0, 2, 1).tolist()
    ]
    small = bs.BasketSoftmaxLoss(sizes, 24, mining=bs.TopK(3, 1))
    small.load_full_weight(head.weight.detach()[index])
    labels = torch.where(batch.labels < 0, -1, torch.searchsorted(index, batch.labels))
    torch.testing.assert_close(loss, small(batch.x, labels), rtol=1e-6, atol=0.0)
