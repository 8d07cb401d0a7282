"""row_basket, row_alias, mined_in_lse: w is a shard of the classes, and a row's class may be on another one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbs_kernels import functional, reference
from bbs_kernels.ops.prepare import prepare
from bbs_kernels.rules import Absolute, All, Below, Own, Relative, TopK
from support.tolerances import TABLE, relative_l2

from .problem import Problem, make

RULES = [
    All(),
    Own(),
    Below(Absolute(0.2)),
    Below(Relative(0.1)),
    TopK(5, 1),
    TopK(3, 2, Relative(0.1)),
    TopK(0, 0),
]
SIZES = (97, 0, 31, 1, 111)
SHARDS = {
    "even classes": lambda c: c % 2 == 0,
    "no class of the first basket": lambda c: c >= 97,
    "one class": lambda c: c == 100,
    "no class": lambda c: c < 0,
    "all classes": lambda c: c >= 0,
}  # fmt: skip


class Shard:
    """The part of a problem that a shard sees: arguments of both cos_lse functions."""

    def __init__(self, problem: Problem, kept: Tensor) -> None:
        self.index = kept.nonzero().flatten()
        self.offsets = torch.searchsorted(self.index, problem.offsets)
        labels = problem.labels.clamp_min(0)
        here = problem.valid & kept[labels]
        self.labels = torch.where(here, torch.searchsorted(self.index, labels), -3)
        basket = functional.basket_of(labels, problem.offsets)
        self.options: dict = {
            "scale": problem.scale,
            "mining": problem.mining,
            "row_basket": torch.where(problem.valid, basket, -1),
            "row_guard": None,
        }
        if isinstance(getattr(problem.mining, "guard", None), Relative):
            self.options["row_guard"] = problem.kernel()[1] - problem.mining.guard.d
        if problem.aliases is not None:
            self.options["aliases"] = problem.aliases[self.index]
            self.options["row_alias"] = torch.where(problem.valid, problem.aliases[labels], -1)
        self.x, self.w = problem.x, problem.w[self.index]

    def run(self, cos_lse, **more: object) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Outputs and the gradients of a weighted sum of lse and cos_t."""
        x, w = self.x.clone().requires_grad_(), self.w.clone().requires_grad_()
        out = cos_lse(x, w, self.labels, self.offsets, **self.options, **more)
        g = torch.Generator().manual_seed(5)
        u, t = torch.randn(2, len(x), generator=g, dtype=torch.float64)
        u = torch.where(out[0].detach().isinf(), 0.0, u)
        torch.autograd.backward(out[:2], [u.to(out[0].dtype), t.to(out[1].dtype)])
        return tuple(o.detach() for o in out), x.grad, w.grad


def close(got: Tensor, want: Tensor) -> None:
    """Of fp64 values; infinities and NaN in the same places."""
    finite = want.isfinite()
    assert torch.equal(got[~finite].nan_to_num(7.0), want[~finite].nan_to_num(7.0))
    assert relative_l2(got[finite], want[finite]) <= TABLE["fp64"].floor


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("kept", SHARDS)
@pytest.mark.parametrize("mined_in_lse", [True, False])
def test_agrees_with_reference(mining, kept: str, mined_in_lse: bool) -> None:
    problem = make(rows=21, sizes=SIZES, dtype=torch.float64, mining=mining, mates=True, copies=0.0)
    problem.x[5], problem.labels[5] = torch.nan, 100
    shard = Shard(problem, SHARDS[kept](torch.arange(sum(SIZES))))
    (lse, cos_t, idx, cos), dx, dw = shard.run(functional.cos_lse, mined_in_lse=mined_in_lse)
    want, want_dx, want_dw = shard.run(reference.cos_lse, mined_in_lse=mined_in_lse)
    assert torch.equal(idx, want[2])
    for a, b in zip((lse, cos_t, cos, dx), (want[0], want[1], want[3], want_dx), strict=True):
        close(a, b)
    # dW may be NaN in every class that the NaN row touches; the dense reference has it in all of them.
    assert not (dw.isnan() & ~want_dw.isnan()).any()
    close(torch.where(want_dw.isnan(), torch.nan, dw), want_dw)
    assert lse.isfinite().any() or kept in ("one class", "no class")


@pytest.mark.parametrize("mining", RULES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_shard_with_everything_is_the_plain_call(mining, dtype: torch.dtype) -> None:
    problem = make(rows=70, depth=40, sizes=(450, 0, 31, 200), mining=mining, dtype=dtype, mates=True)
    shard = Shard(problem, torch.ones(681, dtype=torch.bool))
    out, dx, dw = shard.run(functional.cos_lse)
    plain = Shard(problem, torch.ones(681, dtype=torch.bool))
    plain.labels = problem.labels
    for name in ("row_basket", "row_alias", "row_guard"):
        plain.options.pop(name, None)
    want, want_dx, want_dw = plain.run(functional.cos_lse)
    for a, b in zip(out, want, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(dx, want_dx)
    assert torch.equal(dw, want_dw)


@pytest.mark.parametrize("guard", [None, Absolute(0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lists_of_the_shards_hold_what_one_process_mines(guard, dtype: torch.dtype) -> None:
    """The 6 best of each shard, put together and cut to the 5 after the first, are the plain call's, bit for bit."""
    problem = make(rows=70, depth=40, sizes=(450, 31, 200), dtype=dtype, copies=0.3, mining=TopK(5, 1, guard))
    classes = torch.arange(681)
    _, cos_t, want_idx, want_cos = problem.kernel()
    idx, cos, partial_cos_t = [], [], torch.zeros(70)
    for part in (classes % 3 == 0, classes % 3 == 1, classes % 3 == 2):
        shard = Shard(problem.replace(mining=TopK(6, 0, guard)), part)
        out, _, _ = shard.run(functional.cos_lse, mined_in_lse=False)
        partial_cos_t += out[1]
        idx.append(torch.where(out[2] < 0, 10**6, shard.index[out[2].clamp_min(0)]))
        cos.append(torch.where(out[2] < 0, -torch.inf, out[3]))
    idx, cos = torch.cat(idx, 2), torch.cat(cos, 2)
    order = idx.argsort(dim=2, stable=True)
    idx, cos = idx.gather(2, order), cos.gather(2, order)
    order = cos.argsort(dim=2, descending=True, stable=True)[:, :, 1:6]
    idx, cos = idx.gather(2, order), cos.gather(2, order)
    assert torch.equal(partial_cos_t, cos_t)
    assert torch.equal(torch.where(cos == -torch.inf, -1, idx), want_idx)
    assert torch.equal(torch.where(cos == -torch.inf, 0.0, cos), want_cos)


def test_own_basket_alone() -> None:
    problem = make(rows=37, mining=TopK(5, 1))
    want = problem.replace(mining=Own()).kernel()[0]
    lse, _, idx, _ = problem.kernel(mined_in_lse=False)
    assert torch.equal(lse, want)
    assert torch.equal(idx, problem.kernel()[2])


def test_partial_gradients_of_the_embeddings_are_not_rounded() -> None:
    problem = make(rows=9, dtype=torch.bfloat16)
    shard = Shard(problem, torch.ones(240, dtype=torch.bool))
    call = prepare(shard.x, shard.w, shard.labels, shard.offsets, **shard.options)
    u = torch.ones(9)
    dx, dw = call.backward(u, u, shard.w, call.forward(shard.x, shard.w), True, True)
    assert dx.dtype == torch.float32
    assert dw.dtype == torch.bfloat16
    assert torch.equal(dx.bfloat16(), problem.kernel_gradients(u, u)[0])
    assert not torch.equal(dx, dx.bfloat16().float())


def test_sampled_classes_of_a_shard() -> None:
    problem = make(rows=37, sizes=SIZES, mates=True)
    shard = Shard(problem, torch.arange(240) % 2 == 0)
    chosen = torch.arange(len(shard.index)) % 3 != 0
    chosen[shard.labels[shard.labels >= 0]] = True
    out, dx, dw = shard.run(functional.cos_lse, class_index=chosen.nonzero().flatten())
    kept = torch.zeros(240, dtype=torch.bool)
    kept[shard.index[chosen]] = True
    small = Shard(problem, kept)
    want, want_dx, want_dw = small.run(functional.cos_lse)
    position = chosen.nonzero().flatten()
    assert torch.equal(out[2], torch.where(want[2] < 0, -1, position[want[2].clamp_min(0)]))
    for a, b in zip((out[0], out[1], out[3], dx), (want[0], want[1], want[3], want_dx), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(dw._values(), want_dw)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("row_basket", torch.tensor([0, 5, 1]), r"row_basket\[1\]: expected 0 to 1 or -1 .*, got 5"),
        ("row_basket", torch.tensor([0, -2, 1]), r"row_basket\[1\]: expected 0 to 1 or -1 .*, got -2"),
        ("row_basket", torch.tensor([0, 1]), r"row_basket: expected shape \[3\], got \[2\]"),
        ("row_basket", torch.tensor([0.0, 1.0, 1.0]), "row_basket: expected int64, got float32"),
        ("row_alias", torch.tensor([0, 1]), r"row_alias: expected shape \[3\], got \[2\]"),
        ("labels", torch.tensor([0, 9, -1]), r"labels\[1\]: expected .* negative .* in basket 1 of this shard, got 9"),
        ("labels", torch.tensor([7, 7, -1]), r"labels\[0\]: expected .* negative .* in basket 0 of this shard, got 7"),
    ],
)  # fmt: skip
def test_bad_arguments(name: str, value: Tensor, message: str) -> None:
    arguments = {"labels": torch.tensor([0, 7, -1]), "row_basket": torch.tensor([0, 1, 1]), name: value}
    x, w, offsets = torch.randn(3, 4), torch.randn(9, 4), torch.tensor([0, 6, 9])
    with pytest.raises((RuntimeError, TypeError, ValueError), match=message):
        functional.cos_lse(x, w, arguments.pop("labels"), offsets, scale=64.0, mining=Own(), **arguments)


def test_guards_of_rows_must_fit_the_rule() -> None:
    x, w, labels, offsets = (
        torch.randn(3, 4),
        torch.randn(9, 4),
        torch.tensor([0, 7, -1]),
        torch.tensor([0, 6, 9]),
    )
    with pytest.raises(
        ValueError, match=r"row_guard: expected None with Own\(\), which has no guard, got Tensor"
    ):
        functional.cos_lse(x, w, labels, offsets, scale=64.0, mining=Own(), row_guard=torch.ones(3))
    with pytest.raises(ValueError, match=r"row_guard: expected a tensor \[B\] with row_basket and Below"):
        functional.cos_lse(
            x, w, labels, offsets, scale=64.0, mining=Below(Relative(0.1)), row_basket=torch.tensor([0, 1, 1])
        )
