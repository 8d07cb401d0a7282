"""The running means of the Ema guard: vectorised update against a loop, and the guard per row."""

from __future__ import annotations

import torch

from bbs_kernels import ema


def test_update_against_a_loop() -> None:
    g = torch.Generator().manual_seed(0)
    means = torch.tensor([0.3, torch.inf, torch.inf, -0.1])
    cos = torch.rand(40, generator=g) * 2 - 1
    basket = torch.randint(0, 3, (40,), generator=g)
    basket[basket == 2] = 3  # basket 2 has no row
    valid = torch.rand(40, generator=g) < 0.8
    cos[3], cos[7] = torch.nan, torch.inf
    basket[~valid] = 99  # not read
    got = ema.updated(means, cos, basket, valid)
    for b, old in enumerate(means.tolist()):
        rows = cos[valid & (basket == b) & cos.isfinite()]
        want = (
            old
            if len(rows) == 0
            else rows.mean().item()
            if old == float("inf")
            else 0.98 * old + 0.02 * rows.mean().item()
        )
        torch.testing.assert_close(got[b].item(), want, rtol=1e-5, atol=1e-7)
    assert means.tolist()[1] == float("inf")  # the input is not changed


def test_batch_of_none_changes_nothing() -> None:
    means = torch.tensor([0.5, torch.inf], dtype=torch.float64)
    none = torch.zeros(0)
    assert torch.equal(ema.updated(means, none, none.long(), none.bool()), means)


def test_row_guards() -> None:
    got = ema.row_guards(
        torch.tensor([0.4, torch.inf]), 0.5, torch.tensor([0, 1, -1]), torch.tensor([True, True, False])
    )
    assert got.tolist() == [0.20000000298023224, torch.inf, torch.inf]
