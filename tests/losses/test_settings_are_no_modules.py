"""`scale` and `mining` are settings: a parameter or a module in their place is refused, at once and later."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import basket_softmax as bs

LEARNED = nn.Parameter(torch.tensor(3.0))


def test_a_learned_scale_is_refused() -> None:
    for make in (
        lambda: bs.ArcFaceLoss(9, 4, scale=LEARNED),
        lambda: bs.BasketSoftmaxLoss([9], 4, scale=LEARNED),
    ):
        with pytest.raises(TypeError, match="scale: expected a number, got Parameter"):
            make()
    head = bs.ArcFaceLoss(9, 4, scale=5.0)
    with pytest.raises(TypeError, match="scale: expected a number, got Parameter"):
        head.scale = LEARNED
    assert head.scale == 5.0
    assert [name for name, _ in head.named_parameters()] == ["weight"]


def test_a_module_is_no_rule() -> None:
    head = bs.BasketSoftmaxLoss([9], 4, mining=bs.Own())
    with pytest.raises(TypeError):
        head.mining = nn.Linear(2, 2)
    assert head.mining == bs.Own()
    assert not list(head.children())
