"""How many classes a step of Partial FC takes, and which: insightface's, number for number and draw for draw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from basket_softmax.losses.sampling import sample_classes


def published(labels: Tensor, num_classes: int, rate: float) -> Tensor:
    """The sample of PartialFC_V2, from its description: labels of this rank's classes, -1 for all others."""
    wanted = int(rate * num_classes)
    positive = labels[labels >= 0].unique()
    if len(positive) > wanted:
        return positive
    draws = torch.rand(num_classes)
    draws[positive] = 2.0
    return draws.topk(wanted).indices.sort().values


def local_labels(ranks: int, rows: int, classes: int) -> Tensor:
    """The labels of the batches of all ranks on the first of them, whose classes are 0 ... classes-1."""
    torch.manual_seed(ranks)
    labels = torch.randint(ranks * classes, (ranks * rows,))
    return torch.where(labels < classes, labels, -1)


@pytest.mark.parametrize(
    ("ranks", "rows", "classes", "rate", "size"),
    [
        (1, 128, 32186, 0.3, 9655),
        (2, 128, 32186, 0.3, 9655),
        (4, 384, 32186, 0.3, 9655),
        (64, 384, 32186, 0.3, 9655),
        (1, 128, 85742, 0.1, 8574),
        (2, 128, 85742, 0.1, 8574),
        (4, 128, 85742, 0.1, 8574),
        (64, 128, 85742, 0.1, 8574),
        (1, 8, 100, 0.29, 28),  # 0.29 * 100 is 28.999... in fp64
        (64, 384, 1000, 0.29, 305),  # the positives, which are more than int(rate * C)
    ],
)
def test_as_many_as_insightface_on_every_number_of_ranks(
    ranks: int, rows: int, classes: int, rate: float, size: int
) -> None:
    labels = local_labels(ranks, rows, classes)
    torch.manual_seed(5)
    chosen = sample_classes(labels, classes, rate, -1)
    state = torch.get_rng_state()
    torch.manual_seed(5)
    assert torch.equal(chosen, published(labels, classes, rate))
    assert torch.equal(state, torch.get_rng_state())
    assert len(chosen) == size


def test_a_rank_without_a_positive_and_with_few_classes_takes_none() -> None:
    labels = torch.full((5,), -1)
    assert sample_classes(labels, 9, 0.1, -1).shape == (0,)


def test_a_step_without_any_class_has_no_loss_and_no_gradient() -> None:
    """An empty list of classes is not the absence of a list."""
    head = bs.BasketSoftmaxLoss([3, 2], 4, sample_rate=0.1, mining=bs.TopK(1, 0), sparse_grad=False)
    x = torch.randn(3, 4, requires_grad=True)
    value = head(x, torch.full((3,), -1))
    value.backward()
    assert value.item() == 0.0
    for grad in (x.grad, head.weight.grad):
        assert grad is not None
        assert not grad.any()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_sampled_head_is_one_graph(backend: str) -> None:
    head = bs.BasketSoftmaxLoss([60, 90], 16, sample_rate=0.3, mining=bs.TopK(4), sparse_grad=True)
    compiled = torch.compile(head, fullgraph=True, backend=backend)
    for positives in (5, 70):  # fewer than the share and more
        x, labels = torch.randn(80, 16), torch.arange(80) % positives
        results = []
        for call in (head, compiled):
            torch.manual_seed(3)
            head.weight.grad = None
            value = call(x, labels)
            value.backward()
            results.append((value.detach(), head.weight.grad.to_dense()))
        torch.testing.assert_close(*results)
