"""A state_dict of other baskets is refused, although its tensors would fit; what loaded before still does."""

from __future__ import annotations

import copy
import io
from collections import OrderedDict

import pytest
import torch
from torch import nn

import basket_softmax as bs


def head(baskets: dict[str, int] | list[int]) -> bs.BasketSoftmaxLoss:
    return bs.BasketSoftmaxLoss(baskets, 8)


def through_a_file(state: OrderedDict) -> OrderedDict:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("carry", [lambda s: s, copy.deepcopy, through_a_file])
@pytest.mark.parametrize(
    "other", [{"b": 20, "a": 20}, {"a": 20, "c": 20}, {"a": 21, "b": 19}, {"a": 40}, [10, 30]]
)
def test_other_baskets_are_refused(carry, other) -> None:
    saved, target = head({"a": 20, "b": 20}), head(other)
    before = target.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"those of the baskets \{'a': 20, 'b': 20\}, this head has"):
        target.load_state_dict(carry(saved.state_dict()))
    assert torch.equal(target.weight, before)
    target.load_full_weight(saved.weight)


@pytest.mark.parametrize("same", [{"a": 20, "b": 20}, [20, 20]])
def test_the_same_baskets_and_bare_sizes_load(same) -> None:
    saved, target = head({"a": 20, "b": 20}), head(same)
    target.load_state_dict(saved.state_dict(), strict=True)
    assert torch.equal(target.weight, saved.weight)
    saved.load_state_dict(target.state_dict(), strict=True)


def test_inside_another_module() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(8, 8), "loss": head({"a": 20, "b": 20})})
    other = nn.ModuleDict({"backbone": nn.Linear(8, 8), "loss": head({"b": 20, "a": 20})})
    assert set(model.state_dict()) == {"backbone.weight", "backbone.bias", "loss.weight"}
    with pytest.raises(RuntimeError, match="those of the baskets"):
        other.load_state_dict(model.state_dict())


def test_after_add_basket() -> None:
    saved = head({"a": 20})
    saved.add_basket("b", 20)
    head({"a": 20, "b": 20}).load_state_dict(saved.state_dict())
    with pytest.raises(RuntimeError, match="those of the baskets"):
        head({"a": 20, "x": 20}).load_state_dict(saved.state_dict())


def test_states_without_baskets_load_as_ever() -> None:
    """Older files, other libraries' heads, plain dicts."""
    target, weight = head({"a": 20, "b": 20}), torch.randn(40, 8)
    for state in ({"weight": weight}, OrderedDict(weight=weight), nn.Linear(8, 40, bias=False).state_dict()):
        target.load_state_dict(state, strict=True)
        assert torch.equal(target.weight, state["weight"])
    nn.Linear(8, 40, bias=False).load_state_dict(target.state_dict(), strict=True)
    assert list(target.state_dict(destination={})) == ["weight"]
