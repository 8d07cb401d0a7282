"""The yardsticks themselves: each must let the right thing through and catch the wrong one."""

from __future__ import annotations

import pytest
import torch

from support.tolerances import (
    assert_gradient,
    assert_losses,
    direction_error,
    loss_bound,
    relative_l2,
    signed_bias,
)


def test_measures_of_a_scaled_copy() -> None:
    want = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert relative_l2(0.9 * want, want) == pytest.approx(0.1)
    assert signed_bias(0.9 * want, want) == pytest.approx(-0.1)
    assert direction_error(0.9 * want, want) < 1e-15
    assert direction_error(want.flip(0), want) == pytest.approx(1.0 + 24.0 / 25.0)
    assert relative_l2(torch.tensor([0.5]), torch.zeros(1)) == 0.5


def test_loss_bound_is_the_formula() -> None:
    got = loss_bound(torch.tensor([40.0, 1e-6], dtype=torch.float64), 64.0)
    assert got[0].item() == pytest.approx(4e-5 + 2.56e-5, rel=1e-9)
    assert got[1].item() == pytest.approx(1e-6 + 2.56e-11, rel=1e-6)


def test_losses_beyond_the_bound_or_with_another_nan_fail() -> None:
    want = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert_losses((want + 1e-6).float(), want, 1.0)
    with pytest.raises(AssertionError, match="beyond the tolerance"):
        assert_losses(want + 1e-4, want, 1.0)
    with pytest.raises(AssertionError, match="NaN"):
        assert_losses(torch.tensor([1.0, torch.nan]), want, 1.0)


def test_a_systematic_shrinking_fails_although_the_relative_error_is_allowed() -> None:
    want = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = 0.01 * torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = noise - want * (noise @ want) / (want @ want)
    assert_gradient("d", want + noise, want, want + noise, "bf16")
    with pytest.raises(AssertionError, match="bias"):
        assert_gradient("d", 0.985 * want, want, want + noise, "bf16")
    with pytest.raises(AssertionError, match="relative L2"):
        assert_gradient("d", want + 3 * noise, want, want + noise, "bf16")
