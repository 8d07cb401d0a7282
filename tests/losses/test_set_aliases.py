"""set_aliases: a running head learns who is known to be the same; everything else about it stays."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from losses.planted import SIZES, exact, planted
from support.tolerances import TABLE, assert_losses, relative_l2

CLASSES = sum(SIZES.values())


def some_aliases(seed: int) -> torch.Tensor:
    return torch.randint(-1, 20, (CLASSES,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mining", [bs.TopK(5, 1), bs.All(), bs.Own(), bs.TopK(3, 0, bs.Ema(0.5))], ids=str)
def test_the_step_is_that_of_a_head_made_with_them(mining) -> None:
    head, batch = planted(mining)
    before = head(*batch.again())
    head.set_aliases(some_aliases(1))
    head.set_aliases(some_aliases(2))
    made, _ = planted(mining, aliases=some_aliases(2))
    if "ema" in head._buffers:
        made.ema.copy_(head.ema)
    ours, theirs = batch.again(), batch.again()
    values = head(*ours), made(*theirs)
    for value in values:
        value.backward()
    assert torch.equal(*values)
    assert torch.equal(ours.x.grad, theirs.x.grad)
    assert torch.equal(head.weight.grad, made.weight.grad)
    assert not torch.equal(values[0], before)
    head.set_aliases(None)
    assert head.aliases is None


def test_against_the_reference() -> None:
    head, batch = planted(bs.TopK(5, 1))
    head.set_aliases(some_aliases(3))
    value = head(*batch)
    value.backward()
    want, dx, dw = exact(head, batch)
    assert_losses(value.detach(), want, head.scale)
    assert relative_l2(batch.x.grad, dx) <= TABLE["fp32"].floor
    assert relative_l2(head.weight.grad, dw) <= TABLE["fp32"].floor


def test_centres_optimizer_and_running_means_stay() -> None:
    head, batch = planted(bs.TopK(5, 1, bs.Ema(0.5)))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    head(*batch).backward()
    optimizer.step()
    kept = {"weight": head.weight, "moment": optimizer.state[head.weight]["exp_avg"], "ema": head.ema}
    values = {name: tensor.detach().clone() for name, tensor in kept.items()}
    head.set_aliases(some_aliases(1))
    assert head.weight is kept["weight"]
    for name, tensor in kept.items():
        assert torch.equal(tensor, values[name]), name
    assert set(head.state_dict()) == {"weight", "ema"}  # as without aliases


def test_a_captured_step_sees_the_new_ones() -> None:
    head, _ = planted(aliases=some_aliases(1))
    there = head.aliases.data_ptr()
    given = some_aliases(2)
    head.set_aliases(given)
    assert head.aliases.data_ptr() == there
    given.fill_(7)
    assert torch.equal(head.aliases, some_aliases(2))


def test_between_forward_and_backward_is_refused() -> None:
    head, batch = planted(bs.TopK(5, 1), aliases=some_aliases(1))
    value = head(*batch)
    head.set_aliases(some_aliases(2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_a_basket_that_joins_later_knows_nobody() -> None:
    head, _ = planted()
    head.set_aliases(some_aliases(1))
    head.add_basket("new", 3)
    assert torch.equal(head.aliases, torch.cat([some_aliases(1), torch.full((3,), -1)]))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (torch.zeros(CLASSES), TypeError, "aliases must be an int64 tensor"),
        ([0] * CLASSES, TypeError, "aliases must be an int64 tensor"),
        (torch.zeros(CLASSES + 1, dtype=torch.int64), ValueError, rf"allowed is \({CLASSES},\)"),
    ],
)
def test_what_cannot_be_aliases_leaves_the_old_ones(wrong, error, message) -> None:
    head, _ = planted(aliases=some_aliases(1))
    with pytest.raises(error, match=message):
        head.set_aliases(wrong)
    assert torch.equal(head.aliases, some_aliases(1))
