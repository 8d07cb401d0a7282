"""add_basket: a dataset joins a running head; centres, optimiser state and earlier labels stay."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from losses.planted import Batch, planted

OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
}


def step(head: bs.BasketSoftmaxLoss, optimizer: torch.optim.Optimizer, batch: Batch) -> torch.Tensor:
    optimizer.zero_grad()
    loss = head(*batch)
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("name", OPTIMISERS)
def test_old_centres_train_on_as_if_nothing_had_happened(name: str) -> None:
    """Own: the new basket has no part in the old rows, so both heads must stay equal, momentum and all."""
    heads = [planted(bs.Own())[0] for _ in range(2)]
    batch = planted()[1]
    optimizers = [OPTIMISERS[name](head.parameters()) for head in heads]
    for _ in range(3):
        alive = [step(head, optimizer, batch) for head, optimizer in zip(heads, optimizers, strict=True)]
    grown, plain = heads
    weight = grown.weight
    grown.add_basket("new", 13, optimizer=optimizers[0])
    assert len(alive) == 2  # a graph of the last step is still there, as it is in a training loop
    assert grown.weight is weight
    assert grown.weight.shape == (110, 24)
    if name != "adafactor":  # its steps are scaled by the root mean square of all centres
        for _ in range(3):
            for head, optimizer in zip(heads, optimizers, strict=True):
                step(head, optimizer, batch)
        torch.testing.assert_close(grown.weight[:97], plain.weight.detach())
    else:
        step(grown, optimizers[0], batch)


def test_state_is_padded_with_zeros() -> None:
    head, batch = planted()
    optimizer = torch.optim.Adam(head.parameters())
    step(head, optimizer, batch)
    before = {key: value.clone() for key, value in optimizer.state[head.weight].items()}
    head.add_basket("new", 4, optimizer=optimizer)
    after = optimizer.state[head.weight]
    assert torch.equal(after["step"], before["step"])
    for key in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(after[key][:97], before[key])
        assert (after[key][97:] == 0).all()


def test_new_classes_are_trained_and_mined() -> None:
    head, batch = planted()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
    step(head, optimizer, batch)
    head.add_basket("new", 13, optimizer=optimizer)
    assert head.baskets == bs.Baskets({"a": 31, "b": 17, "c": 1, "d": 48, "new": 13})
    before = head.full_weight()
    labels = head.baskets.to_global(torch.arange(37) % 13, "new")
    step(head, optimizer, Batch(batch.x, labels))
    assert (head.weight != before)[97:].any(1).all()
    head(*batch)
    assert head.stats()["mined_share"][4] > 0


def test_initial_centres() -> None:
    head, _ = planted()
    torch.manual_seed(0)
    head.add_basket("random", 500)
    assert head.weight[97:].std().item() == pytest.approx(0.01, rel=0.05)
    given = torch.randn(3, 24, dtype=torch.float64, requires_grad=True)
    head.add_basket("given", 3, init=given)
    assert torch.equal(head.weight[597:], given.float())
    head.add_basket("none", 0)
    assert head.weight.shape == (600, 24)


def test_aliases_and_running_means_grow() -> None:
    head, batch = planted(bs.Below(bs.Ema(0.5)), aliases=torch.arange(97))
    head(*batch)
    before = head.ema.clone()
    head.add_basket("new", 3)
    assert head.aliases.tolist() == [*range(97), -1, -1, -1]
    assert torch.equal(head.ema[:4], before)
    assert head.ema[4].isinf()
    assert list(head.state_dict()) == ["weight", "ema"]
    head(*batch)


def test_fused_sgd_goes_on() -> None:
    heads = [planted(bs.Own())[0] for _ in range(2)]
    batch = planted()[1]
    optimizers = [bs.optim.FusedSGD(head, 0.1, momentum=0.9) for head in heads]
    for head, optimizer in zip(heads, optimizers, strict=True):
        head(*batch).backward()
        optimizer.step()
    heads[0].add_basket("new", 5, optimizer=optimizers[0])
    for head, optimizer in zip(heads, optimizers, strict=True):
        head(*batch).backward()
        optimizer.step()
    torch.testing.assert_close(heads[0].weight[:97], heads[1].weight.detach())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "a", "size": 3}, ValueError, "basket 'a' exists already: 'a', 'b', 'c', 'd'"),
        ({"name": "new", "size": -1}, ValueError, r"baskets\[.new.\]: expected an int from 0, got -1"),
        ({"name": "new", "size": 3, "init": "zeros"}, ValueError, "init: expected 'random', .*, got 'zeros'"),
        ({"name": "new", "size": 3, "init": torch.zeros(2, 24)}, ValueError, r"init: expected .*, got \(2, 24\)"),
        (
            {"name": "new", "size": 3, "optimizer": torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)},
            ValueError,
            "optimizer: expected the one that trains this loss's weight",
        ),
    ],
)  # fmt: skip
def test_refused_without_a_trace(arguments: dict, error: type[Exception], message: str) -> None:
    head, batch = planted()
    want = head(*batch)
    with pytest.raises(error, match=message):
        head.add_basket(**arguments)
    assert len(head.baskets) == 4
    assert torch.equal(head(*batch), want)
