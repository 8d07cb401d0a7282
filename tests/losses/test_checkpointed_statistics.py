"""Which statistics the second run of a checkpointed pass uses: those of its own first run, whatever runs between."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed._composable import checkpoint as composable
from torch.utils.checkpoint import checkpoint

import basket_softmax as bs
from bbs_kernels import recompute

SIZE, CLASSES, ROWS = 8, 20, 16
Run = Callable[[nn.Module, Tensor], Tensor]


class Centred(nn.Module):
    """A user's own margin, with the running mean of the target cosine."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, cos_t: Tensor, ctx: bs.MarginContext) -> Tensor:
        mean = self.mean
        if ctx.training:
            moved = torch.lerp(mean, cos_t.detach().mean().to(mean.dtype), 0.5)
            (mean,) = bs.moved_once((mean,), (moved,))
        return cos_t * (0.5 + mean)


HEADS: dict[str, Callable[[], nn.Module]] = {
    "AdaFace": lambda: bs.AdaFaceLoss(CLASSES, SIZE, momentum=0.5),
    "CurricularFace": lambda: bs.CurricularFaceLoss(CLASSES, SIZE, momentum=0.5),
    "Ema guard": lambda: bs.BasketSoftmaxLoss([12, 8], SIZE, mining=bs.Below(bs.Ema(1.0))),
    "own margin": lambda: bs.BasketSoftmaxLoss([CLASSES], SIZE, margin=Centred()),
}


class Own(torch.autograd.Function):
    """Checkpointing as Megatron-LM and DeepSpeed write it: an autograd function of their own."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        ctx.run = run
        ctx.save_for_backward(x)
        with torch.no_grad():
            return run(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None]:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            loss = ctx.run(x)
        torch.autograd.backward(loss, grad)
        return None, x.grad


def plain(head: nn.Module, x: Tensor) -> Tensor:
    return head(x, torch.arange(ROWS))


def composed(head: nn.Module, x: Tensor) -> Tensor:
    if not hasattr(head, "composed"):
        head.composed = composable(head)
    return plain(head, x)


WAYS: dict[str, Run] = {
    "not reentrant": lambda head, x: checkpoint(plain, head, x, use_reentrant=False),
    "reentrant": lambda head, x: checkpoint(plain, head, x, use_reentrant=True),
    "reentrant inside": lambda head, x: checkpoint(
        lambda y: checkpoint(plain, head, y, use_reentrant=True), x, use_reentrant=False
    ),
    "reentrant outside": lambda head, x: checkpoint(
        lambda y: checkpoint(plain, head, y, use_reentrant=False), x, use_reentrant=True
    ),
    "nested": lambda head, x: checkpoint(
        lambda y: checkpoint(plain, head, y, use_reentrant=False), x, use_reentrant=False
    ),
    "autograd function": lambda head, x: Own.apply(lambda y: plain(head, y), x),
    "composable": composed,
}


def batch(seed: int = 1) -> Tensor:
    return (20 * torch.randn(ROWS, SIZE, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return HEADS[name]()


def gradients(name: str, run: Run, batches: list[Tensor], order: list[int]) -> list[Tensor]:
    """Return each pass's gradient of its batch, and the buffers: all forward passes first, then backward in `order`."""
    head = made(name)
    losses = [run(head, x) for x in batches]
    found = [torch.empty(0)] * len(losses)
    for i in order:
        batches[i].grad = None
        losses[i].backward()
        assert batches[i].grad is not None
        found[i] = batches[i].grad.clone()
    return [*found, *head.buffers()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HEADS)
def test_one_batch_waits_three_times(name: str, way: str) -> None:
    """Backward passes in another order than the forward passes."""
    batches = [batch()] * 3
    want = gradients(name, plain, batches, [1, 0, 2])
    if name != "Ema guard":  # after its first batch the mean of one batch stays
        assert not torch.equal(want[0], want[1])
    for got, value in zip(gradients(name, WAYS[way], batches, [1, 0, 2]), want, strict=True):
        assert torch.equal(got, value)


@pytest.mark.parametrize("way", ["not reentrant", "reentrant"])
def test_a_hundred_passes_wait(way: str) -> None:
    batches = [batch(seed) for seed in range(100)]
    want = gradients("AdaFace", plain, batches, list(range(100)))
    got = gradients("AdaFace", WAYS[way], batches, list(range(100)))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("way", ["not reentrant", "reentrant", "nested"])
def test_two_passes_in_one_region_and_two_backward_passes(way: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = made("AdaFace")

        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return self.head(x, labels) + 2.0 * self.head(x, labels.flip(0))

    def twice(run: Run) -> list[Tensor]:
        model, x = Twice(), batch()
        loss, found = run(model, x), []
        run(model, batch(2))
        for _ in range(2):
            x.grad = None
            loss.backward(retain_graph=True)
            assert x.grad is not None
            found.append(x.grad.clone())
        return [*found, *model.buffers()]

    assert all(torch.equal(a, b) for a, b in zip(twice(WAYS[way]), twice(plain), strict=True))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", ["AdaFace", "Ema guard", "own margin"])
def test_compiled_inside_the_checkpoint(name: str, use_reentrant: bool, backend: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(plain, backend=backend)
    batches = [batch(1), batch(2)]
    want = gradients(name, plain, batches, [0, 1])
    got = gradients(
        name,
        lambda head, x: checkpoint(compiled, head, x, use_reentrant=use_reentrant),
        batches,
        [0, 1],
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_nothing_is_kept_for_longer_than_the_graph() -> None:
    gc.collect()
    before = len(recompute._PASSES)
    head = made("AdaFace")
    plain(head, batch()).backward()
    assert len(recompute._PASSES) == before
    for way in WAYS.values():
        loss = way(head, batch())
        assert len(recompute._PASSES) > before
        loss.backward()
        del loss
        gc.collect()
        assert len(recompute._PASSES) == before


class Written(Centred):
    """Moves its mean by itself, where `where` says."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def move(self, where: str) -> None:
        if where == self.where:
            self.mean += 0.01

    def forward(self, cos_t: Tensor, ctx: bs.MarginContext) -> Tensor:
        self.move("forward")
        return cos_t * (0.5 + self.mean.clone())

    def row_penalty(self, ctx: bs.MarginContext) -> Tensor:
        self.move("row_penalty")
        return 0.1 * ctx.norms


class WrittenMap(Written):
    def negatives(self, cos_t: Tensor, ctx: bs.MarginContext) -> bs.NegativeMap:
        self.move("negatives")
        return bs.NegativeMap(lambda cos: 0.9 * cos)


@pytest.mark.parametrize("way", ["not reentrant", "reentrant"])
@pytest.mark.parametrize("where", ["forward", "row_penalty", "negatives"])
def test_a_margin_that_would_move_twice_is_refused(where: str, way: str) -> None:
    kind = WrittenMap if where == "negatives" else Written
    head = bs.BasketSoftmaxLoss([CLASSES], SIZE, margin=kind(where))
    plain(head, batch()).backward()
    loss = WAYS[way](head, batch())
    with pytest.raises(RuntimeError, match=rf"margin: expected .* by bs\.moved_once, got {kind.__name__}"):
        loss.backward()


@pytest.mark.parametrize("name", HEADS)
def test_refused_inside_a_backward_pass_that_repeats_nothing(name: str) -> None:
    head = made(name)

    def backward_with_a_forward_pass_in_a_hook() -> None:
        y = batch() * 1.0
        y.register_hook(lambda grad: plain(head, batch(2)) * 0 + grad)
        y.sum().backward()

    with pytest.raises(
        RuntimeError,
        match=r"running statistics: expected .* got one inside a backward pass that has no first run",
    ):
        backward_with_a_forward_pass_in_a_hook()
    head.eval()
    backward_with_a_forward_pass_in_a_hook()
