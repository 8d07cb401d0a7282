"""Rules and guards as frozen values: pickle, repr, hash; numbers at the edge of what is allowed."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch

import basket_softmax as bs
from basket_softmax import Absolute, All, Below, Ema, Own, Relative, TopK
from bbs_kernels.rules import MAX_SLOTS, OpArguments, check_rule

RULES = [
    All(), Own(), Below(Absolute(0.4)), Below(Relative(-0.1)), Below(Ema(0.5)), TopK(), TopK(0, 128),
    TopK(3, 2, Ema(0.5)),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_copies_are_equal(rule) -> None:
    for twin in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule), eval(repr(rule))):
        assert twin == rule
        assert hash(twin) == hash(rule)
    assert check_rule(rule) is rule


@pytest.mark.parametrize("rule", [*RULES, Absolute(0.1), Relative(0.1), Ema(0.1)], ids=str)
def test_frozen(rule) -> None:
    for field in dataclasses.fields(rule):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule, field.name, 1)


def test_no_two_rules_are_equal() -> None:
    assert len(set(RULES)) == len(RULES)
    assert All() != Own()
    assert Absolute(0.1) != Relative(0.1)


def test_default_is_sixty_four_after_leaving_out_one() -> None:
    assert TopK() == TopK(k=64, skip=1, guard=None)


def test_numbers_become_floats() -> None:
    for guard, field in ((Absolute(1), "t"), (Relative(1), "d"), (Ema(1), "r")):
        assert isinstance(getattr(guard, field), float)
    assert Below(Relative(-0.1)).op_arguments() == OpArguments(2, 0, 0, 2, -0.1)
    assert TopK(0, 128, Ema(2.0)).op_arguments() == OpArguments(3, 0, 128, 3, 0.0)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Absolute(float("nan")), ValueError, "Absolute: t: expected a finite number, got nan"),
        (lambda: Absolute(True), TypeError, "Absolute: t: expected a number, got True"),
        (lambda: Relative(float("-inf")), ValueError, "Relative: d: expected a finite number, got -inf"),
        (lambda: Ema(-1), ValueError, "Ema: r: expected a number above 0, got -1.0"),
        (lambda: Ema(float("nan")), ValueError, "Ema: r: expected a finite number"),
        (lambda: Below(None), TypeError, "Below: guard: expected Absolute, Relative or Ema, got None"),
        (lambda: TopK(guard=Below), TypeError, "TopK: guard: expected "),
        (lambda: TopK(skip=True), TypeError, "TopK: skip: expected an int, got True"),
        (lambda: TopK(skip=0.0), TypeError, "TopK: skip: expected an int, got 0.0"),
        (lambda: TopK(0, 129), ValueError, r"k \+ skip: expected at most 128, got k=0 and skip=129"),
        (lambda: check_rule(TopK), TypeError, "mining: expected "),
    ],
)
def test_refused(build, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_the_bound_on_mined_slots_is_inclusive() -> None:
    baskets = MAX_SLOTS // 64
    head = bs.BasketSoftmaxLoss([64] * baskets, 3, mining=TopK(64, 1))
    assert head(torch.randn(2, 3), torch.tensor([0, 1])).isfinite()
    message = r"mining: expected up to 16384 listed classes a row, got 16448"
    with pytest.raises(ValueError, match=message):
        bs.BasketSoftmaxLoss([64] * (baskets + 1), 3, mining=TopK(64, 1))
    with pytest.raises(ValueError, match=message):
        head.add_basket("new", 64)
    assert len(head.baskets) == baskets


def test_small_baskets_do_not_count_their_whole_k() -> None:
    head = bs.BasketSoftmaxLoss([2] * 1000, 3, mining=TopK(100, 1))
    assert head(torch.randn(2, 3), torch.tensor([0, 1])).isfinite()
