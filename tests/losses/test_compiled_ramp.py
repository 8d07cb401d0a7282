"""A scale or a margin that changes in every step, under torch.compile: one graph, and the bits of the eager head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels.ops.load import OPS

STEPS = 12  # more than torch compiles one function before it gives up, 8
MARGINS: dict[str, Callable[[float], Any]] = {
    "ArcFace": lambda t: bs.ArcFace(0.5 * t),
    "CosFace": lambda t: bs.CosFace(0.35 * t),
    "CombinedMargin": lambda t: bs.CombinedMargin(1.0 + t, 0.3 * t, 0.2 * t),
    "SphereFace": lambda t: bs.SphereFace(1.0 + 3.0 * t, boundary="easy", target_grad="straight_through"),
    "no kernel's": lambda t: bs.AdaFace(),
}


class Counted:
    """Compiles a head and counts its graphs."""

    def __init__(self, head: bs.BasketSoftmaxLoss, backend: str) -> None:
        self.graphs = 0
        inner = torch._dynamo.lookup_backend(backend)

        def count(graph: Any, inputs: Any) -> Any:
            self.graphs += 1
            return inner(graph, inputs)

        torch._dynamo.reset()
        self.call = torch.compile(head, backend=count, fullgraph=True)


def gradients(head: bs.BasketSoftmaxLoss, call: Any) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    x, labels = torch.randn(9, 16, requires_grad=True), torch.randint(50, (9,))
    value = call(x, labels)
    return value.detach(), *torch.autograd.grad(value, (x, head.weight))


@pytest.mark.parametrize("mining", [bs.TopK(3, 1), bs.Own()], ids=str)
@pytest.mark.parametrize("family", MARGINS)
def test_one_graph_for_every_scale_and_margin(family: str, mining: Any) -> None:
    head = bs.BasketSoftmaxLoss([30, 20], 16, margin=MARGINS[family](0.0), mining=mining)
    compiled = Counted(head, "aot_eager")
    for step in range(STEPS):
        head.scale = 10.0 + step
        if family != "no kernel's":  # its running means would be a new head's
            head.margin = MARGINS[family](step / STEPS)
        state = {name: value.clone() for name, value in head.state_dict().items()}
        got = gradients(head, compiled.call)
        head.load_state_dict(state)
        assert all(torch.equal(a, b) for a, b in zip(got, gradients(head, head), strict=True))
    assert compiled.graphs == 1


def test_one_graph_of_inductor() -> None:
    head = bs.ArcFaceLoss(50, 16)
    compiled = Counted(head, "inductor")
    for step in range(3):
        head.scale, head.margin = 10.0 + step, bs.ArcFace(0.1 * step)
        for a, b in zip(gradients(head, compiled.call), gradients(head, head), strict=True):
            torch.testing.assert_close(a, b)
    assert compiled.graphs == 1


def test_a_backward_has_the_scale_of_its_forward() -> None:
    head = bs.ArcFaceLoss(50, 16, scale=20.0)
    want = gradients(head, head)
    compiled = Counted(head, "aot_eager")

    def call(x: Tensor, labels: Tensor) -> Tensor:
        value = compiled.call(x, labels)
        head.scale, head.margin = 64.0, bs.ArcFace(0.1)
        return value

    assert all(torch.equal(a, b) for a, b in zip(gradients(head, call), want, strict=True))


@pytest.mark.parametrize("op", ["cos_lse", "margin_softmax"])
def test_the_overload_with_numbers_is_an_op(op: str) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(5, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    labels, offsets = torch.arange(5), torch.tensor([0, 4, 9])
    numbers = torch.tensor([30.0, 1.0, 0.3, 0.1], dtype=torch.float64)
    rule = bs.TopK(2, 1).op_arguments()
    codes = (0, 0) if op == "margin_softmax" else ()
    torch.library.opcheck(
        getattr(OPS, op).numbers, (x, w, labels, offsets, None, None, numbers, *rule, -1, *codes)
    )


def test_a_scale_that_was_set_in_inference_mode_trains() -> None:
    head = bs.ArcFaceLoss(50, 16)
    compiled = Counted(head, "eager")
    with torch.inference_mode():
        head.scale, head.margin = 10.0, bs.ArcFace(0.3)
    got = gradients(head, compiled.call)
    assert all(torch.equal(a, b) for a, b in zip(got, gradients(head, head), strict=True))
