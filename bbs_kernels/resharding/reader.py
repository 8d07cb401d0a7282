"""DCP's file reader without its one unsafe step: the index of a checkpoint, `.metadata`, is a pickle, and unpickling a
foreign file runs what it names. Here only the classes of which such an index consists can be named.
"""

from __future__ import annotations

import pickle
from enum import Enum
from pathlib import Path
from typing import Any

from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

_CHECKPOINT = "torch.distributed.checkpoint"
_DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
ALLOWED = {
    (f"{_CHECKPOINT}.metadata", name)
    for name in (
        "Metadata", "MetadataIndex", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata",
        "BytesStorageMetadata", "StorageMeta", "_MEM_FORMAT_ENCODING",
    )
} | {
    (f"{_CHECKPOINT}.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),  # Python 3.13
    *(("torch", name) for name in _DTYPES),
}  # fmt: skip


def _member(of: Any, name: str) -> Enum:
    """The one `getattr` of an index: early releases of Python 3.11 name a member of an enumeration that way."""
    if not (isinstance(of, type) and issubclass(of, Enum) and name in of.__members__):
        raise pickle.UnpicklingError(
            f"getattr({of!r}, {name!r}) does not belong into the index of a checkpoint"
        )
    return of[name]


class _IndexUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _member
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into the index of a checkpoint")
        return super().find_class(module, name)


class SafeReader(FileSystemReader):
    """`FileSystemReader` that refuses an index naming anything but DCP's own records, or files elsewhere.

    Raises:
        pickle.UnpicklingError: the index does.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index of the checkpoint, shared by all ranks."""
        with open(Path(self.path) / ".metadata", "rb") as file:
            metadata = _IndexUnpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError(f"index: expected Metadata, got {type(metadata).__name__}")
        for info in (metadata.storage_data or {}).values():
            if Path(info.relative_path).name != info.relative_path:
                raise pickle.UnpicklingError(
                    f"the index names a file outside its folder: {info.relative_path!r}"
                )
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata
