"""class_index (Partial FC): the same as a problem that has only the sampled classes, with indices into the whole W."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels.rules import Absolute, All, Below, Own, TopK

from .problem import Problem, make


def sampled(problem: Problem, seed: int) -> tuple[torch.Tensor, Problem]:
    """The index and the problem made of those classes alone."""
    g = torch.Generator().manual_seed(seed)
    chosen = torch.rand(len(problem.w), generator=g) < 0.4
    chosen[problem.labels[problem.valid]] = True
    index = chosen.nonzero().flatten()
    local = torch.where(problem.valid, torch.searchsorted(index, problem.labels.clamp_min(0)), -1)
    offsets = torch.searchsorted(index, problem.offsets)
    aliases = None if problem.aliases is None else problem.aliases[index]
    return index, problem.replace(w=problem.w[index], labels=local, offsets=offsets, aliases=aliases)


@pytest.mark.parametrize("mining", [All(), Own(), TopK(5, 1), Below(Absolute(0.2))], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equals_the_smaller_problem(mining, dtype: torch.dtype) -> None:
    problem = make(rows=37, sizes=(200, 0, 97, 150), mining=mining, dtype=dtype, mates=True)
    index, small = sampled(problem, 1)
    lse, cos_t, idx, cos = problem.kernel(class_index=index)
    want_lse, want_cos_t, want_idx, want_cos = small.kernel()
    assert torch.equal(lse, want_lse)
    assert torch.equal(cos_t, want_cos_t)
    assert torch.equal(cos, want_cos)
    assert torch.equal(idx, torch.where(want_idx < 0, -1, index[want_idx.clamp_min(0)]))
    u, t = torch.randn(2, 37)
    dx, dw = problem.kernel_gradients(u, t, class_index=index)
    want_dx, want_dw = small.kernel_gradients(u, t)
    assert torch.equal(dx, want_dx)
    assert dw.is_sparse
    assert dw.shape == problem.w.shape
    assert torch.equal(dw._indices()[0], index)
    assert torch.equal(dw._values(), want_dw)


def test_all_classes_sampled() -> None:
    problem = make()
    for a, b in zip(problem.kernel(class_index=torch.arange(len(problem.w))), problem.kernel(), strict=True):
        assert torch.equal(a, b)


def test_no_class_sampled() -> None:
    problem = make(rows=5, ignored=1.1)
    lse, _, idx, _ = problem.kernel(class_index=torch.empty(0, dtype=torch.int64))
    assert (lse == -torch.inf).all()
    assert (idx == -1).all()


def test_ignore_index_that_is_a_class() -> None:
    problem = make(rows=20, sizes=(9, 9), ignored=0.0, ignore_index=4)
    index = torch.cat([problem.labels[problem.labels != 4], torch.tensor([0, 17])]).unique()
    got = problem.kernel(class_index=index)
    assert (got[0][problem.labels == 4] == -torch.inf).all()
    assert (got[1][problem.labels == 4] == 0).all()
