"""The bytes of a step that the kernel counts on Gloo's sockets are those of docs/parallel.md's table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import basket_softmax as bs
from dist.bytes_received import WIDTH

BENCH = Path(__file__).resolve().parents[2] / "bench"
pytestmark = [pytest.mark.dist, pytest.mark.skipif(not BENCH.is_dir(), reason="needs the source tree")]
HEADERS = 0.02  # Gloo's own, relative


def in_the_table(ranks: int, rows: int, baskets: int, listed: int, width: int, element: int) -> float:
    """Rows of the table that this step has: counts, labels, embeddings, candidates, partial sums, result, gradient."""
    batch = ranks * rows
    edges = 2 * baskets if listed else 0
    per_row = 8 + element * width + 8 * baskets * listed + 8 + 8 * (edges + baskets + 3) + 4 * width
    return (24 * ranks + batch * per_row) * (ranks - 1) / ranks


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize(
    ("sizes", "mining", "listed", "dtype"),
    [
        ([900], bs.Own(), 0, torch.float32),
        ([300] * 3, bs.TopK(64, 1), 65, torch.float32),
        ([300] * 3, bs.TopK(64, 1), 65, torch.bfloat16),
    ],
    ids=["own", "topk", "topk-bf16"],
)
def test_the_table_is_what_is_received(
    workers, world: int, sizes: list[int], mining: object, listed: int, dtype: torch.dtype
) -> None:
    rows = 32
    want = in_the_table(world, rows, len(sizes), listed, WIDTH, torch.finfo(dtype).bits // 8)
    for got in workers.run(world, "bytes_received.of_a_step", rows, sizes, mining, dtype):
        assert want <= got <= (1 + HEADERS) * want
