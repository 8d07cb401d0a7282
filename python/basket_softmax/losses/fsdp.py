"""A head without a process group under FSDP: its centres are gathered where they are asked for, or refused in words.

`fully_shard` (FSDP2) keeps `weight` as a DTensor and puts a plain parameter in its place for a forward pass; after one
that no backward pass follows, as in evaluation, that copy stays, and what is written into it is lost.
`FullyShardedDataParallel` (FSDP1) leaves a flat shard, a view whose memory is gone, or such a copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from .replicated import is_sharded

if TYPE_CHECKING:
    from .protocols import HeldCentres


def is_view(head: Any) -> bool:
    """Return whether `head.weight` is a view into a flat parameter of FullyShardedDataParallel."""
    return "weight" in vars(head)


def part_held(head: HeldCentres) -> str | None:
    """Return what FSDP has made of the head, for messages; None: all centres are here, as the head made them."""
    if head.sharded_by_fsdp:
        return "a head that fully_shard holds"
    if is_view(head) or head.weight.shape != _shape(head):
        return "a head that FullyShardedDataParallel holds"
    return None


def _shape(head: HeldCentres) -> tuple[int, int]:
    return head.num_classes * head.subcenters, head.embedding_size


def refuse_part(head: HeldCentres, call: str, instead: str) -> None:
    """Raise RuntimeError, on behalf of the method `call`, when FSDP holds the centres."""
    found = part_held(head)
    if found is not None:
        raise RuntimeError(
            f"{call}: expected a head whose centres are all in this process, got {found}: {instead}"
        )


def gathered(weight: Tensor) -> Tensor:
    """Return `weight` as a plain tensor: all of it when fully_shard holds it, where every rank must ask for it."""
    return weight.full_tensor() if is_sharded(weight) else weight


def all_centres(head: HeldCentres, call: str) -> Tensor:
    """Return `head.weight`, [C*r, D], a plain tensor; gathered under fully_shard, where every rank must ask for it.

    Raises:
        RuntimeError: FullyShardedDataParallel holds it; `call` is the method that the message names.
    """
    weight = head.weight
    if head.sharded_by_fsdp:
        return gathered(weight)
    # A view is whole in a forward pass and may be after it; its memory is freed then.
    if weight.shape != _shape(head) or (is_view(head) and weight.untyped_storage().size() == 0):
        refuse_part(head, call, "call it within FullyShardedDataParallel.summon_full_params(model)")
    return weight


def write_centres(head: HeldCentres, full: Tensor) -> None:
    """Copy `full`, [C*r, D], into `head.weight`; under fully_shard each rank keeps its part.

    Raises:
        RuntimeError: FSDP would lose it.
    """
    weight: Any = head.weight  # a Parameter, or a DTensor
    if is_sharded(weight):
        from torch.distributed.tensor import distribute_tensor  # slow to import

        full = full.to(weight.device, weight.dtype)
        weight.copy_(distribute_tensor(full, weight.device_mesh, weight.placements, src_data_rank=None))
        return
    refuse_part(
        head,
        "load_full_weight",
        "what is written now is lost; after a forward pass under fully_shard without a backward pass call reshard() on "
        "the module that fully_shard returned, under FullyShardedDataParallel use its summon_full_params(model)",
    )
    weight.copy_(full)
