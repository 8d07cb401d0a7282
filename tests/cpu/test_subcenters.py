"""Sub-centres on the CPU: the kernels against the reference, and what must not depend on how classes are cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from bbs_kernels import functional
from bbs_kernels.margins import ArcFace
from bbs_kernels.ops.load import OPS
from bbs_kernels.ops.prepare import prepare
from bbs_kernels.rules import Absolute, All, Below, Own, TopK

from .agree import check_backward, check_forward, settle, settle_centres
from .problem import Problem, make, upstream
from .strategies import problems

SUBCENTERS = (2, 3, 3, 4, 5, 7, 16)
RULES = [All(), Own(), Below(Absolute(0.1)), TopK(5, 1)]
THOROUGH = settings(max_examples=600, suppress_health_check=list(HealthCheck))


def agrees(problem: Problem, wrt: str) -> None:
    problem = settle_centres(settle(problem))
    event(f"{int(problem.valid.sum() > 0)} with rows")
    check_forward(problem, problem.kernel(), problem.oracle())
    check_backward(problem, *upstream(problem), wrt)


@given(problems(subcenters=SUBCENTERS), st.sampled_from(["xw", "xw", "x", "w"]))
def test_agrees_with_reference(problem: Problem, wrt: str) -> None:
    agrees(problem, wrt)


@pytest.mark.slow
@THOROUGH
@given(problems(subcenters=SUBCENTERS), st.sampled_from(["xw", "xw", "x", "w"]))
def test_agrees_with_reference_thorough(problem: Problem, wrt: str) -> None:
    agrees(problem, wrt)


@pytest.mark.parametrize("mining", RULES, ids=str)
def test_copies_of_a_centre_change_no_bit(mining) -> None:
    """A class that has its one centre r times is a class with one centre, and its first copy gets the gradient."""
    one = make(rows=40, depth=33, sizes=(97, 500, 3), mining=mining, scale=16.0, ignored=0.1)
    many = one.replace(w=one.w.repeat_interleave(3, dim=0), subcenters=3)
    want, got = one.kernel(), many.kernel()
    for a, b in zip(got[1:], want[1:], strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(got[0], want[0], rtol=1e-6, atol=1e-6)  # other tiles, another order of the sum
    u, t = upstream(one)
    dw = many.kernel_gradients(u, t)[1].view(-1, 3, 33)
    torch.testing.assert_close(dw[:, 0], one.kernel_gradients(u, t)[1], rtol=1e-4, atol=1e-5)
    assert (dw[:, 1:] == 0).all()


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_threads_and_stash_change_no_bit(mining, threads: int) -> None:
    problem = make(
        rows=50, depth=24, sizes=(300, 333, 1), mining=mining, scale=32.0, subcenters=3, mates=True
    )
    u, t = upstream(problem)
    before = torch.get_num_threads()
    want = (*problem.kernel(), *problem.kernel_gradients(u, t))
    try:
        torch.set_num_threads(threads)
        for stash in (0, 20_000, 1 << 30):
            got = (*problem.kernel(), *problem.kernel_gradients(u, t, stash_bytes=stash))
            for a, b in zip(got, want, strict=True):
                assert torch.equal(a, b)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mining", RULES, ids=str)
def test_nan_reaches_the_rows_that_touch_it(mining, dtype) -> None:
    """One sub-centre without a number makes its class NaN, and so every row that reads the class; no other."""
    problem = make(rows=40, depth=19, sizes=(30, 50, 20), mining=mining, scale=8.0, subcenters=3, dtype=dtype)
    problem.labels[problem.labels == 60] = 61
    problem.w[60 * 3 + 1, 4] = float("nan")
    lse, cos_t, _, _ = problem.kernel()
    want_lse, want_cos_t, _, _ = problem.oracle()
    assert torch.equal(lse.isnan(), want_lse.isnan())
    assert lse.isnan().any()
    assert torch.equal(cos_t.isnan(), want_cos_t.isnan())
    u, t = torch.ones(2, len(problem.labels), dtype=torch.float64)
    dx, dw = problem.kernel_gradients(torch.where(want_lse.isinf(), 0.0, u), t)
    assert torch.equal(dx.isnan().any(1), want_lse.isnan())
    assert dw[181].isnan().all()


def test_mined_rows_of_the_op_are_centres() -> None:
    """`mined_idx` of the op names the nearest centre, which backward needs; the function's, the class."""
    problem = make(rows=20, depth=16, sizes=(40, 60), mining=TopK(4, 1), subcenters=3, ignored=0.0)
    call = prepare(
        problem.x, problem.w, problem.labels, problem.offsets, scale=8.0, mining=problem.mining, subcenters=3
    )
    rows, cos = call.forward(problem.x, problem.w)[2:4]
    classes = problem.kernel()[2]
    assert torch.equal(torch.div(rows, 3, rounding_mode="floor"), classes)
    unit = torch.nn.functional.normalize
    for i, b, n in torch.nonzero(rows >= 0).tolist():
        c = unit(problem.x[i], dim=0) @ unit(problem.w[rows[i, b, n]], dim=0)
        assert abs(float(c - cos[i, b, n])) < 1e-6


@pytest.mark.parametrize("mining", RULES, ids=str)
def test_sampled_classes_are_those_of_a_smaller_problem(mining) -> None:
    """Partial FC: the classes of `class_index` with all their centres."""
    problem = make(rows=30, depth=20, sizes=(60, 70), mining=mining, scale=16.0, subcenters=3, mates=True)
    chosen = torch.unique(torch.cat([problem.labels[problem.valid], torch.arange(0, 130, 3)]))
    rows = (chosen[:, None] * 3 + torch.arange(3)).flatten()
    small = problem.replace(
        w=problem.w[rows], labels=torch.where(problem.valid, torch.searchsorted(chosen, problem.labels), -1),
        offsets=torch.searchsorted(chosen, problem.offsets), aliases=problem.aliases[chosen],
    )  # fmt: skip
    got, want = problem.kernel(class_index=chosen), small.kernel()
    listed = torch.where(want[2] < 0, -1, chosen[want[2].clamp_min(0)])
    for a, b in zip(got, (*want[:2], listed, want[3]), strict=True):
        assert torch.equal(a, b)
    u, t = upstream(small)
    got_dx, got_dw = problem.kernel_gradients(u, t, class_index=chosen)
    want_dx, want_dw = small.kernel_gradients(u, t)
    assert torch.equal(got_dx, want_dx)
    assert torch.equal(got_dw.coalesce().indices()[0], rows)
    assert torch.equal(got_dw.coalesce().values(), want_dw)


def test_fused_margin_is_the_formula() -> None:
    problem = make(rows=30, depth=20, sizes=(60, 70), scale=16.0, subcenters=4, ignored=0.0)
    losses, cos_t, idx, _ = functional.margin_softmax(
        problem.x, problem.w, problem.labels, problem.offsets, margin=ArcFace(0.3), scale=16.0,
        mining=problem.mining, subcenters=4,
    )  # fmt: skip
    lse, want_cos_t, want_idx, _ = problem.kernel()
    assert torch.equal(cos_t, want_cos_t)
    assert torch.equal(idx, want_idx)
    want = functional.row_losses(lse, ArcFace(0.3)(cos_t), 16.0)
    torch.testing.assert_close(losses, want, rtol=1e-6, atol=1e-6)


def test_opcheck() -> None:
    problem = make(rows=9, depth=8, sizes=(10, 12), mining=TopK(2, 1), subcenters=2)
    call = prepare(
        problem.x, problem.w, problem.labels, problem.offsets, scale=8.0, mining=problem.mining, subcenters=2
    )
    w = problem.w.clone().requires_grad_()
    torch.library.opcheck(OPS.cos_lse.default, call.forward_arguments(call.x, w))


@pytest.mark.parametrize(
    ("subcenters", "error", "says"),
    [
        (0, ValueError, "subcenters: expected 1 to 16, got 0"),
        (17, ValueError, "subcenters: expected 1 to 16, got 17"),
        (4, ValueError, "w: expected a multiple of subcenters = 4 as rows, got 22"),
        (2.0, TypeError, "subcenters: expected an int, got 2.0"),
        (1, RuntimeError, "offsets: expected to run from 0 to the number of classes, 22, got 0 to 11"),
    ],
)
def test_messages(subcenters, error, says: str) -> None:
    problem = make(rows=5, depth=8, sizes=(5, 6), subcenters=2)
    with pytest.raises(error, match=says):
        problem.replace(subcenters=subcenters).kernel()
