"""Where the work of a call goes: streams, devices, contexts, threads and graphs, and labels that are told late."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import torch

import basket_softmax as bs

from .steps import plain

pytestmark = pytest.mark.emulated


# --- where work goes
def test_the_current_stream_of_the_tensors_device(gpu) -> None:
    one, streams = plain(), dict(gpu.driver.streams)
    gpu.driver.streams[1] = 0x7A10
    try:
        one.check(gpu, device=1)
    finally:
        gpu.driver.streams = streams
    assert {(launch.device, launch.stream) for launch in gpu.launches} == {(1, 0x7A10)}
    assert gpu.driver.current_device == 0


@contextlib.contextmanager
def context_of(gpu, context: int | None) -> Iterator[None]:
    gpu.driver.forget_contexts()
    if context is not None:
        gpu.driver.cuCtxSetCurrent(context)
    try:
        yield
    finally:
        gpu.driver.forget_contexts()


def test_the_context_of_another_device_stays_current(gpu) -> None:
    one = plain()
    with context_of(gpu, 0xC001):
        one.check(gpu, device=0)
        assert gpu.driver.context() == 0xC001
    assert {launch.device for launch in gpu.launches} == {0}


def test_a_thread_without_a_context(gpu) -> None:
    one, failures = plain(), []

    def body() -> None:
        try:
            gpu.driver.forget_contexts()
            one.check(gpu)
            assert gpu.driver.context() is None
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


# --- capture into a graph
@contextlib.contextmanager
def capturing(gpu, device: int = 0) -> Iterator[None]:
    stream = gpu.driver.streams[device]
    gpu.driver.capturing.add(stream)
    try:
        yield
    finally:
        gpu.driver.capturing.discard(stream)


def test_the_default_stream_is_zero(gpu) -> None:
    """And cannot be asked while another stream is captured, which counts as captured."""
    one, streams = plain(), dict(gpu.driver.streams)
    gpu.driver.streams[0] = 0
    try:
        one.check(gpu)
        assert {launch.stream for launch in gpu.launches} == {0}
        gpu.driver.capturing.add(0x7A10)
        want = one.run(gpu)
        assert want.isfinite()
        other = plain(sizes=(28, 17, 1, 0, 51))
        with gpu.whole_stack(), pytest.raises(RuntimeError, match="no call with these offsets"):
            other.head(*other.batch)
    finally:
        gpu.driver.streams = streams
        gpu.driver.capturing.clear()


def test_a_first_call_under_capture_is_refused_and_a_later_one_works(gpu) -> None:
    from support.emulated_gpu import EmulatedGpu

    first, gpu = gpu, EmulatedGpu.fresh(gpu.arch)
    one = plain(sizes=(29, 17, 1, 0, 50))
    with gpu.whole_stack(), capturing(gpu), pytest.raises(RuntimeError, match="no call with these offsets"):
        one.head(*one.batch)
    known = plain()
    known.run(first)  # the tables are there now, the kernels of this device are not
    with (
        gpu.whole_stack(),
        capturing(gpu),
        pytest.raises(RuntimeError, match="a kernel of this call has not run"),
    ):
        known.head(*known.batch)
    want = one.run(gpu)
    grads = one.batch.x.grad, one.head.weight.grad
    with capturing(gpu):
        assert torch.equal(one.run(gpu), want)
    assert torch.equal(one.batch.x.grad, grads[0])
    assert torch.equal(one.head.weight.grad, grads[1])


def test_no_label_is_told_while_a_graph_is_captured(gpu) -> None:
    one = plain()
    x, labels = one.batch
    wrong = torch.where(labels == labels[5], 97, labels)
    one.run(gpu)
    with gpu.whole_stack(), torch.no_grad():
        assert one.head(x, wrong).isnan()
        with capturing(gpu):
            assert one.head(x, labels).isfinite()
        with pytest.raises(RuntimeError, match="got 97;"):
            bs.check()


# --- labels out of range
@pytest.mark.parametrize(
    ("label", "told"),
    [(97, "97"), (-2, "-2"), (2**40, "4294967294 or more"), (-(2**40), "-4294967296 or less")],
)
def test_a_label_out_of_range_is_told_by_the_next_call(label: int, told: str, gpu) -> None:
    """Be it the backward of the same step."""
    one = plain(reduction="none")
    x, labels = one.batch
    wrong = labels.clone()
    wrong[5] = label
    message = f"labels of an earlier call: expected 0 to 96 or ignore_index, got {told};"
    with gpu.whole_stack():
        losses = one.head(x, wrong)
        assert losses[5].isnan()
        assert losses[torch.arange(len(labels)) != 5].isfinite().all()
        with pytest.raises(RuntimeError, match=message):
            losses.sum().backward()
        with torch.no_grad():
            one.head(x, wrong)
        with pytest.raises(RuntimeError, match=message):
            one.head(x, labels)
        assert one.head(x, labels).isfinite().all()
        bs.check()


def test_check_waits_for_every_device_that_was_used(gpu) -> None:
    one = plain()
    one.run(gpu, device=0)
    one.run(gpu, device=1)
    with gpu.whole_stack(), context_of(gpu, 0xC001):
        before = len(gpu.driver.calls)
        bs.check()
        calls = gpu.driver.calls[before:]
        assert gpu.driver.context() == 0xC001
    assert calls.count("cuCtxSynchronize") == 2


def test_check_leaves_a_thread_without_a_context_as_it_was(gpu) -> None:
    """Else the thread's next tensors would go to a device that it never chose."""
    plain().run(gpu, device=1)
    with context_of(gpu, None), gpu.whole_stack():
        bs.check()
        assert gpu.driver.context() is None
