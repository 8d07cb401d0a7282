"""Calls with unusual operands: batches without rows, gradients that nobody wants, strides, heads, and refusals."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs
from basket_softmax.optim import FusedSGD
from bbs_kernels import functional
from bbs_kernels.ops.load import OPS
from support.tolerances import GRADIENT_PER_SCALE, relative_l2

from .steps import SIZES, plain, step

pytestmark = pytest.mark.emulated


# --- which rows and gradients there are
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_batch_without_rows(reduction: str, gpu) -> None:
    one = plain(rows=0, reduction=reduction)
    loss = one.run(gpu)
    assert loss.shape == ((0,) if reduction == "none" else ())
    assert (loss == 0).all()
    assert one.batch.x.grad.shape == (0, 40)
    assert (one.head.weight.grad == 0).all()
    assert not gpu.launches


def test_only_ignored_rows(gpu) -> None:
    one = plain(ignored=1.1)
    loss = one.run(gpu)
    assert loss == 0
    assert (one.batch.x.grad == 0).all()
    assert (one.head.weight.grad == 0).all()


@pytest.mark.parametrize("rows", [1, 31, 97])
@pytest.mark.parametrize("depth", [3, 31])
def test_odd_sizes(rows: int, depth: int, gpu) -> None:
    """All classes: which of two that nearly tie is mined is rounding (tests/ptx has lists of odd sizes, tie-aware).

    CosFace: in three dimensions rows are so near their centres that ArcFace's slope, 1 / sin, magnifies rounding.
    """
    ignored = 0.16 if rows > 1 else 0.0
    step(bs.All(), mates=True, rows=rows, depth=depth, ignored=ignored, margin=bs.CosFace(0.2)).check(gpu)


@pytest.mark.parametrize("wanted", ["x", "w", "neither"])
def test_half_of_the_gradients(wanted: str, gpu) -> None:
    one = plain()
    _, dx, dw = one.dense(torch.float64)
    one.batch.x.requires_grad_(wanted == "x")
    one.head.weight.requires_grad_(wanted == "w")
    if wanted == "neither":
        with gpu.whole_stack():
            loss = one.head(*one.batch)
        assert not loss.requires_grad
        return
    one.run(gpu)
    got, other = one.batch.x.grad, one.head.weight.grad
    if wanted == "w":
        got, other, dx = other, got, dw
    assert other is None
    torch.testing.assert_close(got.double(), dx, rtol=1e-4, atol=1e-7)
    launched = {launch.symbol.split("_fp32")[0] for launch in gpu.launches}
    assert ("bbs_gradient_rows" in launched) == ("bbs_finish_rows" in launched) == (wanted == "x")
    assert ("bbs_gradient_classes" in launched) == ("bbs_gather_pairs" in launched) == (wanted == "w")


def test_nan_and_zero_rows(gpu) -> None:
    one = plain(reduction="none")
    labels = one.batch.labels
    used = (labels >= 0).nonzero().flatten()
    with torch.no_grad():
        one.batch.x[used[0]] = torch.nan
        one.batch.x[used[1]] = 0.0
        one.batch.x[used[2]] *= 1e25  # its squared norm is more than fp32 holds
        one.head.weight[labels[used[3]]] = 0.0
    want, dx, _ = one.dense(torch.float64)
    loss = one.run(gpu)
    assert torch.equal(loss.isnan(), want.isnan())
    assert loss.isnan().any()
    assert torch.equal(one.batch.x.grad.isnan().any(1), dx.isnan().any(1))


# --- operands in memory
@pytest.mark.parametrize(
    "layout", ["columns of x", "odd rows of x", "unaligned x", "gradients and labels with strides"]
)
def test_other_strides_of_the_rows(layout: str, gpu) -> None:
    one = plain()
    want, dx, dw = one.dense(torch.float64)
    x, labels = one.batch.x.detach(), one.batch.labels
    wide = torch.full((len(x), x.shape[1] + 3), torch.nan)
    if layout == "columns of x":
        x = x.t().contiguous().t()
    elif layout == "odd rows of x":
        wide[:, : x.shape[1]] = x
        x = wide[:, : x.shape[1]]
    elif layout == "unaligned x":
        wide[:, 1 : 1 + x.shape[1]] = x
        x = wide[:, 1 : 1 + x.shape[1]]
    else:
        labels = torch.stack([labels, labels - 7], 1)[:, 0]
    x = x.requires_grad_()
    one.head.weight.grad = None
    with gpu.whole_stack():
        loss = one.head(x, labels)
        loss.backward()
    torch.testing.assert_close(loss.detach().double(), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), dx, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(one.head.weight.grad.double(), dw, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("strides", [(1, 0), (1, 40), (0, 1)])
def test_a_w_that_overlaps_itself(strides: tuple[int, int], gpu) -> None:
    one = step(bs.All(), mates=True)  # all cosines of such rows tie, so that a mined list would say nothing
    base = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    w = base.as_strided((97, 40), strides)
    one.head.weight = torch.nn.Parameter(w)
    want, dx, dw = one.dense(torch.float64)
    with gpu.whole_stack():
        loss = one.head(*one.batch)
        (got_dx, got_dw) = torch.autograd.grad(loss, (one.batch.x, one.head.weight))
    torch.testing.assert_close(loss.detach().double(), want, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got_dx.double(), dx, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got_dw.double(), dw, rtol=1e-4, atol=1e-6)


def test_a_w_without_a_stride_of_one_is_refused(gpu) -> None:
    one = plain()
    one.head.weight = torch.nn.Parameter(torch.randn(194, 80)[::2, ::2])
    with (
        gpu.whole_stack(),
        pytest.raises(
            RuntimeError, match=r"w: expected a stride of 1 .*, got strides \[160, 2\]: pass w.contiguous"
        ),
    ):
        one.head(*one.batch)


# --- heads
@pytest.mark.parametrize(
    "build",
    [bs.ArcFaceLoss, bs.CosFaceLoss, bs.CombinedMarginLoss, bs.SphereFaceLoss, bs.AdaFaceLoss, bs.MagFaceLoss,
     bs.CurricularFaceLoss],
)  # fmt: skip
def test_single_dataset_heads(build: type, gpu) -> None:
    """Beside the same head on the CPU, which tests of its own hold to the reference: each may be a bound away."""
    torch.manual_seed(0)
    here, there = build(97, 40), build(97, 40)
    there.load_state_dict(here.state_dict())
    x, labels = plain().batch
    other = x.detach().clone().requires_grad_()
    with gpu.whole_stack():
        loss = here(x, labels)
        loss.backward()
    assert gpu.launches
    want = there(other, labels)
    want.backward()
    torch.testing.assert_close(loss, want, rtol=2e-6, atol=1e-5)
    for got, expected in ((x.grad, other.grad), (here.weight.grad, there.weight.grad)):
        assert relative_l2(got, expected) <= 2 * GRADIENT_PER_SCALE * here.scale


def test_a_running_mean_trains(gpu) -> None:
    one = step(bs.TopK(3, 1, bs.Ema(1.0)), mates=True)
    one.check(gpu)
    one.check(gpu)  # the second step has means to begin with
    assert one.head.ema[:2].isfinite().all()
    assert one.head.ema[3].isinf()


def test_tf32_follows_the_matmul_precision(gpu) -> None:
    one = plain(reduction="none")
    exact = one.run(gpu)
    rounded = one._replace(precision="tf32").run(gpu)
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0, atol=0.1)


def test_same_bits_under_every_schedule(gpu) -> None:
    one = plain(reduction="none")
    seen = []
    for seed in range(4):
        loss = one.run(gpu, seed=seed)
        seen.append((loss, one.batch.x.grad, one.head.weight.grad))
    for again in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], again, strict=True))


# --- what the device does not do
def test_sampled_classes_are_refused(gpu) -> None:
    x, labels = plain().batch
    offsets, w = torch.tensor([0, 97]), torch.randn(97, 40)
    index = labels[labels >= 0].unique()
    with (
        gpu.whole_stack(),
        pytest.raises(RuntimeError, match="class_index: expected None with tensors on CUDA"),
    ):
        functional.cos_lse(x, w, labels, offsets, scale=16.0, mining=bs.Own(), class_index=index)


def test_the_fused_optimiser_is_refused(gpu) -> None:
    head = bs.BasketSoftmaxLoss(SIZES, 40)
    x, labels = plain().batch
    FusedSGD(head, lr=0.1)
    with gpu.whole_stack(), pytest.raises(RuntimeError, match="FusedSGD works on the CPU in this version"):
        head(x, labels)


def test_fp64_is_refused(gpu) -> None:
    x, labels = plain().batch
    head = bs.BasketSoftmaxLoss(SIZES, 40, dtype=torch.float64)
    with (
        gpu.whole_stack(),
        pytest.raises(RuntimeError, match="x: expected float32, float16 or bfloat16 on CUDA, got float64"),
    ):
        head(x.double(), labels)


def test_there_is_no_second_derivative(gpu) -> None:
    one = plain()
    with gpu.whole_stack():
        (grad,) = torch.autograd.grad(one.head(*one.batch), one.batch.x, create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivative"):
            grad.sum().backward()


def test_nothing_is_kept_for_the_backward_of_a_device(gpu) -> None:
    """The stash is the CPU's: the schema's answer is an empty tensor."""
    x, labels = plain().batch
    w, offsets = torch.randn(97, 40), torch.tensor([0, 31, 48, 49, 49, 97])
    with gpu.whole_stack():
        *_, stash = OPS.cos_lse(x.detach(), w, labels, offsets, None, None, 16.0, *bs.TopK(3).op_arguments(), -1,
                                None, 1 << 20)  # fmt: skip
    assert stash.shape == (0,)
