"""Keys: their order is the rule's, they lose nothing, and two of them enclose exactly what was selected."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bbs_kernels.class_parallel import candidates

DTYPES = [torch.float32, torch.float64]
LARGEST_CLASS = 2**31 - 2


def ties(rows: int, n: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """[rows, n] cosines with many ties of both signs, and distinct classes; some places are empty."""
    g = torch.Generator().manual_seed(seed)
    cos = torch.randint(-4, 5, (rows, n), generator=g).to(dtype) / 4 + 0.0
    classes = torch.stack([torch.randperm(5 * n, generator=g)[:n] for _ in range(rows)])
    empty = torch.rand(rows, n, generator=g) < 0.2
    return torch.where(empty, 0.0, cos), torch.where(empty, -1, classes)


def in_order(cos: Tensor, classes: Tensor) -> list[tuple[float, int]]:
    found = [(c, i) for c, i in zip(cos.tolist(), classes.tolist(), strict=True) if i >= 0]
    return sorted(found, key=lambda pair: (-pair[0], pair[1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_lose_nothing(dtype: torch.dtype) -> None:
    cos = torch.tensor([1.0, -1.0, 0.0, 1e-30, -1e-30, 1.0000001, -0.25, 0.5], dtype=dtype)
    classes = torch.tensor([0, 1, LARGEST_CLASS, 65536, 2**16 - 1, 2**30, 7, -1])
    back, index = candidates.read_keys(candidates.make_keys(cos, classes), dtype)
    assert back.dtype == dtype
    assert torch.equal(back, torch.where(classes < 0, 0.0, cos))
    assert torch.equal(index, classes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_best(dtype: torch.dtype) -> None:
    cos, classes = ties(20, 30, dtype)
    keys = candidates.best(candidates.make_keys(cos, classes), 12)
    got = candidates.read_keys(keys, dtype)
    for i in range(20):
        assert (
            list(zip(got[0][i].tolist(), got[1][i].tolist(), strict=True))
            == in_order(cos[i], classes[i])[:12]
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "most"), [(1, 0), (3, 2), (40, 1), (5, 40)])
def test_selection_and_its_boundaries(dtype: torch.dtype, k: int, most: int) -> None:
    cos, classes = ties(24, 15, dtype, seed=k)
    classes[7] = -1  # a row without any candidate
    skip = torch.arange(24).view(8, 3) % (most + 1)
    keys = candidates.make_keys(cos, classes).view(8, 3, 15, -1)
    chosen = candidates.select(keys, skip, k, most, dtype)
    inside = candidates.between(keys, chosen.first, chosen.last).view(24, 15)
    for i in range(24):
        want = in_order(cos[i], classes[i])[int(skip.flatten()[i]) :][:k]
        listed = chosen.classes.view(24, k)[i]
        assert listed[listed >= 0].tolist() == [c for _, c in want]
        assert chosen.cos.view(24, k)[i][listed >= 0].tolist() == [v for v, _ in want]
        assert (listed[len(want) :] == -1).all()
        assert sorted(classes[i][inside[i]].tolist()) == sorted(c for _, c in want)
