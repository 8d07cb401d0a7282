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
    head.set_aliases(given, in_place=True)
    assert head.aliases.data_ptr() == there
    given.fill_(7)
    assert torch.equal(head.aliases, some_aliases(2))


MARGINS = {
    "in the kernels": lambda: bs.CosFace(0.3),
    "outside": lambda: lambda cos_t: cos_t - 0.3,
    "mapped": lambda: bs.InterclassFilter(0.9),
}
PATHS = [*((margin, False) for margin in MARGINS), ("in the kernels", True), ("outside", True)]


@pytest.mark.parametrize(("margin", "fused"), PATHS)
def test_a_step_ends_with_the_aliases_that_it_began_with(margin: str, fused: bool) -> None:
    """Some paths once used the new ones in backward, others raised: now none does, and in place all raise."""

    def step(change: bool, in_place: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        head, batch = planted(bs.All(), aliases=some_aliases(1), margin=MARGINS[margin]())
        optimizer = bs.optim.FusedSGD(head, lr=0.1) if fused else torch.optim.SGD(head.parameters(), lr=0.1)
        value = head(*batch)
        if change:
            head.set_aliases(some_aliases(2), in_place=in_place)
        value.backward()
        optimizer.step()
        return batch.x.grad, head.weight.detach()

    for got, want in zip(step(True), step(False), strict=True):
        assert torch.equal(got, want)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        step(True, in_place=True)


def test_in_place_needs_something_to_overwrite() -> None:
    head, _ = planted()
    with pytest.raises(ValueError, match="in_place: expected aliases"):
        head.set_aliases(some_aliases(1), in_place=True)
    assert head.aliases is None


def test_a_linker_with_two_views_before_one_backward() -> None:
    """The second call matched and overwrote the aliases that the first view's backward needs."""
    head, batch = planted(bs.All())
    linker = bs.IdentityLinker(head, exclude=-1.0, every=1)
    linker(*batch)
    views = [head(batch.x, linker(*batch)) for _ in range(2)]
    sum(views).backward()
    assert batch.x.grad.isfinite().all()


def test_aliases_on_the_meta_device_are_refused() -> None:
    """to_empty() would leave any numbers in their place."""
    with pytest.raises(ValueError, match=r"call set_aliases\(\) after to_empty\(\)"):
        bs.BasketSoftmaxLoss(SIZES, 8, aliases=some_aliases(1), device="meta")


def test_a_basket_that_joins_later_knows_nobody() -> None:
    head, _ = planted()
    head.set_aliases(some_aliases(1))
    head.add_basket("new", 3)
    assert torch.equal(head.aliases, torch.cat([some_aliases(1), torch.full((3,), -1)]))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (torch.zeros(CLASSES), TypeError, "aliases: expected an int64 tensor"),
        ([0] * CLASSES, TypeError, "aliases: expected an int64 tensor"),
        (torch.zeros(CLASSES + 1, dtype=torch.int64), ValueError, rf"aliases: expected shape \({CLASSES},\)"),
    ],
)
def test_what_cannot_be_aliases_leaves_the_old_ones(wrong, error, message) -> None:
    head, _ = planted(aliases=some_aliases(1))
    with pytest.raises(error, match=message):
        head.set_aliases(wrong)
    assert torch.equal(head.aliases, some_aliases(1))
