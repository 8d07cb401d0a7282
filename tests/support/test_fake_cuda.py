"""What the tests on fake CUDA tensors rest on: devices as Python sees them, gradients, and the watch on the host."""

from __future__ import annotations

import pytest
import torch

from support.fake_cuda import CUDA, TOLD, NoHostSync, fake_cuda, outside, whole
from support.pairwise import pairwise


@pytest.mark.parametrize("told", ["meta", "cpu"])
def test_python_sees_cuda_and_gradients_come_back(told):
    with fake_cuda(told):
        x = torch.randn(3, 4, device="cuda", requires_grad=True)
        w = torch.randn(4, 2, device="cuda", dtype=torch.float16, requires_grad=True)
        assert x.is_cuda
        assert x.device == CUDA
        assert not torch.empty(1).is_cuda
        out = (
            torch.where((x.half() @ w).abs() < 1, 0.0, torch.zeros_like(x[:, :2])).sum()
            + (x.half() @ w).sum()
        )
        assert out.device == CUDA
        out.backward()
        assert (x.grad.device, x.grad.dtype, x.grad.shape) == (CUDA, torch.float32, x.shape)
        assert (w.grad.device, w.grad.dtype, w.grad.shape) == (CUDA, torch.float16, w.shape)
    assert "is_cuda" not in torch._subclasses.FakeTensor.__dict__


def test_operands_on_two_devices_are_refused():
    with fake_cuda(), pytest.raises(RuntimeError, match="devices"):
        torch.randn(3, device="cuda") + torch.randn(3)


def test_compiled_gradients_come_back():
    torch._dynamo.reset()
    with fake_cuda(TOLD[whole()]):
        x = torch.randn(3, device="cuda", requires_grad=True)
        compiled = torch.compile(lambda x: torch.where(x > 0, x, 0.0).sum(), fullgraph=True, backend=whole())
        compiled(x).backward()
        assert (x.grad.device, x.grad.shape) == (CUDA, x.shape)


def test_outside_makes_real_tensors():
    with fake_cuda():
        assert outside(lambda: torch.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.cpu(),
        lambda x: x.to("cpu", torch.float64),
        lambda x: torch.empty(4).copy_(x),
        lambda x: torch.ones(4).to(CUDA),
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
        lambda x: torch.equal(x, x),
    ],
)
def test_waiting_for_the_device_is_noticed(waits):
    with fake_cuda():
        x = torch.randn(4, device="cuda")
        with NoHostSync(), pytest.raises(AssertionError, match=r"waits|copies"):
            waits(x)


def test_a_step_that_never_waits_passes():
    with fake_cuda():
        x = torch.randn(4, device="cuda", requires_grad=True)
        with NoHostSync():
            (torch.where(x > 0, x, 0.0).to(torch.float16)[[0, 2]] * torch.tensor(2.0)).sum().backward()


def test_pairs_are_covered():
    factors = {"a": range(4), "b": "xyz", "c": [True, False], "d": range(3)}
    cases = pairwise(factors, lambda case: not (case["a"] == 0 and case["c"]))
    assert len(cases) < 16
    assert not any(case["a"] == 0 and case["c"] for case in cases)
    names = list(factors)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            met = {(case[first], case[second]) for case in cases}
            wanted = len(factors[first]) * len(factors[second]) - ({first, second} == {"a", "c"})
            assert len(met) == wanted, (first, second)
