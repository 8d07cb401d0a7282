"""DCP's planners for `ShardedRows`: which chunk of which logical tensor this rank writes, and which it wants to read.

DTensor can say this only for torch.chunk's layout over one mesh, while a `Sharding` starts every basket at another
rank; so the chunks are named to DCP directly, by the interface through which DTensor names its own. A state dict holds
`ShardedRows`, and other objects, which the coordinating rank writes and every rank reads.
"""

from __future__ import annotations

import io
import math
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from .rows import ShardedRows


class RowSavePlanner(DefaultSavePlanner):
    """Plans the writing of a flat state dict of `ShardedRows` and other objects.

    The planner it extends checks all ranks' plans together: their chunks fill every tensor, none overlaps.
    """

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        """This rank's chunks; objects are written by the coordinator alone."""
        items = []
        self._views: dict[MetadataIndex, Tensor] = {}
        for key, value in self.state_dict.items():
            if isinstance(value, ShardedRows):
                for chunk in value.chunks():
                    index = MetadataIndex(chunk.key, chunk.place.offsets)
                    self._views[index] = chunk.view
                    data = TensorWriteData(
                        chunk=chunk.place,
                        properties=TensorProperties.create_from_tensor(chunk.view),
                        size=chunk.size,
                    )
                    items.append(WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data))
            elif self.is_coordinator:
                items.append(WriteItem(index=MetadataIndex(key), type=WriteItemType.BYTE_IO))
        self.plan = SavePlan(items)
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Any:
        """The view or the object that an item of the plan stands for."""
        return self._views[index] if index in self._views else self.state_dict[index.fqn]


class RowLoadPlanner(LoadPlanner):
    """Plans the reading into the tensors of `ShardedRows`, in place; other entries are replaced by what was saved.

    Raises (as DCP's `CheckpointException`, on every rank): a key that the files lack, another shape or dtype, or
    rows that no file holds.
    """

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator
        self._views: dict[MetadataIndex, Tensor] = {}

    def create_local_plan(self) -> LoadPlan:
        """The parts of saved chunks that make up this rank's chunks."""
        assert self.metadata is not None
        saved = self.metadata.state_dict_metadata
        items = []
        for key, value in self.state_dict.items():
            if not isinstance(value, ShardedRows):
                index = MetadataIndex(_known(saved, key))
                items.append(ReadItem(LoadItemType.BYTE_IO, index, _ORIGIN, index, _ORIGIN, _ORIGIN))
                continue
            for chunk in value.chunks():
                there = saved[_known(saved, chunk.key)]
                if not isinstance(there, TensorStorageMetadata) or there.size != chunk.size:
                    raise ValueError(
                        f"{chunk.key!r} has shape {tuple(chunk.size)} here, the checkpoint has "
                        f"{tuple(getattr(there, 'size', ())) or 'no tensor'}"
                    )
                if there.properties.dtype != chunk.view.dtype:
                    raise ValueError(
                        f"{chunk.key!r} is {chunk.view.dtype} here, {there.properties.dtype} in the checkpoint"
                    )
                reads = create_read_items_for_chunk_list(chunk.key, there, [chunk.place])
                if sum(math.prod(read.lengths) for read in reads) != chunk.view.numel():
                    raise ValueError(
                        f"the checkpoint lacks rows of {chunk.key!r}: its list of chunks has a gap"
                    )
                self._views[MetadataIndex(chunk.key, chunk.place.offsets)] = chunk.view
                items += reads
        return LoadPlan(items)

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        """Every rank reads for itself."""
        return global_plan

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        """Nothing to add."""
        return central_plan

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        """The view into which the item is read."""
        view = self._views[read_item.dest_index]
        for dim, (start, length) in enumerate(zip(read_item.dest_offsets, read_item.lengths, strict=True)):
            view = view.narrow(dim, start, length)
        return view

    def commit_tensor(self, read_item: ReadItem, tensor: Tensor) -> None:
        """Nothing to do: `tensor` is the view itself."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Objects are tensors, numbers, strings and containers of these: nothing else is unpickled."""
        self.state_dict[read_item.dest_index.fqn] = torch.load(value, map_location="cpu", weights_only=True)


_ORIGIN = torch.Size((0,))


def _known(saved: dict[str, Any], key: str) -> str:
    if key not in saved:
        raise ValueError(f"the checkpoint has no {key!r}")
    return key
