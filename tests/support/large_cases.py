"""A training step beside fp64 on its own device, at sizes that a dense reference does not reach.

`compare(case, device)` runs the public loss forward and backward, with a workspace that holds all classes and with one
that needs many runs, and returns every error beside the one that is allowed. tests/cuda and the report of a GPU share
it; on the CPU the same code runs with small shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import functional as core
from bbs_kernels.ops.call import DEFAULT_WORKSPACE_BYTES
from support.blocked_reference import Problem, Step, best_cosines, cosines_of, multiplied_in, step
from support.tolerances import (
    assert_gradient,
    cosine_bound,
    device_loss_bound,
    exponent_error,
    gradient_bound,
    relative_l2,
)

SCALE, MARGIN = 32.0, 0.3
MINED, SKIPPED = 16, 1
ONE_RUN, SEVERAL_RUNS = 1 << 34, 4 << 20  # bytes of workspace
NOISE = 1.2  # norm of the noise beside a centre of norm 1: target cosines around 0.64


class Case(Protocol):
    """kind: a key of `KINDS`; `classes` are spread evenly over `baskets`."""

    @property
    def kind(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def baskets(self) -> int: ...


class Kind(NamedTuple):
    """dtypes of x and w, the row of the tolerance table, and whether fp32 products may be tf32."""

    x: torch.dtype
    w: torch.dtype
    precision: str
    tf32: bool = False


KINDS = {
    "fp32": Kind(torch.float32, torch.float32, "fp32"),
    "tf32": Kind(torch.float32, torch.float32, "tf32", tf32=True),
    "bf16, fp32 W": Kind(torch.bfloat16, torch.float32, "bf16"),
    "bf16": Kind(torch.bfloat16, torch.bfloat16, "bf16"),
    "fp16, fp32 W": Kind(torch.float16, torch.float32, "fp16"),
    "fp16": Kind(torch.float16, torch.float16, "fp16"),
}


class Figure(NamedTuple):
    """An error and the one that is allowed."""

    error: float
    allowed: float


class Outcome(NamedTuple):
    """Errors by name, and one line for each that is too large."""

    figures: dict[str, Figure]
    failures: list[str]


class Result(NamedTuple):
    """What a step gave: losses, lse, cos_t, mined_idx, mined_cos and both gradients of the sum of the losses."""

    losses: Tensor
    lse: Tensor
    cos_t: Tensor
    mined_idx: Tensor
    mined_cos: Tensor
    dx: Tensor
    dw: Tensor


@contextmanager
def matmul_precision(tf32: bool) -> Iterator[None]:
    """fp32 products as tf32 or exactly, in torch and in the loss, which follows it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def rounded_to_tf32(values: Tensor) -> Tensor:
    """fp32 values to nearest with 10 bits of mantissa."""
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def rule_of(case: Case) -> Any:
    return bs.Own() if case.baskets == 1 else bs.TopK(k=MINED, skip=SKIPPED)


def make_problem(case: Case, device: str, seed: int = 0) -> Problem:
    """x in the kind's dtype near its centres, w likewise; every third identity stands in two baskets.

    Values of tf32 are rounded here, so that the operands are exact in every kind.
    """
    kind, generator = KINDS[case.kind], torch.Generator(device).manual_seed(seed)
    size = case.classes // case.baskets
    classes = size * case.baskets
    w = torch.randn(classes, case.width, generator=generator, device=device)
    if case.baskets > 1:
        here = torch.arange(0, size, 3, device=device)
        w[size + here] = w[here] + 0.3 * torch.randn(
            len(here), case.width, generator=generator, device=device
        )
    labels = torch.randint(classes, (case.rows,), generator=generator, device=device)
    noise = torch.randn(case.rows, case.width, generator=generator, device=device)
    x = w[labels] + NOISE * noise
    labels[5::41] = -1
    offsets = torch.arange(case.baskets + 1) * size
    if kind.tf32:
        x, w = rounded_to_tf32(x), rounded_to_tf32(w)
    return Problem(x.to(kind.x), w.to(kind.w), labels, offsets, SCALE)


def losses_of(
    p: Problem, rule: Any, workspace_bytes: int = DEFAULT_WORKSPACE_BYTES
) -> tuple[Callable[[], Tensor], tuple[Tensor, Tensor]]:
    """The losses [B] of the problem as a function, and the leaves x and w that they hang on.

    Through `BasketSoftmaxLoss` where its centres have a dtype that it takes, else through the op.
    """
    x, margin = p.x.detach().requires_grad_(), bs.ArcFace(MARGIN)
    if p.w.dtype == torch.float32:
        loss = bs.BasketSoftmaxLoss(
            p.offsets.diff().tolist(), p.x.shape[1], margin, p.scale, rule, "none", device="meta",
            workspace_bytes=workspace_bytes,
        )  # fmt: skip
        loss.weight = torch.nn.Parameter(p.w.detach())
        return lambda: loss(x, p.labels), (x, loss.weight)
    w = p.w.detach().requires_grad_()
    valid = p.labels >= 0

    def forward() -> Tensor:
        losses, *_ = core.margin_softmax(
            x,
            w,
            p.labels,
            p.offsets,
            margin=margin,
            scale=p.scale,
            mining=rule,
            workspace_bytes=workspace_bytes,
        )
        return torch.where(valid, losses, 0.0)

    return forward, (x, w)


def run_step(p: Problem, rule: Any, workspace_bytes: int) -> Result:
    """The loss with its gradients, and what the same sweep found for each row."""
    with torch.no_grad():
        found = core.cos_lse(p.x, p.w, p.labels, p.offsets, scale=p.scale, mining=rule)
    forward, leaves = losses_of(p, rule, workspace_bytes)
    losses = forward()
    return Result(losses.detach(), *found, *torch.autograd.grad(losses.sum(), leaves))


def compare(case: Case, device: str) -> Outcome:
    """Every error of the step beside its bound, and what is wrong."""
    kind, rule = KINDS[case.kind], rule_of(case)
    given = make_problem(case, device)
    exact = given._replace(w=given.w.to(kind.x)) if kind.x != torch.float32 else given
    with matmul_precision(kind.tf32):
        got = run_step(given, rule, ONE_RUN)
        again = run_step(given, rule, SEVERAL_RUNS)
        product = torch.matmul if kind.x == torch.float32 else multiplied_in(kind.x)
        eager = step(exact, got.mined_idx, bs.ArcFace(MARGIN), torch.float32, product)
    want = step(exact, got.mined_idx, bs.ArcFace(MARGIN), torch.float64)
    check = _Check(kind, case.width)
    check.cosines(got, exact, want)
    check.losses(got, want)
    for name in ("dx", "dw"):
        check.gradient(name, getattr(got, name), getattr(want, name), getattr(eager, name))
    check.runs(got, again)
    return Outcome(check.figures, check.failures)


class _Check:
    """Collects figures and failures of one case."""

    def __init__(self, kind: Kind, width: int) -> None:
        self.kind = kind
        self.figures: dict[str, Figure] = {}
        self.failures: list[str] = []
        self.cosine = cosine_bound(kind.precision, width)
        self.exponent = exponent_error(kind.precision, width, SCALE)

    def note(self, name: str, error: Tensor | float, allowed: float) -> None:
        figure = Figure(float(error), float(allowed))
        self.figures[name] = figure
        if not figure.error <= figure.allowed:  # NaN too
            self.failures.append(f"{name}: error {figure.error:.3g}, allowed {figure.allowed:.3g}")

    def cosines(self, got: Result, exact: Problem, want: Step) -> None:
        """Target cosines, log-sum-exps, and that no class was mined while a better one was left."""
        self.note("cos_t", _largest(got.cos_t - want.cos_t), self.cosine)
        finite = want.lse.isfinite()
        if not torch.equal(got.lse.isfinite(), finite):
            self.failures.append("lse: infinite in other rows than the reference")
        error = _largest((got.lse - want.lse)[finite])
        self.note("lse", error, SCALE * self.cosine + 1e-6 * _largest(want.lse[finite]))
        if not got.mined_idx.numel():
            return
        listed = got.mined_idx >= 0
        self.note(
            "mined_cos", _largest((got.mined_cos - cosines_of(exact, got.mined_idx))[listed]), self.cosine
        )
        best = best_cosines(exact, MINED + SKIPPED)[..., SKIPPED:]
        if not torch.equal(listed, best.isfinite()):
            self.failures.append("mined_idx: other places are filled than in the reference")
            return
        self.note("mined, against the best", _largest((got.mined_cos - best)[listed]), self.cosine)

    def losses(self, got: Result, want: Step) -> None:
        allowed = device_loss_bound(want.losses, SCALE, self.cosine)
        excess = (got.losses.double() - want.losses).abs() / allowed
        self.note("loss, in units of its bound", _largest(excess), 1.0)

    def gradient(self, name: str, got: Tensor, want: Tensor, eager: Tensor) -> None:
        allowed = gradient_bound(self.kind.precision, relative_l2(eager, want), self.exponent)
        self.figures[name] = Figure(relative_l2(got, want), allowed)
        try:
            assert_gradient(name, got, want, eager, self.kind.precision, self.exponent)
        except AssertionError as error:
            self.failures.append(str(error))

    def runs(self, got: Result, again: Result) -> None:
        """Runs change the order of dx's sums alone."""
        self.note("several runs: elements of dw that differ", (got.dw != again.dw).sum(), 0.0)
        self.note("several runs: dx", relative_l2(again.dx, got.dx), self.figures["dx"].allowed)


def _largest(values: Tensor) -> float:
    """The largest magnitude, 0 of nothing; NaN where there is one."""
    return float(values.abs().max()) if values.numel() else 0.0
