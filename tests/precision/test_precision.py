"""fp32 products follow torch's setting, through its older interface, its newer one and the generic one."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo import reset

import basket_softmax as bs
from basket_softmax.matching.cosines import Cosines
from bbs_kernels.ops.precision import allow_tf32, cpu_lowers_fp32
from support.fake_cuda import fake_cuda, outside

MATMUL = torch.backends.cuda.matmul


def older(on: bool) -> None:
    torch.set_float32_matmul_precision("high" if on else "highest")


def allow(on: bool) -> None:
    MATMUL.allow_tf32 = on


def newer(on: bool) -> None:
    MATMUL.fp32_precision = "tf32" if on else "ieee"


def generic(on: bool) -> None:
    torch.backends.fp32_precision = "tf32" if on else "ieee"


@pytest.fixture(autouse=True)
def unset():
    """Every setting as in a new process, before and after."""

    def clear() -> None:
        reset()  # dynamo writes the setting of the matmul that it saw
        MATMUL.fp32_precision = torch.backends.fp32_precision = "none"
        torch.set_float32_matmul_precision("highest")
        MATMUL.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"

    clear()
    yield
    clear()


@pytest.fixture
def fp32():
    with fake_cuda():
        yield torch.empty(2, 3, device="cuda")


SETTERS = pytest.mark.parametrize("setter", [older, allow, newer, generic], ids=lambda f: f.__name__)


@SETTERS
def test_tf32_is_allowed_where_the_setting_allows_it(fp32, setter):
    assert allow_tf32(fp32) is False
    for on in (True, False, True):
        setter(on)
        assert allow_tf32(fp32) is on
        assert allow_tf32(fp32.bfloat16()) is False
        assert allow_tf32(fp32.cpu()) is False


def test_own_setting_of_the_matmul_beats_the_generic_one(fp32):
    generic(True)
    newer(False)
    assert allow_tf32(fp32) is False


class Ran:
    """A backend that notes the argument `allow_tf32` of the ops in each graph that runs."""

    def __init__(self) -> None:
        self.arguments: list[list[bool]] = []

    def __call__(self, module: torch.fx.GraphModule, inputs: list) -> object:
        arguments = [given for node in module.graph.nodes if (given := allowed_in(node)) is not None]

        def run(*values: object) -> object:
            self.arguments.append(arguments)
            return module.forward(*values)

        return run


def allowed_in(node: torch.fx.Node) -> bool | None:
    """Return the argument `allow_tf32` of a call, None where it has none."""
    if node.op != "call_function" or not str(node.target).startswith("bbs_kernels."):
        return None
    op = node.target
    if isinstance(
        op, torch._ops.OpOverloadPacket
    ):  # a head hands its numbers over in a tensor where it is compiled
        op = getattr(op, "numbers" if "numbers" in op.overloads() else "default")
    names = [argument.name for argument in op._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}.get("allow_tf32")


@SETTERS
@pytest.mark.parametrize("rule", [bs.Own(), bs.Below(bs.Ema(0.5))], ids=str)  # Ema calls target_cos too
def test_compiled_loss_follows_the_setting(setter, rule):
    ran, baskets = Ran(), bs.Baskets([30, 20])
    allowed = []
    with fake_cuda():
        loss = bs.BasketSoftmaxLoss(baskets, 16, mining=rule, device="cuda")
        loss.baskets = baskets
        compiled = torch.compile(loss, fullgraph=True, backend=ran)
        x = torch.randn(8, 16, device="cuda", requires_grad=True)
        labels = torch.zeros(8, dtype=torch.int64, device="cuda")
        for on in (False, True, False, True):
            setter(on)
            # torch.compile pins the matmul's own setting, so that a generic one no longer reaches any matmul.
            allowed.append(MATMUL.fp32_precision == "tf32")
            compiled(x, labels).backward()
    ops = 2 if isinstance(rule, bs.Below) else 1
    assert ran.arguments == [[on] * ops for on in allowed]
    if setter is not generic:
        assert allowed == [False, True, False, True]


@pytest.mark.parametrize("on", [False, True])
def test_head_on_a_device_with_the_newer_interface(on):
    """The older interface raises from then on."""
    baskets = outside(lambda: bs.Baskets([30, 20]))
    newer(on)
    with fake_cuda():
        loss = bs.BasketSoftmaxLoss(baskets, 16, device="cuda")
        loss.baskets = baskets
        x = torch.randn(8, 16, device="cuda", requires_grad=True)
        loss(x, torch.zeros(8, dtype=torch.int64, device="cuda")).backward()
        assert x.grad.device == loss.weight.grad.device == x.device


@pytest.mark.parametrize(("value", "lowered"), [("highest", False), ("high", True), ("medium", True)])
def test_cpu_products_follow_the_older_interface(value, lowered):
    torch.set_float32_matmul_precision(value)
    assert cpu_lowers_fp32() is lowered


def test_cpu_products_follow_the_newer_interface():
    for value, lowered in (("bf16", True), ("ieee", False), ("tf32", True), ("none", False)):
        torch.backends.mkldnn.matmul.fp32_precision = value
        assert cpu_lowers_fp32() is lowered
    torch.backends.fp32_precision = "tf32"
    assert cpu_lowers_fp32() is True


def test_overlaps_work_with_the_newer_interface():
    newer(True)
    exact = Cosines(torch.randn(7, 5), torch.float32)
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    assert Cosines(torch.randn(7, 5), torch.float32).coarse_error > 10 * exact.coarse_error
