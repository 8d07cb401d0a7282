"""A state_dict that knows which classes its rows are, without a key of its own.

The baskets travel in the metadata that torch keeps beside the tensors, so `weight` stays the only key, older
files and those of other libraries load as ever, and a file of other baskets, or of another rank, does not pass for one
of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import nn

from .baskets import Baskets

HEADS_ADVICE = (
    "basket_softmax.checkpoint takes states from one number of ranks to another, load_full_weight() the centres "
    "alone"
)


class Layout(NamedTuple):
    """baskets: whose classes the rows are. part: which rank's of them, None for all."""

    baskets: Baskets
    part: dict[str, Any] | None


def layout_of(baskets: Baskets, parallel: Any, shard: str | None = None) -> Layout:
    """The layout of a module's rows.

    Args:
        parallel: the module's place among ranks, with `ranks` and `shard`; None: all rows are here.
        shard: name of the way the classes are cut, that of the sharding when None.
    """
    if parallel is None or parallel.ranks.world == 1:
        return Layout(baskets, None)
    shard = parallel.shard.sharding.kind if shard is None else shard
    return Layout(baskets, {"rank": parallel.ranks.rank, "world": parallel.ranks.world, "shard": shard})


def note_layout(destination: Any, prefix: str, layout: Layout) -> None:
    """Write the layout into the metadata of the module at `prefix`, if `destination` has metadata."""
    metadata = getattr(destination, "_metadata", {}).get(prefix[:-1])
    if metadata is not None:
        baskets = layout.baskets
        metadata["baskets"] = {
            "names": list(baskets.names), "sizes": list(baskets.sizes), "part": layout.part
        }  # fmt: skip


def load_rows(
    module: nn.Module,
    load: Callable[..., None],
    arguments: Sequence[Any],
    layout: Layout,
    *,
    rows: Sequence[str] = ("weight",),
    per_basket: Sequence[str] = (),
    advice: str = HEADS_ADVICE,
) -> None:
    """Call `load`, torch's `_load_from_state_dict` of `module`, unless the state has rows of other classes.

    Such a state becomes an error in torch's list. One without rows, from which they were removed, loads like any
    other: its rows are missing, and so are entries per basket, unless they are known to be those of the same baskets.
    A state without the metadata that says so, a plain dict, is taken for one of these baskets if it has the rows.

    Args:
        arguments: of `load`: state_dict, prefix, metadata and the rest.
        layout: what the module holds.
        rows: names of the tensors with a row per class, or several; the first is what tells whether a state has rows.
        per_basket: names of the tensors with an entry per basket.
        advice: what to do with a state of another rank or number of ranks.
    """
    state, prefix, metadata, *_, errors = arguments
    saved = metadata.get("baskets")
    problem = None if saved is None else _problem(saved, layout, module, rows[0], prefix, advice)
    if saved is not None and problem is None:
        load(*arguments)
        return

    def leave_out(names: Sequence[str]) -> None:
        for name in names:
            state.pop(prefix + name, None)

    def check(*_: Any) -> None:
        if saved is None:
            if prefix + rows[0] not in state:
                leave_out([*rows, *per_basket])
        elif any(prefix + name in state for name in rows):
            raise _OtherRows
        elif not _same_baskets(saved, layout.baskets):
            leave_out(per_basket)

    # The last of the hooks: those before it may remove rows or give them their names.
    hook = module.register_load_state_dict_pre_hook(check)
    try:
        load(*arguments)
    except _OtherRows:
        assert problem is not None
        errors.append(problem)
    finally:
        hook.remove()


class _OtherRows(Exception):
    """Ends torch's loading before it copies anything."""


def _problem(
    saved: dict[str, Any], layout: Layout, module: nn.Module, name: str, prefix: str, advice: str
) -> str | None:
    """What contradicts loading rows of the layout `saved`; None: nothing."""
    baskets = layout.baskets
    if tuple(saved["sizes"]) != baskets.sizes or not _same_baskets(saved, baskets):
        there, here = _say_classes(saved["names"], saved["sizes"]), _say_classes(baskets.names, baskets.sizes)
        fits = sum(saved["sizes"]) == baskets.num_classes and hasattr(module, "load_full_weight")
        return (
            f"the rows of {name} are those of {there}, this head has {here}: without {prefix + name!r} the rest of the "
            "state loads, with strict=False"
            + ("; load_full_weight() takes the tensor as it is" if fits else "")
        )
    if saved.get("part") != layout.part:
        return f"{name} is {_say_part(saved.get('part'))} there, {_say_part(layout.part)} here: {advice}"
    return None


def _same_baskets(saved: dict[str, Any], baskets: Baskets) -> bool:
    """Return whether the baskets have the same names; those given as plain sizes have none to compare."""
    names = tuple(saved["names"])
    unnamed = tuple(map(str, range(len(baskets))))
    return len(names) == len(baskets) and (names == baskets.names or unnamed in (names, baskets.names))


def _say_classes(names: Sequence[str], sizes: Sequence[int]) -> str:
    if list(names) == ["0"]:
        return f"{sizes[0]} classes"
    return f"the baskets {dict(zip(names, sizes, strict=True))}"


def _say_part(part: dict[str, Any] | None) -> str:
    return "whole" if part is None else "the part of rank {rank} of {world} (shard {shard!r})".format(**part)
