"""Gradients of the centres keep their memory from step to step, and never share it with a tensor in use."""

from __future__ import annotations

import gc

import pytest
import torch

import bbs_kernels
from bbs_kernels import functional, reference
from bbs_kernels.rules import Own, TopK

from . import child

DEPTH, CLASSES = 64, 140_000  # 34 MiB: just large enough to be kept
BYTES = 4 * DEPTH * CLASSES

keeps = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11), reason="torch 2.10 takes no memory of others"
)


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    bbs_kernels.release_workspace()
    yield
    bbs_kernels.release_workspace()


def step(seed: int = 0, mining: object = None, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of the centres, and the reference's."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, DEPTH, generator=generator, requires_grad=True)
    w = torch.randn(classes, DEPTH, generator=generator, requires_grad=True)
    labels = torch.randint(classes, (6,), generator=generator)
    offsets = torch.tensor([0, classes // 2, classes])
    found = []
    for module in (functional, reference):
        lse, cos_t, *_ = module.cos_lse(x, w, labels, offsets, scale=16.0, mining=mining or Own())
        found += torch.autograd.grad((lse - 16.0 * cos_t).sum(), w)
    return found[0], found[1]


@keeps
def test_a_freed_gradient_is_handed_out_again() -> None:
    gradient, _ = step()
    address = gradient.data_ptr()
    assert bbs_kernels.release_workspace() == 0, "memory in use was released"
    del gradient
    again, want = step(1)
    assert again.data_ptr() == address
    torch.testing.assert_close(again, want)
    del again
    assert bbs_kernels.release_workspace() == BYTES
    assert bbs_kernels.release_workspace() == 0


@keeps
@pytest.mark.parametrize("mining", [Own(), TopK(4)], ids=str)
def test_nothing_stale_is_left_in_it(mining: object) -> None:
    first, want = step(2, mining)
    kept = first.clone()
    address = first.data_ptr()
    first.fill_(float("nan"))
    del first
    again, _ = step(2, mining)
    assert again.data_ptr() == address
    assert torch.equal(again, kept)
    torch.testing.assert_close(again, want)


def test_two_gradients_at_once() -> None:
    one, want_one = step(3)
    two, want_two = step(4)
    view = one[5:7]
    del one  # a view holds the memory
    three, want_three = step(5)
    torch.testing.assert_close(view, want_one[5:7])
    torch.testing.assert_close(two, want_two)
    torch.testing.assert_close(three, want_three)
    assert len({t.untyped_storage().data_ptr() for t in (view, two, three)}) == 3


def test_two_heads_in_one_graph() -> None:
    torch.manual_seed(6)
    x = torch.randn(6, DEPTH, requires_grad=True)
    heads = [torch.randn(CLASSES, DEPTH, requires_grad=True) for _ in range(2)]
    labels, offsets = torch.arange(6), torch.tensor([0, CLASSES])
    for module in (functional, reference, functional):
        pairs = [module.cos_lse(x, w, labels, offsets, scale=16.0, mining=Own())[:2] for w in heads]
        sum((lse - 16.0 * cos_t).sum() for lse, cos_t in pairs).backward()
        grads = [w.grad for w in heads]
        if module is reference:
            want = grads
        for w in heads:
            w.grad = None
    for got, expected in zip(grads, want, strict=True):
        torch.testing.assert_close(got, expected)


@keeps
def test_at_most_one_block_is_kept() -> None:
    live = [step(seed)[0] for seed in range(3)]
    del live
    assert bbs_kernels.release_workspace() == BYTES
    step()
    larger, _ = step(classes=CLASSES + 64)
    assert bbs_kernels.release_workspace() == 0, "a request for another size gives back what is kept"
    del larger


CHILD = """
import resource, sys, torch, bbs_kernels
from bbs_kernels import functional, rules
x, w = torch.randn(4, 64, requires_grad=True), torch.randn(140_000, 64, requires_grad=True)
def step():
    offsets = torch.tensor([0, 140_000])
    lse, *_ = functional.cos_lse(x, w, torch.arange(4), offsets, scale=16.0, mining=rules.Own())
    lse.sum().backward()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    w.grad = None
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
step()
count = min(faults() for _ in range(4))  # the system may take pages from a step that has to wait for its turn
"""


@keeps
def test_steps_fault_no_pages_in() -> None:
    pages = BYTES // 4096
    assert int(child.run(CHILD + "print(count)", BBS_KEEP_BLOCKS="0")) > pages / 2
    assert int(child.run(CHILD + "print(count)")) < pages / 8


def test_keeping_can_be_turned_off() -> None:
    assert (
        child.run(CHILD + "w.grad = None; print(bbs_kernels.release_workspace())", BBS_KEEP_BLOCKS="0") == "0"
    )


def test_another_value_is_an_error() -> None:
    with pytest.raises(AssertionError, match="BBS_KEEP_BLOCKS: expected 0 or 1, got 'yes'"):
        child.run(CHILD, BBS_KEEP_BLOCKS="yes")


def test_a_gradient_may_outlive_the_interpreter() -> None:
    """torch and sys hold on to it, so it is freed while the process ends."""
    assert child.run(CHILD + "sys.kept = torch.kept = w.grad; print('end')") == "end"
