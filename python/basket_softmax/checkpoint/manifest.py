"""`checkpoint.json`: what a checkpoint holds, in which files, with their digests. Who reads it has read no pickle."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bbs_kernels.sharding import Sharding

from ..baskets import Baskets
from .errors import CheckpointError

NAME = "checkpoint.json"
FORMAT = "bbs-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class RowsInfo:
    """A tensor with an entry per class: dtype ("float32") and the shape of one entry, [D] or [r, D] for centres."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FileInfo:
    """Size in bytes and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What `inspect` returns.

    Attributes:
        baskets: name and size of each, in the order of their classes.
        num_classes, embedding_size: C and D.
        world, kind: how many ranks wrote it, and their kind of shard. Any number and kind reads it.
        ranges: of each rank, and of each basket in it, the half-open range of global classes.
        rows: tensors with a row per class: "weight", "optimizer.momentum_buffer", …
        optimizer: class name of the optimiser whose state is stored, None without one.
        has_extra: whether `extra` was given.
        data: folder of the tensors, beside this file, in the format of torch.distributed.checkpoint.
        files: of that folder.
        torch, time: version and moment (UTC) of the writing.
        fingerprint: SHA-256 of all the rest, and so of the contents.
    """

    baskets: tuple[tuple[str, int], ...]
    num_classes: int
    embedding_size: int
    world: int
    kind: str
    ranges: tuple[tuple[tuple[int, int], ...], ...]
    rows: dict[str, RowsInfo]
    optimizer: str | None
    has_extra: bool
    data: str
    files: dict[str, FileInfo]
    torch: str
    time: str
    fingerprint: str = field(default="", compare=False)

    @property
    def sharding(self) -> Sharding:
        """The layout in which it was written."""
        return Sharding(tuple(size for _, size in self.baskets), self.world, self.kind)

    @property
    def subcenters(self) -> int:
        """Centres of a class."""
        return math.prod(self.rows["weight"].shape[:-1])

    def to_json(self) -> str:
        """The file's text, fingerprint included."""
        body = self._body()
        return json.dumps({**body, "fingerprint": _digest(body)}, indent=1, ensure_ascii=False) + "\n"

    def _body(self) -> dict[str, Any]:
        body = asdict(self)
        del body["fingerprint"]
        return {"format": FORMAT, "version": VERSION, **body}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        CheckpointError: there is none, it is damaged, or of a newer version.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no checkpoint: there is no {NAME} in it") from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{path} is damaged: it is not text") from None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is damaged or was cut short: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not the manifest of a checkpoint of this library")
    if found.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {found.get('version')!r}, this library reads {VERSION}: update bbs-kernels"
        )
    fingerprint = found.pop("fingerprint", None)
    if fingerprint != _digest(found):
        raise CheckpointError(
            f"{path} was changed after it was written: its fingerprint does not fit its contents"
        )
    del found["format"], found["version"]
    for name in (found["data"], *found["files"]):
        if Path(name).name != name:
            raise CheckpointError(f"{path} names a file outside its folder: {name!r}")
    found["baskets"] = tuple((name, size) for name, size in found["baskets"])
    found["ranges"] = tuple(tuple((a, b) for a, b in ranges) for ranges in found["ranges"])
    found["rows"] = {k: RowsInfo(v["dtype"], tuple(v["shape"])) for k, v in found["rows"].items()}
    found["files"] = {k: FileInfo(**v) for k, v in found["files"].items()}
    return Manifest(**found, fingerprint=fingerprint)


def check_baskets(
    manifest: Manifest, baskets: Baskets, embedding_size: int, dtype: str, subcenters: int
) -> None:
    """That the checkpoint is one of this head.

    Raises:
        CheckpointError: other baskets, another order, size, width, dtype or number of sub-centres; the message says
            which.
    """
    there = [name for name, _ in manifest.baskets]
    here = list(baskets.names)
    missing = [name for name in here if name not in there]
    unknown = [name for name in there if name not in here]
    if missing or unknown:
        parts = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has {', '.join(map(repr, unknown))}, which the head lacks"] if unknown else []
        raise CheckpointError(f"baskets: the checkpoint {' and '.join(parts)}")
    if there != here:
        raise CheckpointError(
            f"baskets are in the order {there} in the checkpoint, in the head in the order {here}"
        )
    for (name, size), expected in zip(manifest.baskets, baskets.sizes, strict=True):
        if size != expected:
            raise CheckpointError(
                f"basket {name!r} has {size} classes in the checkpoint, {expected} in the head"
            )
    if manifest.embedding_size != embedding_size:
        raise CheckpointError(
            f"embedding_size is {manifest.embedding_size} in the checkpoint, {embedding_size} in the head"
        )
    if manifest.subcenters != subcenters:
        raise CheckpointError(
            f"subcenters is {manifest.subcenters} in the checkpoint, {subcenters} in the head"
        )
    if manifest.rows["weight"].dtype != dtype:
        raise CheckpointError(
            f"weight is {manifest.rows['weight'].dtype} in the checkpoint, {dtype} in the head"
        )


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
