"""The fast part: one step of each kind of product, so that the default suite runs the device's host code."""

from __future__ import annotations

import pytest
import torch

import basket_softmax as bs

from .steps import step


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_the_loss(precision: str, gpu) -> None:
    one = step(bs.TopK(3, 1, bs.Relative(0.1)), precision=precision, mates=True, margin=bs.ArcFace(0.3))
    one.check(gpu)
    assert gpu.launches[0].symbol.startswith("bbs_prepare_rows")
    assert {launch.device for launch in gpu.launches} == {0}


def test_a_label_out_of_range_is_told_later(gpu) -> None:
    one = step(bs.TopK(3, 1, bs.Relative(0.1)), precision="fp32", mates=True, reduction="none")
    x, labels = one.batch
    wrong = labels.clone()
    wrong[5] = 97
    with gpu.whole_stack(), torch.no_grad():
        losses = one.head(x, wrong)
        assert losses[5].isnan()
        assert losses[torch.arange(len(losses)) != 5].isfinite().all()
        with pytest.raises(RuntimeError, match="expected 0 to 96 or ignore_index, got 97;"):
            bs.check()
        bs.check()
        assert one.head(x, labels).isfinite().all()
