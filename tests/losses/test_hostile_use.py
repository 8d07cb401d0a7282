"""A head in the hands of other machinery: inference mode, checkpointing, functional_call, compilation, old graphs."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import basket_softmax as bs

from .planted import planted

EMA = bs.TopK(5, 1, bs.Ema(0.8))


def test_training_goes_on_after_a_forward_in_inference_mode() -> None:
    (head, batch), (other, _) = planted(EMA), planted(EMA)
    for mode, loss in ((torch.inference_mode, head), (torch.no_grad, other)):
        with mode():
            loss(*batch)
    values = [loss(*batch) for loss in (head, other)]
    values[0].backward()
    assert torch.equal(*values)
    assert torch.equal(head.ema, other.ema)
    assert head.weight.grad.isfinite().all()


def test_checkpointing_gives_the_same_bits() -> None:
    head, batch = planted()
    want = torch.autograd.grad(head(*batch), (batch.x, head.weight))
    got = torch.autograd.grad(checkpoint(head, *batch, use_reentrant=False), (batch.x, head.weight))
    assert all(map(torch.equal, got, want))


def test_functional_call_reads_and_differentiates_the_given_centres() -> None:
    head, batch = planted()
    centres = head.full_weight().flip(0).contiguous().requires_grad_()
    got = torch.func.functional_call(head, {"weight": centres}, tuple(batch))
    got.backward()
    assert head.weight.grad is None
    head.load_full_weight(centres)
    assert torch.equal(got, head(*batch))
    assert centres.grad.any()


def test_a_head_built_without_memory_starts_like_any_other() -> None:
    """reset_parameters after to_empty, as FSDP does it, must also set the running means."""
    head = bs.BasketSoftmaxLoss([5, 3], 8, mining=EMA, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        head.ema.fill_(0.1)  # memory that was not cleared
    head.reset_parameters()
    assert head.ema.tolist() == [torch.inf, torch.inf]
    assert 0.005 < float(head.weight.detach().std()) < 0.02


def test_gradients_accumulate_over_two_batches() -> None:
    head, batch = planted()
    other = planted(seed=1)[1]
    parts = [torch.autograd.grad(head(*b), head.weight)[0] for b in (batch, other)]
    for b in (batch, other):
        head(*b).backward()
    assert torch.equal(head.weight.grad, parts[0] + parts[1])


def test_a_retained_graph_gives_the_same_gradient_again() -> None:
    head, batch = planted()
    value = head(*batch)
    first = torch.autograd.grad(value, (batch.x, head.weight), retain_graph=True)
    second = torch.autograd.grad(value, (batch.x, head.weight))
    assert all(map(torch.equal, first, second))


def test_centres_that_moved_between_forward_and_backward_are_noticed() -> None:
    head, batch = planted()
    value = head(*batch)
    with torch.no_grad():
        head.weight.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_inputs_are_left_as_they_came() -> None:
    head, batch = planted(EMA, aliases=torch.arange(97))
    weights = torch.linspace(0.0, 1.0, 37)
    given = [
        batch.x.detach(),
        batch.labels,
        weights,
        head.weight.detach(),
        head.aliases,
        head.baskets.offsets,
    ]
    before = [t.clone() for t in given]
    head(*batch, sample_weight=weights).backward()
    assert all(map(torch.equal, given, before))


@pytest.mark.parametrize("layout", ["transposed", "every other column", "reversed twice", "expanded"])
def test_layout_of_the_embeddings(layout: str) -> None:
    head, batch = planted(reduction="none")
    x = batch.x.detach()
    labels = batch.labels
    if layout == "transposed":
        x = x.t().contiguous().t()
    elif layout == "every other column":
        x = torch.stack([x, x], dim=2).flatten(1)[:, ::2]
    elif layout == "reversed twice":
        x = x.flip(0).contiguous().flip(0)
    else:
        x, labels = x[:1].expand(37, 24), labels[:1].expand(37)
    leaf = x.detach().requires_grad_()
    got = head(leaf, labels)
    got.sum().backward()
    plain = x.detach().contiguous().clone().requires_grad_()
    want = head(plain, labels.contiguous())
    want.sum().backward()
    assert torch.equal(got, want)
    assert torch.equal(leaf.grad, plain.grad)


def test_centres_in_the_other_layout() -> None:
    head, batch = planted()
    want = head(*batch)
    want_dw = torch.autograd.grad(want, head.weight)[0]
    head.weight = nn.Parameter(head.full_weight().t().contiguous().t())
    got = head(*batch)
    got_dw = torch.autograd.grad(got, head.weight)[0]
    assert torch.equal(got, want)
    assert got_dw.stride() == head.weight.stride()
    assert torch.equal(got_dw, want_dw)


def test_a_compiled_head_follows_its_settings_and_its_growth() -> None:
    """A scale that changes becomes symbolic at the second value, which math.isfinite once could not read."""
    head, batch = planted()
    torch._dynamo.reset()
    compiled = torch.compile(head, fullgraph=True, backend="eager")
    for scale in (64.0, 20.0, 30.5):
        head.scale = scale
        assert torch.equal(compiled(*batch), head(*batch))
    head.margin, head.mining = bs.CosFace(0.1), bs.Below(bs.Absolute(0.2))
    head.add_basket("new", 3)
    value = compiled(*batch)
    value.backward()
    assert torch.equal(value, head(*batch))
    assert head.weight.grad.shape == (100, 24)


def test_threads_share_a_head_in_evaluation() -> None:
    head, batch = planted()
    head.eval()
    want = head(*batch).item()
    values: list[float] = []

    def work() -> None:
        with torch.no_grad():
            values.extend(head(*batch).item() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [want] * 80


def test_a_nan_row_is_seen_in_the_loss_and_nowhere_else() -> None:
    head, batch = planted(reduction="none")
    clean = head(*batch).detach()
    row = int(torch.nonzero(batch.labels >= 0)[0])
    x = batch.x.detach().clone()
    x[row, 0] = torch.nan
    losses = head(x.requires_grad_(), batch.labels)
    losses.nansum().backward()
    others = torch.arange(37) != row
    assert losses[row].isnan()
    assert torch.equal(losses[others], clean[others])
    assert x.grad[others].isfinite().all()


def test_a_margin_computes_in_full_precision_under_autocast() -> None:
    seen = []

    def margin(cos_t: torch.Tensor) -> torch.Tensor:
        psi = (cos_t[:, None] @ torch.ones(1, 1))[:, 0]  # autocast would do this in bfloat16
        seen.append(psi.dtype)
        return psi - 0.1

    head, batch = planted(margin=margin)
    other, _ = planted(margin=bs.CosFace(0.1))
    with torch.autocast("cpu", torch.bfloat16):
        got, want = head(*batch), other(*batch)
    assert seen == [torch.float32]
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0.0)


def test_reported_guard_is_over_the_baskets_that_have_one() -> None:
    """Rows of a basket never seen have no guard (+inf), which would swallow the mean of the others."""
    head, batch = planted(EMA)
    head.eval()
    head.ema.copy_(torch.tensor([0.5, torch.inf, 0.25, torch.inf]))
    head(*batch)
    basket = head.baskets.to_local(batch.labels).basket
    guards = torch.tensor([0.8 * 0.5] * int((basket == 0).sum()) + [0.8 * 0.25] * int((basket == 2).sum()))
    assert (basket == 1).any()
    torch.testing.assert_close(head.stats()["guard"], guards.mean())


@pytest.mark.parametrize("cast", [lambda m: m.half(), lambda m: m.to(torch.bfloat16)], ids=["half", "to"])
def test_sixteen_bit_centres_are_refused_and_leave_the_head_as_it_was(cast) -> None:
    head = bs.BasketSoftmaxLoss([5, 4], 8)
    before = head.weight.detach().clone()
    with pytest.raises(
        TypeError, match=r"the dtype of the centres: expected float32 or float64, got torch.*float16"
    ):
        cast(head)
    assert head.weight.dtype == torch.float32
    assert torch.equal(head.weight, before)
    assert head.double().weight.dtype == torch.float64
