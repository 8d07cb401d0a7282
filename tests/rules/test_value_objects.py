"""Rules survive pickling, printing and hashing, and every guard reaches the op arguments."""

from __future__ import annotations

import copy
import pickle

import pytest

from bbs_kernels.rules import Absolute, All, Below, Ema, Own, Relative, TopK, check_rule


@pytest.mark.parametrize("rule", [All(), Own(), Below(Relative(0.1)), TopK(3, 2, Ema(0.5))], ids=str)
def test_value_object(rule) -> None:
    twin = pickle.loads(pickle.dumps(rule))
    assert twin == rule == copy.deepcopy(rule)
    assert len({rule, twin}) == 1
    assert eval(repr(rule)) == rule
    assert check_rule(rule) is rule


@pytest.mark.parametrize(
    ("guard", "want"), [(Absolute(1), (1, 1.0)), (Relative(-0.1), (2, -0.1)), (Ema(2), (3, 0.0))]
)
def test_guards(guard, want: tuple) -> None:
    """An Ema guard is multiplied into one number per row before the op, so its value there is 0."""
    assert Below(guard).op_arguments()[3:] == want
    assert TopK(0, 128, guard).op_arguments() == (3, 0, 128, *want)


@pytest.mark.parametrize("rule", [TopK, "topk", 3])
def test_a_class_or_a_name_is_no_rule(rule) -> None:
    with pytest.raises(TypeError, match="mining must be"):
        check_rule(rule)
