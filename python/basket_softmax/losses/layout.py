"""A state_dict that knows which classes its rows are, without a key of its own.

The baskets travel in the metadata that torch keeps beside the tensors, so `weight` stays the only key, older
files and those of other libraries load as ever, and a file of other baskets does not pass for one of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..baskets import Baskets

if TYPE_CHECKING:
    from .parallel import ClassParallel


def note_layout(destination: Any, prefix: str, baskets: Baskets, parallel: ClassParallel | None) -> None:
    """Write the baskets into the metadata of the module at `prefix`, if `destination` has metadata.

    A class-parallel head adds which part of the rows it holds.
    """
    metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
    if metadata is not None:
        metadata["baskets"] = {
            "names": list(baskets.names), "sizes": list(baskets.sizes), "part": _part(parallel)
        }  # fmt: skip


def layout_problem(metadata: dict[str, Any], baskets: Baskets, parallel: ClassParallel | None) -> str | None:
    """What contradicts loading rows with this metadata into a head of these baskets; None: nothing known.

    Baskets given as plain sizes have no names to compare.
    """
    saved = metadata.get("baskets")
    if saved is None:
        return None
    names, sizes = tuple(saved["names"]), tuple(saved["sizes"])
    unnamed = tuple(map(str, range(len(sizes))))
    same_names = names == baskets.names or unnamed in (names, baskets.names)
    if sizes == baskets.sizes and same_names:
        if saved.get("part") == _part(parallel):
            return None
        return (
            f"weight is {_say(saved.get('part'))} there, {_say(_part(parallel))} here: basket_softmax.checkpoint takes "
            "states from one number of ranks to another, load_full_weight() the centres alone"
        )
    there, here = (dict(zip(n, s, strict=True)) for n, s in ((names, sizes), (baskets.names, baskets.sizes)))
    return (
        f"the rows of weight are those of the baskets {there}, this head has {here}; load_full_weight() takes the "
        "tensor as it is"
    )


def _part(parallel: ClassParallel | None) -> dict[str, Any] | None:
    if parallel is None or parallel.ranks.world == 1:
        return None
    return {"rank": parallel.ranks.rank, "world": parallel.ranks.world, "shard": parallel.shard.sharding.kind}


def _say(part: dict[str, Any] | None) -> str:
    return "whole" if part is None else "the part of rank {rank} of {world} (shard {shard!r})".format(**part)
