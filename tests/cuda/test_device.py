"""What only a device has: streams, graphs, a compiler, bounded memory, and errors that are told later."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import basket_softmax as bs

WIDTH = 64


def head(classes: int = 3000) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    return bs.BasketSoftmaxLoss({"a": classes // 2, "b": classes - classes // 2}, WIDTH).cuda()


def batch(rows: int = 64, classes: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, WIDTH, generator=generator).cuda().requires_grad_()
    return x, torch.randint(classes, (rows,), generator=generator).cuda()


def step(loss, x, labels):
    x.grad = loss.weight.grad = None
    value = loss(x, labels)
    value.backward()
    return value.detach(), x.grad, loss.weight.grad


def test_the_current_stream_is_used():
    loss, (x, labels) = head(), batch()
    want = step(loss, x, labels)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)  # a launch on another stream would overtake it
        scaled = (x.detach() * 2).requires_grad_()
        got = step(loss, scaled, labels)
    side.synchronize()
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[2], want[2])


def test_a_graph_replays_the_step():
    loss, (x, labels) = head(), batch()
    for _ in range(3):
        step(loss, x, labels)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(loss, x, labels)
    other_x, other_labels = batch(rows=64)
    with torch.no_grad():
        x.copy_(other_x.flip(0))
        labels.copy_(other_labels.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    replayed = [t.clone() for t in captured]
    want = step(loss, x, labels)
    assert all(torch.equal(a, b) for a, b in zip(replayed, want, strict=True))


def test_a_graph_replays_an_ema_guard_and_local_labels():
    """Nothing of the step copies the offsets: pageable memory may not be copied during capture."""
    loss, (x, labels) = head(), batch()
    loss.mining = bs.TopK(k=5, guard=bs.Ema(1.0))
    local, basket = loss.baskets.to_local(labels)
    seen = torch.full_like(loss.ema, torch.inf)

    def whole_step():
        x.grad = loss.weight.grad = None
        value = loss(x, local, basket=basket)
        value.backward()
        return value.detach(), x.grad, loss.weight.grad, loss.ema

    for _ in range(3):
        whole_step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = whole_step()
    loss.ema.copy_(seen)
    graph.replay()
    torch.cuda.synchronize()
    replayed = [t.clone() for t in captured]
    loss.ema.copy_(seen)
    want = whole_step()
    assert all(torch.equal(a, b) for a, b in zip(replayed, want, strict=True))
    assert loss.ema.isfinite().all()


def test_the_workspace_of_a_backward_is_bounded():
    loss, (x, labels) = head(100_000), batch(512, 100_000)
    results, extra = [], []
    for limit in (256 << 20, 1 << 20):
        loss.workspace_bytes = limit
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results.append(step(loss, x, labels))
        torch.cuda.synchronize()
        extra.append(torch.cuda.max_memory_allocated() - before)
    assert extra[0] - extra[1] > 16 << 20
    assert torch.equal(results[0][2], results[1][2])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_compiles_without_a_graph_break():
    loss, (x, labels) = head(), batch()
    want = step(loss, x, labels)
    compiled = torch.compile(loss, fullgraph=True)
    x.grad = loss.weight.grad = None
    value = compiled(x, labels)
    value.backward()
    torch.testing.assert_close(value.detach(), want[0])
    torch.testing.assert_close(x.grad, want[1])


def test_no_matrix_of_rows_by_classes():
    classes, rows = 400_000, 512
    loss, (x, labels) = head(classes), batch(rows, classes)
    step(loss, x, labels)
    torch.cuda.synchronize()
    loss.weight.grad = None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step(loss, x, labels)
    extra = torch.cuda.max_memory_allocated() - before - loss.weight.numel() * 4
    assert extra < 160 << 20  # rows x classes in fp32 would be 781 MiB


def test_a_label_out_of_range_is_told_by_check():
    loss, (x, labels) = head(), batch()
    labels[3] = 3000
    value = loss(x, labels)
    assert value.isnan()
    with pytest.raises(RuntimeError, match="expected 0 to 2999 or ignore_index, got 3000"):
        bs.check()
    bs.check()


def test_a_label_out_of_range_is_told_by_the_next_call():
    loss, (x, labels) = head(), batch()
    wrong = labels.clone()
    wrong[3] = -7
    loss(x, wrong)
    torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match="got -7;"):
        loss(x, labels)
    assert loss(x, labels).isfinite()


@pytest.mark.parametrize("change", ["fp64", "strided"])
def test_what_is_not_supported_says_so(change):
    loss, (x, labels) = head(), batch()
    if change == "fp64":
        with pytest.raises((RuntimeError, TypeError), match="float64"):
            bs.functional.basket_softmax(
                x.double(), loss.weight.double(), labels, loss.baskets.offsets, margin=loss.margin, scale=64.0,
                mining=loss.mining,
            )  # fmt: skip
        return
    w = torch.randn(6000, 2 * WIDTH).cuda()[::2, ::2]
    with pytest.raises((RuntimeError, ValueError), match="contiguous"):
        bs.functional.basket_softmax(
            x, w, labels, loss.baskets.offsets, margin=loss.margin, scale=64.0, mining=loss.mining
        )


CAPTURED_FIRST = """
import pytest, torch
import basket_softmax as bs
loss = bs.ArcFaceLoss(100, 64).cuda()
x, labels = torch.randn(8, 64).cuda(), torch.arange(8).cuda()
labels[3] = 100
torch.cuda.synchronize()
with pytest.raises(RuntimeError, match="run one step before the capture"):
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        loss(x, labels)
loss(x, labels)
with pytest.raises(RuntimeError, match="got 100;"):
    bs.check()
"""


def test_a_first_call_during_capture_says_so_and_later_labels_are_told():
    done = subprocess.run([sys.executable, "-c", CAPTURED_FIRST], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_check_tells_a_label_of_another_device():
    loss, (x, labels) = head().to("cuda:1"), batch()
    labels[3] = 3000
    with torch.cuda.device(1):
        torch.cuda._sleep(500_000_000)
    loss(x.to("cuda:1"), labels.to("cuda:1"))
    with pytest.raises(RuntimeError, match="got 3000;"):
        bs.check()


def test_an_unaligned_x_gives_the_same():
    loss, (x, labels) = head(), batch()
    want = step(loss, x, labels)
    wide = torch.randn(64, WIDTH + 3, device="cuda")
    wide[:, 1 : 1 + WIDTH] = x.detach()
    got = step(loss, wide[:, 1 : 1 + WIDTH].detach().requires_grad_(), labels)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("strides", [(1, 0), (1, 40), (0, 1)])
def test_a_w_that_overlaps_gets_its_gradient(strides):
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(4000, generator=generator).cuda().as_strided((100, WIDTH), strides)
    x, labels = batch(classes=100)
    arguments = (torch.tensor([0, 60, 100]),)
    grads = []
    for centres in (w, w.contiguous()):
        leaf = centres.detach().requires_grad_()
        loss = bs.functional.basket_softmax(
            x, leaf, labels, *arguments, margin=bs.ArcFace(0.3), scale=16.0, mining=bs.TopK(k=3)
        )
        grads.append(torch.autograd.grad(loss, leaf)[0])
    torch.testing.assert_close(*grads)
