"""The ops as torch sees them: opcheck, torch.compile in one graph, gradcheck."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

from bbs_kernels import ArcFace, CombinedMargin, functional
from bbs_kernels.ops.call import DEFAULT_WORKSPACE_BYTES
from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK
from support.tolerances import TABLE, relative_l2

from .problem import Problem, make
from .strategies import layout

OPS = torch.ops.bbs_kernels
RULES = [
    All(),
    Own(),
    Below(Absolute(0.2)),
    Below(Relative(0.1)),
    TopK(3, 1),
    TopK(0, 0),
    TopK(3, 1, Ema(0.5)),
]


def op_arguments(problem: Problem, stash_bytes: int = 0, class_index: torch.Tensor | None = None) -> tuple:
    rule = problem.mining.op_arguments()
    guard = (
        torch.full((len(problem.labels),), 0.3, dtype=problem.kernel()[0].dtype)
        if rule.guard_kind == 3
        else None
    )
    return (
        problem.x, problem.w, problem.labels, problem.offsets, guard, problem.aliases, problem.scale, rule.rule, rule.k,
        rule.skip, rule.guard_kind, rule.guard_value, -1, class_index, stash_bytes,
    )  # fmt: skip


def small(**fields: object) -> Problem:
    return make(rows=9, depth=5, sizes=(6, 7), ema=torch.tensor([0.5, 0.6]), **fields)


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("gradients", ["", "x", "w", "xw"])
def test_opcheck_cos_lse(mining, gradients: str) -> None:
    problem = small(mining=mining, mates=True)
    x, w, *rest = op_arguments(problem)
    opcheck(
        OPS.cos_lse.default, (x.requires_grad_("x" in gradients), w.requires_grad_("w" in gradients), *rest)
    )


@pytest.mark.parametrize(
    "dtypes", [(torch.float64, None), (torch.float16, torch.float32), (torch.bfloat16, None)]
)
@pytest.mark.parametrize("kind", ["contiguous", "transposed", "padded", "every second column"])
def test_opcheck_dtypes_and_layouts(dtypes: tuple, kind: str) -> None:
    problem = small(dtype=dtypes[0], w_dtype=dtypes[1])
    x, w, *rest = op_arguments(problem)
    x, w = layout(x, kind).detach(), layout(w, kind).detach()
    opcheck(OPS.cos_lse.default, (x.requires_grad_(), w.requires_grad_(), *rest))


MARGIN = (1.0, 0.5, 0.1, 0, 0)  # m1, m2, m3, boundary, target_grad


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("gradients", ["", "x", "w", "xw"])
def test_opcheck_margin_softmax(mining, gradients: str) -> None:
    problem = small(mining=mining, mates=True)
    x, w, *rest, class_index, stash_bytes = op_arguments(problem)
    inputs = (x.requires_grad_("x" in gradients), w.requires_grad_("w" in gradients))
    opcheck(OPS.margin_softmax.default, (*inputs, *rest, *MARGIN, class_index, stash_bytes))


@pytest.mark.parametrize("dtypes", [(torch.float64, None), (torch.float16, torch.float32)])
@pytest.mark.parametrize("kind", ["transposed", "every second column"])
@pytest.mark.parametrize("stash_bytes", [0, 1000])
def test_opcheck_margin_softmax_dtypes_layouts_and_stash(dtypes: tuple, kind: str, stash_bytes: int) -> None:
    problem = small(dtype=dtypes[0], w_dtype=dtypes[1])
    x, w, *rest, class_index, _ = op_arguments(problem)
    x, w = layout(x, kind).detach(), layout(w, kind).detach()
    opcheck(
        OPS.margin_softmax.default,
        (x.requires_grad_(), w.requires_grad_(), *rest, *MARGIN, class_index, stash_bytes),
    )


def test_opcheck_margin_softmax_no_rows() -> None:
    x, w, *rest, class_index, stash_bytes = op_arguments(make(rows=0, depth=5, sizes=(6, 7)))
    opcheck(
        OPS.margin_softmax.default,
        (x.requires_grad_(), w.requires_grad_(), *rest, *MARGIN, class_index, stash_bytes),
    )


@pytest.mark.parametrize("gradients", ["", "xw"])
def test_opcheck_sampled_classes(gradients: str) -> None:
    problem = small(ignored=0.0)
    index = torch.cat([problem.labels, torch.tensor([0, 12])]).unique()
    x, w, *rest = op_arguments(problem, class_index=index)
    opcheck(
        OPS.cos_lse.default, (x.requires_grad_("x" in gradients), w.requires_grad_("w" in gradients), *rest),
        test_utils=("test_schema", "test_faketensor"),  # the others cannot compare a sparse gradient
    )  # fmt: skip


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("kind", ["contiguous", "transposed"])
def test_opcheck_cos_lse_backward(needs: tuple[bool, bool], kind: str) -> None:
    problem = small()
    problem = problem.replace(x=layout(problem.x, kind), w=layout(problem.w, kind))
    arguments = op_arguments(problem)
    out = OPS.cos_lse(*arguments)
    x, w, labels, offsets, guard, aliases, scale, rule, _, _, kind_, value, ignore, index, _ = arguments
    u, t = torch.randn(2, 9)
    opcheck(
        OPS.cos_lse_backward.default,
        (u, t, x, w, labels, offsets, *out, guard, aliases, scale, rule, kind_, value, ignore, index, *needs),
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_opcheck_cos_lse_backward_sgd(momentum: float) -> None:
    problem = small()
    arguments = op_arguments(problem)
    out = OPS.cos_lse(*arguments)
    x, w, labels, offsets, guard, aliases, scale, rule, _, _, kind, value, ignore, index, _ = arguments
    u, t = torch.randn(2, 9)
    buffer = torch.randn_like(w) if momentum else None
    opcheck(
        OPS.cos_lse_backward_sgd.default,
        (u, t, x, w, labels, offsets, *out, guard, aliases, scale, rule, kind, value, ignore, index, True, buffer,
         False, 0.1, momentum, 0.0, 0.01, False),
    )  # fmt: skip


def test_opcheck_target_cos() -> None:
    problem = small()
    opcheck(OPS.target_cos.default, (problem.x, problem.w, problem.labels, problem.offsets, -1))


def test_opcheck_look_ups() -> None:
    offsets = torch.tensor([0, 3, 3, 8])
    opcheck(OPS.basket_of.default, (torch.tensor([0, 2, 3, 7, -1]), offsets))
    opcheck(OPS.first_class.default, (torch.tensor([0, 3, 1, 1]), offsets))


@pytest.mark.parametrize("op", ["cos_lse", "margin_softmax", "cos_lse_backward"])
def test_the_schema_has_the_default_workspace(op: str) -> None:
    (argument,) = (a for a in getattr(OPS, op).default._schema.arguments if a.name == "workspace_bytes")
    assert argument.default_value == DEFAULT_WORKSPACE_BYTES


@pytest.mark.parametrize("stash_bytes", [1000, 1 << 20])
def test_opcheck_with_a_stash(stash_bytes: int) -> None:
    problem = small(dtype=torch.float64)
    x, w, *rest = op_arguments(problem, stash_bytes)
    opcheck(OPS.cos_lse.default, (x.requires_grad_(), w.requires_grad_(), *rest))


def test_opcheck_no_rows() -> None:
    problem = make(rows=0, depth=5, sizes=(6, 7))
    x, w, *rest = op_arguments(problem)
    opcheck(OPS.cos_lse.default, (x.requires_grad_(), w.requires_grad_(), *rest))


@pytest.mark.parametrize("mining", [All(), TopK(3, 1), Below(Relative(0.1)), TopK(3, 1, Ema(0.5))], ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_fullgraph(mining, dynamic: bool) -> None:
    torch._dynamo.reset()

    def loss(x, w, labels, offsets, ema):
        lse, cos_t, _, _ = functional.cos_lse(x, w, labels, offsets, scale=64.0, mining=mining, ema=ema)
        valid = labels != -1
        return functional.reduce_rows(functional.row_losses(lse, cos_t - 0.2, 64.0), valid)

    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (9, 17) if dynamic else (9,):
        problem = make(rows=rows, depth=5, sizes=(6, 7))
        ema = torch.tensor([0.5, 0.6])
        grads = []
        for f in (loss, compiled):
            x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
            value = f(x, w, problem.labels, problem.offsets, ema)
            value.backward()
            grads.append((value.detach(), x.grad, w.grad))
        for a, b in zip(*grads, strict=True):
            assert relative_l2(a, b) <= TABLE["fp32"].floor


@pytest.mark.parametrize("margin", [ArcFace(0.5), CombinedMargin(1.1, 0.3, 0.1, "easy")], ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_fullgraph_with_the_fused_margin(margin, dynamic: bool) -> None:
    torch._dynamo.reset()

    def loss(x, w, labels, offsets):
        losses, *_ = functional.margin_softmax(
            x, w, labels, offsets, margin=margin, scale=64.0, mining=TopK(3, 1)
        )
        return functional.reduce_rows(losses, labels != -1)

    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (9, 17) if dynamic else (9,):
        problem = make(rows=rows, depth=5, sizes=(6, 7))
        x, w = problem.x.requires_grad_(), problem.w.requires_grad_()
        results = []
        for f in (loss, compiled):
            value = f(x, w, problem.labels, problem.offsets)
            results.append((value.detach(), *torch.autograd.grad(value, (x, w))))
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("mining", [Own(), TopK(3, 1)], ids=str)
def test_gradcheck_of_the_fused_margin(mining) -> None:
    problem = make(
        rows=7, depth=4, sizes=(4, 5), dtype=torch.float64, mining=mining, spread=0.1, copies=0.0, scale=4.0,
        ignored=0.2,
    )  # fmt: skip

    def f(x, w):
        return functional.margin_softmax(
            x, w, problem.labels, problem.offsets, margin=ArcFace(0.3), scale=4.0, mining=mining
        )[0]

    x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
    assert torch.autograd.gradcheck(f, (x, w), eps=1e-7, atol=1e-5)


def test_the_fused_margin_has_no_second_derivative() -> None:
    problem = small()
    x, w = problem.x.requires_grad_(), problem.w.requires_grad_()
    losses, *_ = functional.margin_softmax(
        x, w, problem.labels, problem.offsets, margin=ArcFace(0.5), scale=64.0, mining=Own()
    )
    (dx,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        dx.sum().backward()


@pytest.mark.slow
def test_compile_with_inductor() -> None:
    torch._dynamo.reset()
    problem = make(rows=9, depth=5, sizes=(6, 7))

    def loss(x, w):
        lse, cos_t, _, _ = functional.cos_lse(
            x, w, problem.labels, problem.offsets, scale=64.0, mining=TopK(3, 1)
        )
        return functional.row_losses(lse, cos_t - 0.2, 64.0).sum()

    x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
    want = torch.autograd.grad(loss(x, w), (x, w))
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True)(x, w), (x, w))
    for a, b in zip(got, want, strict=True):
        assert relative_l2(a, b) <= TABLE["fp32"].floor


def test_compile_with_an_ema_that_is_updated() -> None:
    torch._dynamo.reset()
    problem = make(rows=9, depth=5, sizes=(6, 7))

    def step(x, w, ema):
        return functional.cos_lse(
            x,
            w,
            problem.labels,
            problem.offsets,
            scale=64.0,
            mining=TopK(3, 1, Ema(0.5)),
            ema=ema,
            training=True,
        )[0]

    plain, compiled = torch.full((2,), torch.inf), torch.full((2,), torch.inf)
    want = step(problem.x, problem.w, plain)
    got = torch.compile(step, fullgraph=True, backend="aot_eager")(problem.x, problem.w, compiled)
    assert torch.equal(got, want)
    assert torch.equal(plain, compiled)
    assert plain.isfinite().all()


@pytest.mark.parametrize("mining", RULES, ids=str)
def test_gradcheck(mining) -> None:
    problem = make(
        rows=7, depth=4, sizes=(4, 5), dtype=torch.float64, mining=mining, spread=0.1, copies=0.0, scale=4.0,
        ema=torch.tensor([0.5, 0.6], dtype=torch.float64), ignored=0.0,
    )  # fmt: skip
    problem.labels[3] = -1

    def f(x, w):
        lse, cos_t, _, _ = problem.replace(x=x, w=w).kernel()
        rows = lse.isfinite()
        return lse[rows], cos_t

    x, w = problem.x.clone().requires_grad_(), problem.w.clone().requires_grad_()
    assert torch.autograd.gradcheck(f, (x, w), eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(f, (x, w.detach()), eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(f, (x.detach(), w), eps=1e-7, atol=1e-5)


def test_mined_outputs_have_no_gradient() -> None:
    problem = small()
    out = problem.replace(x=problem.x.clone().requires_grad_()).kernel()
    assert [t.requires_grad for t in out] == [True, True, False, False]
    with torch.no_grad():
        assert not any(t.requires_grad for t in problem.kernel())
