"""What the linker asks of a head: its classes, where they are, and to be told about identities. Not its loss."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from bbs_kernels.class_parallel import ClassShard, Ranks

from ..baskets import Baskets


class Placement(Protocol):
    """The ranks that share the classes, and this rank's part of them."""

    @property
    def ranks(self) -> Ranks: ...
    @property
    def shard(self) -> ClassShard: ...
    def full_rows(self, own: Tensor) -> Tensor:
        """[C, …] on every rank, from every rank's rows."""


@runtime_checkable
class LinkedHead(Protocol):
    """A `BasketSoftmaxLoss`, as far as linking is concerned; attributes are described there."""

    @property
    def baskets(self) -> Baskets: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def embedding_size(self) -> int: ...
    @property
    def weight(self) -> Tensor: ...
    @property
    def aliases(self) -> Tensor | None: ...
    @property
    def placement(self) -> Placement | None: ...
    def set_aliases(self, aliases: Tensor | None, *, in_place: bool = False) -> None: ...
    def global_labels(
        self, embeddings: Tensor, labels: Tensor, basket: Tensor | int | str | None
    ) -> Tensor: ...
    def checked_rows(
        self, embeddings: Tensor, labels: Tensor, basket: Tensor | int | str | None
    ) -> tuple[Tensor, Tensor, Exception | None]:
        """Embeddings, global labels, and what is wrong with them on this rank."""
