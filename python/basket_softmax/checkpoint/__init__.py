"""Checkpoints of a head, its optimiser and whatever else a run needs: written at one number of ranks, read at any.

bs.checkpoint.save("run/last", loss, optimizer, extra={"epoch": 3, "backbone": backbone.state_dict()})
extra = bs.checkpoint.load("run/last", loss, optimizer)
"""

from .api import inspect, load, save
from .errors import CheckpointError
from .insightface import load_insightface
from .manifest import FileInfo, Manifest, RowsInfo

__all__ = [
    "CheckpointError",
    "FileInfo",
    "Manifest",
    "RowsInfo",
    "inspect",
    "load",
    "load_insightface",
    "save",
]
