"""Which activation-checkpointed regions a forward pass runs in, and which it repeats.

torch hands nothing from the forward pass of a region to its repetition but the region's arguments, and two passes may
have equal ones. What both have is one object on the Python stack: the `_CheckpointFrame` of
`checkpoint(use_reentrant=False)`, or the context of the autograd function by which `checkpoint(use_reentrant=True)` and
the checkpointing of DeepSpeed, Megatron and fairscale run. That object names the region here. These are internals of
torch; a torch that renames them makes `Regions` empty, and whoever asks inside a backward pass has to refuse.
"""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch.utils import checkpoint as torch_checkpoint

_CHECKPOINT = inspect.unwrap(torch_checkpoint.checkpoint).__code__
_FILE = _CHECKPOINT.co_filename


class Regions(NamedTuple):
    """The regions around a call, innermost first.

    running: those in their own first run, inside `repeated` where there is one.
    repeated: the innermost region that runs again, or None.
    """

    running: list[Any]
    repeated: Any | None


def regions_of_caller() -> Regions:
    """Walk the Python stack outwards, up to the first region that runs again."""
    running: list[Any] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code is _CHECKPOINT:
            _append(running, _generator_local(frame.f_locals.get("gen")))
        elif code.co_name == "unpack_hook" and code.co_filename == _FILE:
            region = frame.f_locals.get("frame")
            if region is not None:
                return Regions(running, region)
        elif code.co_name in ("forward", "backward") and code.co_argcount:
            first = frame.f_locals.get(code.co_varnames[0])
            if isinstance(first, torch._C._FunctionBase):
                if code.co_name == "backward":
                    return Regions(running, first)
                _append(running, first)
        frame = frame.f_back
    _append(running, _region_of_top_hook())
    return Regions(running, None)


def _append(regions: list[Any], region: Any | None) -> None:
    if region is not None and not any(region is other for other in regions):
        regions.append(region)


def _generator_local(generator: Any) -> Any | None:
    """Return the region that the generator inside `checkpoint(use_reentrant=False)` has opened."""
    frame = getattr(generator, "gi_frame", None)
    return None if frame is None else frame.f_locals.get("new_frame")


def _region_of_top_hook() -> Any | None:
    """Return the region whose saved-tensor hook is on top: the composable `checkpoint` opens it in a module's hook."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)(False)
    cells = () if top is None else getattr(top[0], "__closure__", None) or ()
    regions = (cell.cell_contents for cell in cells)
    return next((region for region in regions if isinstance(region, torch_checkpoint._CheckpointFrame)), None)
