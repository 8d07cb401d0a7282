"""A checkpoint as one file; one file, or insightface's, as a checkpoint. One process, the full centres in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bbs_kernels.sharding import Sharding
from bbs_kernels.validate import MAX_SUBCENTERS

from ..baskets import Baskets
from ..replacing import replacing
from .errors import CheckpointError
from .insightface import NAMES, RankFiles, check_one_centre
from .manifest import Manifest
from .ranks import Place
from .store import Contents, open_checkpoint, read_objects, read_rows, write

Progress = Callable[[int], None]


def merge(folder: Path, output: Path, progress: Progress | None = None) -> Manifest:
    """Write the head of a checkpoint as a state_dict with the full `weight`, which a head in one process loads.

    The optimiser's state and `extra` are left out. `progress` is called with the bytes of each block that is checked.

    Raises:
        CheckpointError: there is no checkpoint, or it is damaged.
    """
    # Whoever wrote it, one process reads it whole.
    with open_checkpoint(folder, Place(Sharding((0,), 1)), lambda _: None, progress) as manifest:
        baskets = Baskets(dict(manifest.baskets))
        place = Place(Sharding(baskets.sizes, 1))
        info = manifest.rows["weight"]
        weight = torch.empty((manifest.num_classes, *info.shape), dtype=getattr(torch, info.dtype))
        read_rows(folder, place, manifest, baskets, {"weight": weight})
        small = read_objects(folder, place, manifest, "head")["head"]
    state = OrderedDict(weight=weight.flatten(0, -2), **small)
    metadata = {"version": 1, "baskets": {"names": list(baskets.names), "sizes": list(baskets.sizes)}}
    state._metadata = OrderedDict({"": metadata})  # type: ignore[attr-defined]
    with replacing(output, "wb") as file:
        torch.save(state, file)
    return manifest


def split(
    sources: Sequence[Path], folder: Path, baskets: Baskets | None, subcenters: int | None = None
) -> tuple[Baskets, int]:
    """Write a checkpoint without optimiser state from one `.pt` file or from all of insightface's.

    Args:
        sources: a `.pt` file with a tensor [C*r, D] or a state_dict that has it as `weight`; or insightface's files
            of all ranks, or their folder.
        folder: as for `save`.
        baskets: may be None for a file that knows them, as those of `merge` do.
        subcenters: r, centres of a class, which are adjacent rows. None: 1, or for a file that knows its baskets as
            many as it has rows for each class.

    Returns:
        The baskets, and r.

    Raises:
        CheckpointError: the sources hold no centres, or not those of these baskets.
    """
    if subcenters is not None and not 1 <= subcenters <= MAX_SUBCENTERS:
        raise CheckpointError(f"subcenters: expected 1 to {MAX_SUBCENTERS}, got {subcenters}")
    if subcenters is not None and _is_insightface(sources):
        check_one_centre(subcenters)
    weight, small, known = _read(sources)
    if baskets is None:
        if known is None:
            raise CheckpointError("the source does not know its baskets: give their names and sizes")
        baskets = known
    elif known is not None and known != baskets:
        raise CheckpointError(f"the source holds {known}, given are {baskets}")
    classes, rows = baskets.num_classes, len(weight)
    each = 1 if subcenters is None else subcenters
    if subcenters is None and known is not None and classes and rows % classes == 0:
        each = rows // classes
    if rows != classes * each:
        several = f" with {each} centres each" if each > 1 else ""
        guess = ""
        if subcenters is None and classes and rows % classes == 0:
            guess = f"; if a class has {rows // classes} centres, say so with --subcenters"
        raise CheckpointError(
            f"the source holds {rows} rows, {baskets} have {classes} classes{several}{guess}"
        )
    if each > 1:
        weight = weight.unflatten(0, (classes, each))
    place = Place(Sharding(baskets.sizes, 1))
    write(folder, place, Contents(baskets, {"weight": weight}, {"head": small, "extra": None}))
    return baskets, each


def _is_insightface(sources: Sequence[Path]) -> bool:
    return len(sources) > 1 or sources[0].is_dir() or sources[0].name.startswith(NAMES)


def _read(sources: Sequence[Path]) -> tuple[Tensor, dict[str, Any], Baskets | None]:
    if _is_insightface(sources):
        files = RankFiles(sources[0] if sources[0].is_dir() else sources)
        return torch.cat(files.weights), {}, None
    path = sources[0]
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path} cannot be read with weights_only=True: {reason}") from error
    small = {k: v for k, v in found.items() if k != "weight"} if isinstance(found, dict) else {}
    weight = found.get("weight") if isinstance(found, dict) else found
    if (
        not isinstance(weight, Tensor)
        or weight.dim() != 2
        or weight.dtype not in (torch.float32, torch.float64)
    ):
        raise CheckpointError(f"{path} holds no tensor [rows, D], fp32 or fp64, itself or as 'weight'")
    noted = getattr(found, "_metadata", {}).get("", {}).get("baskets")
    known = None if noted is None else Baskets(dict(zip(noted["names"], noted["sizes"], strict=True)))
    return weight, small, known
