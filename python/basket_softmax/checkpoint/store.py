"""Contents to folder and back, for any owner of rows: the heads, and the command line, which has none."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from bbs_kernels.resharding import RowLoadPlanner, RowSavePlanner, SafeReader, ShardedRows

from ..baskets import Baskets
from .errors import CheckpointError
from .folder import METADATA, commit, describe, new_data_folder, reading, verify, writing
from .manifest import FileInfo, Manifest, RowsInfo
from .ranks import Place

TRIES = 3  # of all ranks to see one checkpoint while somebody saves


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds.

    rows: tensors with an entry per class, this rank's part of each; "weight" [num_local, D] among them, or
        [num_local, r, D] where a class has r centres.
    objects: everything else, rank 0's; what `torch.load(weights_only=True)` gives back, or None.
    optimizer: class name of the optimiser whose state is among them.
    """

    baskets: Baskets
    rows: dict[str, Tensor]
    objects: dict[str, Any]
    optimizer: str | None = None


def write(folder: Path, place: Place, contents: Contents) -> None:
    """Write the contents as the folder's current checkpoint; its previous one stays valid until the last moment.

    Raises:
        CheckpointError, OSError: on every rank, whichever failed.
    """
    place.once(lambda: _check_objects(contents.objects))
    with ExitStack() as stack:  # of rank 0, which holds the lock for all
        alone = place.once(lambda: stack.enter_context(writing(folder)))
        _write(folder, place, contents, alone)


def _write(folder: Path, place: Place, contents: Contents, alone: bool) -> None:
    data = place.once(lambda: new_data_folder(folder))
    path = folder / data
    place.together(lambda: _refuse_other_folder(path))
    state = {**place.together(lambda: _sharded(place, contents.baskets, contents.rows)), **contents.objects}
    writer = dcp.FileSystemWriter(path, overwrite=False)
    with _dcp_errors(f"saving to {folder}"):
        dcp.save(
            state,
            storage_writer=writer,
            planner=RowSavePlanner(),
            process_group=place.group,
            no_dist=place.group is None,
        )
    own = place.everywhere(lambda: {f.name: describe(f) for f in sorted(path.glob(f"__{place.rank}_*"))})
    files = {name: info for part in own for name, info in part.items()}
    place.once(lambda: commit(folder, _manifest(place, contents, path, files), alone))


@contextmanager
def open_checkpoint(
    folder: Path,
    place: Place,
    check: Callable[[Manifest], None],
    progress: Callable[[int], None] | None = None,
) -> Iterator[Manifest]:
    """The manifest, after `check` and after the digests of all files, which the ranks share among them.

    During the block no writer removes its data.

    Raises:
        CheckpointError: on every rank.
    """
    for _ in range(TRIES):
        with ExitStack() as stack:
            manifests = place.everywhere(lambda: stack.enter_context(reading(folder)))
            if any(manifest.fingerprint != manifests[0].fingerprint for manifest in manifests):
                continue
            place.together(partial(check, manifests[place.rank]))
            place.together(partial(verify, folder, manifests[place.rank], place.rank, place.world, progress))
            yield manifests[place.rank]
            return
    raise CheckpointError(
        f"{folder}: expected one folder that all ranks share, got different checkpoints in it"
    )


def read_objects(folder: Path, place: Place, manifest: Manifest, *names: str) -> dict[str, Any]:
    """The named objects, on every rank."""
    state: dict[str, Any] = dict.fromkeys(names)
    _load(folder, place, manifest, state)
    return state


def read_rows(
    folder: Path, place: Place, manifest: Manifest, baskets: Baskets, rows: dict[str, Tensor]
) -> None:
    """Fills the tensors of `rows` with this rank's part, in place."""
    _load(folder, place, manifest, dict(place.together(lambda: _sharded(place, baskets, rows))))


def _load(folder: Path, place: Place, manifest: Manifest, state: dict[str, Any]) -> None:
    with _dcp_errors(f"loading from {folder}"):
        dcp.load(
            state,
            storage_reader=SafeReader(folder / manifest.data),
            planner=RowLoadPlanner(),
            process_group=place.group,
            no_dist=place.group is None,
        )


def _refuse_other_folder(path: Path) -> None:
    """Raise CheckpointError where the data folder that rank 0 has just made is not to be seen."""
    if not path.is_dir():
        raise CheckpointError(
            f"folder: expected one that all ranks share, got {path.parent}, where {path.name}, which rank 0 has just "
            "made, is not to be seen: give every rank the same path, absolute, on a file system that all of them share"
        )


def _sharded(place: Place, baskets: Baskets, rows: dict[str, Tensor]) -> dict[str, ShardedRows]:
    return {
        name: ShardedRows(name, baskets.names, place.sharding, place.rank, tensor)
        for name, tensor in rows.items()
    }


def _check_objects(objects: dict[str, Any]) -> None:
    for name, value in objects.items():
        _refuse_parts(name, value)
        stream = io.BytesIO()
        torch.save(value, stream)
        stream.seek(0)
        try:
            torch.load(stream, weights_only=True)
        except Exception as error:
            reason = str(error).split("\n")[0]
            raise CheckpointError(
                f"{name}: expected tensors, numbers, strings and dicts, lists and tuples of these, got what cannot be "
                f"loaded again with weights_only=True ({reason})"
            ) from None


def _refuse_parts(name: str, value: Any) -> None:
    # Rank 0 would write its part of a DTensor, and nobody would miss the others until the load.
    if isinstance(value, DTensor):
        raise CheckpointError(
            f"{name} is a DTensor, of which a rank has only a part: save an FSDP backbone and its optimizer with "
            "torch.distributed.checkpoint, and give the head an optimizer of its own"
        )
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, (list, tuple))
        else ()
    )
    for key, item in items:
        _refuse_parts(f"{name}[{key!r}]", item)


def _manifest(place: Place, contents: Contents, path: Path, files: dict[str, FileInfo]) -> Manifest:
    sharding, weight = place.sharding, contents.rows["weight"]
    return Manifest(
        baskets=tuple(zip(contents.baskets.names, contents.baskets.sizes, strict=True)),
        num_classes=sharding.num_classes,
        embedding_size=weight.shape[-1],
        world=sharding.world,
        kind=sharding.kind,
        ranges=tuple(sharding.ranges(rank) for rank in range(sharding.world)),
        rows={k: RowsInfo(dtype_name(v.dtype), tuple(v.shape[1:])) for k, v in contents.rows.items()},
        optimizer=contents.optimizer,
        has_extra=contents.objects.get("extra") is not None,
        data=path.name,
        files={METADATA: describe(path / METADATA), **files},
        torch=str(torch.__version__),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


@contextmanager
def _dcp_errors(what: str) -> Iterator[None]:
    """DCP's exception, a BaseException with all ranks' tracebacks, as one line; no warning about one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        try:
            yield
        except CheckpointException as error:
            rank, (failure, _) = min(error.failures.items(), key=lambda item: item[0])
            raise CheckpointError(f"{what}, rank {rank}: {failure}") from error
