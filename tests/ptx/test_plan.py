"""Launch plans and parameter bytes: what the launcher will do, asked of `_core`."""

from __future__ import annotations

import numpy as np
import pytest

from bbs_kernels import _core

pytestmark = pytest.mark.ptx

OFFSETS = {
    "one": [0, 1],
    "empty_baskets": [0, 0, 5, 5, 300, 300],
    "exact_tiles": [0, 128, 384],
    "many": list(range(0, 4097 * 7, 7)),
    "large": [0, 1_000_000, 1_000_001, 10_000_000],
}


@pytest.mark.parametrize("blocks", [1, 7, 132])
@pytest.mark.parametrize("rows", [1, 128, 1000])
@pytest.mark.parametrize("name", OFFSETS)
def test_segments_cover_each_class_once(name: str, rows: int, blocks: int) -> None:
    offsets = OFFSETS[name]
    plan = _core.plan_forward(rows, 2, 2, offsets, 3, 1, blocks)
    segments = np.frombuffer(plan["segments"], "i4").reshape(-1, 5)
    splits = np.frombuffer(plan["split_begin"], "i4")
    baskets = np.frombuffer(plan["basket_begin"], "i4")
    basket, first, last, slot, capacity = segments.T
    assert first[0] == 0
    assert last[-1] == offsets[-1]
    assert (first[1:] == last[:-1]).all()
    assert (first < last).all()
    edges = np.array(offsets)
    assert (edges[basket] <= first).all()  # no segment straddles a basket
    assert (last <= edges[basket + 1]).all()
    whole = (first - edges[basket]) % 128 == 0  # and each begins at a tile of its basket
    assert whole.all()
    assert (capacity == np.minimum(4, last - first)).all()
    assert (slot == np.cumsum(capacity) - capacity).all()
    assert plan["list_length"] == capacity.sum()
    for b in range(len(offsets) - 1):
        assert (basket[baskets[b] : baskets[b + 1]] == b).all()
    assert splits[0] == 0
    assert splits[-1] == len(segments) == baskets[-1]
    tiles = np.add.reduceat(-(-(last - first) // 128), splits[:-1])
    assert tiles.max() - tiles.min() <= 1  # balanced to a tile
    assert plan["sweep"]["grid"] == (-(-rows // 128), plan["splits"], 1)
    assert len(tiles) == plan["splits"] <= max(1, blocks)


def test_parameters_are_packed_by_name() -> None:
    with pytest.raises(KeyError, match="x"):
        _core.pack_forward({})
