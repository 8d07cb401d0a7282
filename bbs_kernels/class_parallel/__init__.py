"""The loss's core with the class centres spread over ranks, on torch.distributed alone.

`gather_batch` first, then `cos_lse`, whose lse and cos_t of the global batch every rank holds alike: margin and
reduction are computed everywhere, on B numbers, with nothing further to send. docs/parallel.md describes the messages.
"""

from .core import ParallelRows, cos_lse
from .ranks import Ranks
from .rows import Batch, all_rows, gather_batch, own_rows
from .shard import ClassShard
from .weights import draw_rows, draw_shard, full_rows, own_part

__all__ = [
    "Batch",
    "ClassShard",
    "ParallelRows",
    "Ranks",
    "all_rows",
    "cos_lse",
    "draw_rows",
    "draw_shard",
    "full_rows",
    "gather_batch",
    "own_part",
    "own_rows",
]
