"""A head under activation checkpointing: the gradients and the running statistics that it has without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import basket_softmax as bs

SIZE, CLASSES, ROWS = 8, 20, 16
Head = bs.BasketSoftmaxLoss
Run = Callable[[Callable[..., Tensor], Tensor, Tensor], Tensor]


def ema(rule: Callable[[bs.Ema], object]) -> Head:
    return Head([12, 8], SIZE, mining=rule(bs.Ema(1.0)))


HEADS: dict[str, Callable[[], Head]] = {
    "AdaFaceLoss": lambda: bs.AdaFaceLoss(CLASSES, SIZE, momentum=0.5),
    "CurricularFaceLoss": lambda: bs.CurricularFaceLoss(CLASSES, SIZE, momentum=0.5),
    "Ema guard of TopK": lambda: ema(lambda guard: bs.TopK(3, 1, guard)),
    "Ema guard of Below": lambda: ema(bs.Below),
    "AdaFace and an Ema guard": lambda: Head(
        [12, 8], SIZE, margin=bs.AdaFace(momentum=0.5), mining=bs.Below(bs.Ema(1.0))
    ),
    "sample_rate": lambda: bs.ArcFaceLoss(CLASSES, SIZE, sample_rate=0.5, sparse_grad=True),
    "CircleSoftmax": lambda: Head([CLASSES], SIZE, bs.compat.fastreid.CircleSoftmax(0.3)),
}
WAYS: dict[str, Run] = {
    "reentrant": lambda f, *batch: checkpoint(f, *batch, use_reentrant=True),
    "not reentrant": lambda f, *batch: checkpoint(f, *batch, use_reentrant=False),
    "one in another": lambda f, *batch: checkpoint(
        lambda *inner: checkpoint(f, *inner, use_reentrant=True), *batch, use_reentrant=False
    ),
}


def plain(f: Callable[..., Tensor], *batch: Tensor) -> Tensor:
    return f(*batch)


def trained(make: Callable[[], Head], run: Run, passes: int, steps: int = 2) -> dict[str, Tensor]:
    """State and gradients after `steps`, each of `passes` forward passes before one backward pass."""
    torch.manual_seed(0)
    backbone, head = nn.Linear(SIZE, SIZE).double(), make().double()
    g = torch.Generator().manual_seed(1)

    def whole(images: Tensor, labels: Tensor) -> Tensor:
        return head(backbone(images), labels)

    for _ in range(steps):
        total = torch.zeros((), dtype=torch.float64)
        for i in range(passes):
            images = 20 * (i + 1) * torch.randn(ROWS, SIZE, generator=g, dtype=torch.float64)
            total = total + run(whole, images.requires_grad_(), torch.randint(CLASSES, (ROWS,), generator=g))
        total.backward()
    assert backbone.weight.grad is not None
    assert head.weight.grad is not None
    return {**head.state_dict(), "dx": backbone.weight.grad, "dw": head.weight.grad.to_dense()}


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", HEADS)
def test_same_as_without(name: str, way: str, passes: int) -> None:
    """`passes` = 3: the statistics have moved on before the first pass runs again. Of gradients the reentrant form adds
    up the passes in another order."""
    want = trained(HEADS[name], plain, passes)
    got = trained(HEADS[name], WAYS[way], passes)
    assert got.keys() == want.keys()
    for key, value in want.items():
        if key in ("dx", "dw"):
            torch.testing.assert_close(got[key], value, rtol=1e-10, atol=1e-12, msg=key)
        else:
            assert torch.equal(got[key], value), key


class Following(nn.Module):
    """A user's own margin, whose statistics would carry a gradient to the cosines."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

    def forward(self, cos_t: Tensor, ctx: bs.MarginContext) -> Tensor:
        mean = self.mean
        if ctx.training:
            (mean,) = bs.moved_once((mean,), (torch.lerp(mean, cos_t.mean(), 0.3),))
            assert not mean.requires_grad
        return cos_t - 0.3 * (1 - mean)


@pytest.mark.parametrize("way", WAYS)
def test_statistics_have_no_gradient_however_the_head_runs(way: str) -> None:
    make = lambda: Head([12, 8], SIZE, margin=Following())  # noqa: E731
    want, got = trained(make, plain, 2), trained(make, WAYS[way], 2)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, msg=name)


def test_statistics_move_where_no_backward_pass_runs() -> None:
    """Under inference_mode and no_grad, and in a forward pass without a backward pass, but not in evaluation."""
    head, x, labels = HEADS["AdaFaceLoss"](), torch.randn(ROWS, SIZE), torch.arange(ROWS)
    seen = [head.margin.mean.item()]
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            head(x, labels)
        seen.append(head.margin.mean.item())
    head(x, labels)
    seen.append(head.margin.mean.item())
    head.eval()(x, labels)
    assert len(set(seen)) == 4
    assert head.margin.mean.item() == seen[-1]


@pytest.mark.parametrize("name", ["AdaFaceLoss", "CurricularFaceLoss"])
def test_the_same_batch_again(name: str) -> None:
    """Two steps with one batch and no change of the weights: the second pass of each uses the statistics of its own."""

    def gradients(run: Run) -> list[Tensor]:
        torch.manual_seed(0)
        head, x = HEADS[name](), (20 * torch.randn(ROWS, SIZE)).requires_grad_()
        found = []
        for _ in range(3):
            x.grad = None
            run(head, x, torch.arange(ROWS)).backward()
            found.append(x.grad.clone())
        return found

    want = gradients(plain)
    assert not torch.equal(want[0], want[1])
    for run in WAYS.values():
        assert all(torch.equal(got, value) for got, value in zip(gradients(run), want, strict=True))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_fused_sgd_steps_once(use_reentrant: bool) -> None:
    def stepped(run: Run) -> Tensor:
        torch.manual_seed(0)
        head = bs.AdaFaceLoss(CLASSES, SIZE, momentum=0.5)
        optimizer = bs.optim.FusedSGD(head, lr=0.1, momentum=0.9)
        for _ in range(3):
            x = (20 * torch.randn(ROWS, SIZE)).requires_grad_()
            run(head, x, torch.arange(ROWS)).backward()
            optimizer.step()
        return head.weight.detach()

    got = stepped(lambda f, *batch: checkpoint(f, *batch, use_reentrant=use_reentrant))
    assert torch.equal(got, stepped(plain))


@pytest.mark.parametrize("way", [False, True])
def test_compiled_around_the_checkpoint(way: bool) -> None:
    want = trained(HEADS["AdaFaceLoss"], plain, passes=1)
    compiled = lambda f, *batch: torch.compile(  # noqa: E731
        lambda *inner: checkpoint(f, *inner, use_reentrant=way), backend="aot_eager"
    )(*batch)
    got = trained(HEADS["AdaFaceLoss"], compiled, passes=1)
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, msg=key)
