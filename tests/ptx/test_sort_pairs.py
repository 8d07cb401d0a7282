"""The sort of the sparse pairs against NumPy's stable sort: sizes around a block, few and many classes."""

from __future__ import annotations

import numpy as np
import pytest
from backward_rows import NO_PAIR, PAIR, plan_sort, sort_pairs

from support.chosen import each

pytestmark = pytest.mark.ptx


def random_pairs(count: int, classes: int, *, empty: float = 0.3, seed: int = 0) -> np.ndarray:
    """Few of the classes, so that most occur several times; position and payload tell equal ones apart."""
    rng = np.random.default_rng(seed)
    pairs = np.zeros(count, PAIR)
    some = np.append(rng.integers(0, classes, 1 + count // 3), [0, classes - 1])
    pairs["label"] = np.where(rng.random(count) < empty, NO_PAIR, rng.choice(some, count))
    pairs["position"] = np.arange(count) // 3
    for field in ("coefficient", "cos", "class_inverse"):
        pairs[field] = rng.standard_normal(count)
    return pairs


def check(pairs: np.ndarray, classes: int, **options) -> None:
    want = pairs[np.argsort(pairs["label"], kind="stable")]
    np.testing.assert_array_equal(sort_pairs(pairs, classes, **options), want)


@each(count=[1, 255, 256, 257, 2049, 5000], classes=[1, 2, 255, 256, 300, 65536, 1_000_003, 2**31 - 1])
def test_sizes(count, classes):
    check(random_pairs(count, classes), classes)


@each(classes=[300, 2**31 - 1], seed=[1, 2, 3])
def test_schedules(classes, seed):
    check(random_pairs(5000, classes, seed=seed), classes, seed=seed)


def test_votes_do_not_order_memory():
    """Lanes of a warp count in turns: each turn needs its own __syncwarp, though votes lie between."""
    check(random_pairs(3000, 300), 300, checks={"warp_order": "strict"})


@pytest.mark.parametrize("empty", [0.0, 1.0])
def test_all_or_none_empty(empty):
    check(random_pairs(3000, 1000, empty=empty), 1000)


def test_one_class():
    pairs = random_pairs(4100, 500, empty=0.0)
    pairs["label"] = 499
    check(pairs, 500)


def test_more_blocks_than_a_scan_takes_at_once():
    """A block per 2048 pairs and 256 of those in one step of the scan over them."""
    count = 2048 * 257 + 1
    assert plan_sort(count, 7)["blocks"] == 258
    check(random_pairs(count, 7), 7)


def test_architectures():
    check(random_pairs(3000, 70_000), 70_000, arch=80)


@pytest.mark.parametrize(
    ("classes", "passes", "digits"),
    [(1, 1, 2), (255, 1, 256), (256, 2, 32), (1_000_003, 3, 128), (2**31 - 1, 4, 256)],
)
def test_passes_follow_the_number_of_classes(classes, passes, digits):
    plan = plan_sort(1000, classes)
    assert (plan["passes"], plan["digits"]) == (passes, digits)
