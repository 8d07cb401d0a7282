"""Rows by (basket, row): counted in a small batch, sorted in a large one, with the same bits."""

from __future__ import annotations

import pytest
import torch

from bbs_kernels import _core
from bbs_kernels.rules import RULE_OWN

pytestmark = pytest.mark.emulated

SORT = ["bbs_count_digits", "bbs_scan_digits", "bbs_scatter_digits"]


@pytest.mark.parametrize(("baskets", "passes"), [(3, 1), (260, 2)])
def test_a_sorted_batch_has_the_bits_of_a_counted_one(baskets: int, passes: int, gpu) -> None:
    """With an ignored row and one of a label out of range, whose codes sort last; two passes from 255 baskets on."""
    generator = torch.Generator().manual_seed(0)
    rows = 24
    x, w = (torch.randn(n, 8, generator=generator) for n in (rows, 2 * baskets))
    labels = torch.randint(0, 2 * baskets, (rows,), generator=generator)
    labels[5], labels[7], labels[8] = -1, 2 * baskets, -1
    offsets = torch.arange(0, 2 * baskets + 1, 2)
    found = []
    for sorts_rows in (False, True):
        with gpu.run(sorts_rows=sorts_rows) as ops:
            found.append(ops.cos_lse(x, w, labels, offsets, None, None, 16.0, RULE_OWN, 0, 0, 0, 0.0, -1)[:2])
            symbols = [launch.symbol for launch in gpu.launches]
            assert [s for s in symbols if s in SORT] == SORT * passes * sorts_rows
            assert ("bbs_order_rows" in symbols) != sorts_rows
            with pytest.raises(RuntimeError, match=f"got {2 * baskets};"):
                ops.check_labels()
    for counted, in_order in zip(*found, strict=True):
        torch.testing.assert_close(in_order, counted, rtol=0, atol=0, equal_nan=True)


def test_large_batches_are_sorted() -> None:
    """Counting takes the square of the rows."""
    call = {
        "w": (0, 100, 64, 64, 1, 4), "operand": 3, "labels": 0, "aliases": 0, "guard_rows": 0, "baskets": 1,
        "ignore_index": -1, "rule": 0, "guard_kind": 0, "k": 0, "skip": 0, "scale": 1.0, "guard_value": 0.0,
    }  # fmt: skip
    machine = _core.machine_of(90, 132)
    for rows, passes in ((8192, 0), (8193, 1)):
        plan = _core.plan_forward({**call, "x": (0, rows, 64, 64, 1, 4)}, [0, 100], machine)
        assert plan["sort_passes"] == passes
