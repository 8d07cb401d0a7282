"""Rules and guards: values, op arguments, messages."""

from __future__ import annotations

import pytest

import basket_softmax as bs
from bbs_kernels import _core
from bbs_kernels.rules import MAX_LIST, MAX_SLOTS, check_rule, ema_guard


def test_op_arguments():
    assert bs.All().op_arguments() == (0, 0, 0, 0, 0.0)
    assert bs.Own().op_arguments() == (1, 0, 0, 0, 0.0)
    assert bs.Below(bs.Absolute(0.4)).op_arguments() == (2, 0, 0, 1, 0.4)
    assert bs.Below(bs.Relative(0.1)).op_arguments() == (2, 0, 0, 2, 0.1)
    assert bs.TopK().op_arguments() == (3, 64, 1, 0, 0.0)
    assert bs.TopK(5, 2, bs.Ema(0.7)).op_arguments() == (3, 5, 2, 3, 0.0)


def test_limits_are_those_of_the_kernels():
    assert (_core.MAX_LISTED, _core.MAX_MINED_PER_ROW) == (MAX_LIST, MAX_SLOTS)


def test_rules_are_values():
    assert bs.TopK(5) == bs.TopK(k=5, skip=1)
    assert len({bs.All(), bs.All(), bs.Own()}) == 2
    with pytest.raises(AttributeError):
        bs.TopK().k = 3


def test_ema_guard():
    assert ema_guard(bs.TopK(guard=bs.Ema(0.5))) == bs.Ema(0.5)
    assert ema_guard(bs.Below(bs.Absolute(0.5))) is None
    assert ema_guard(bs.All()) is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bs.TopK(k=-1), ValueError, "TopK: k: expected an int from 0, got -1"),
        (lambda: bs.TopK(k=2.0), TypeError, "TopK: k: expected an int, got 2.0"),
        (lambda: bs.TopK(k=True), TypeError, "TopK: k: expected an int, got True"),
        (lambda: bs.TopK(skip=-2), ValueError, "TopK: skip: expected an int from 0"),
        (
            lambda: bs.TopK(k=128, skip=1),
            ValueError,
            r"k \+ skip: expected at most 128, got k=128 and skip=1",
        ),
        (lambda: bs.TopK(guard=0.4), TypeError, "guard: expected Absolute, Relative, Ema or None, got 0.4"),
        (lambda: bs.Below(0.4), TypeError, "Below: guard: expected Absolute, Relative or Ema, got 0.4"),
        (lambda: bs.Absolute(float("inf")), ValueError, "Absolute: t: expected a finite number"),
        (lambda: bs.Relative("a"), TypeError, "Relative: d: expected a number, got 'a'"),
        (lambda: bs.Ema(0), ValueError, "Ema: r: expected a number above 0, got 0.0"),
        (lambda: check_rule(None), TypeError, r"mining: expected All\(\), Own\(\), Below\(guard\) or TopK"),
    ],
)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()
