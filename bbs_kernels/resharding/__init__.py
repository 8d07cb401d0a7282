"""Rows that are sharded over ranks, written and read through `torch.distributed.checkpoint` (DCP).

Every basket is one logical tensor [size, ...] of the checkpoint, whatever rank holds which of its rows, so the same
files load at any number of ranks and under either kind of `Sharding`. The files are DCP's own: stock DCP reads them,
into plain tensors or DTensors.
"""

from .exchange import exchange
from .planners import RowLoadPlanner, RowSavePlanner
from .reader import SafeReader
from .rows import ShardedRows, key_of

__all__ = ["RowLoadPlanner", "RowSavePlanner", "SafeReader", "ShardedRows", "exchange", "key_of"]
