"""Bodies: ranks that make a head, or call it, each in its own way; every rank must hear of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import basket_softmax as bs
from basket_softmax.compat.insightface import ArcFace, CombinedMarginLoss, PartialFC_V2

from .heads_in_use import refusal

BASKETS = {"a": 30, "b": 20}
DEPTH = 8
OTHERWISE = {  # argument: (its name in the message, its value on the last rank)
    "baskets": ("baskets", {"a": 30, "b": 22}),
    "order": ("baskets", {"b": 20, "a": 30}),
    "scale": ("scale", 32.0),
    "margin": ("margin", bs.ArcFace(0.4)),
    "own margin": ("margin", lambda cos_t: cos_t - 0.1),
    "mining": ("mining", bs.TopK(8, 1)),
    "sample_rate": ("sample_rate", 0.5),
    "reduction": ("reduction", "sum"),
    "aliases": ("aliases", torch.arange(50)),
    "shard": ("shard", "contiguous"),
    "grad_average": ("grad_average", False),
}


def _is_last(group: dist.ProcessGroup) -> bool:
    return dist.get_rank(group) == dist.get_world_size(group) - 1


def _head(group: dist.ProcessGroup, **options: Any) -> bs.BasketSoftmaxLoss:
    torch.manual_seed(0)
    return bs.BasketSoftmaxLoss(
        **{"baskets": BASKETS, "embedding_size": DEPTH, "process_group": group, **options}
    )


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(4, DEPTH), torch.arange(4)


def _told(group: dist.ProcessGroup, name: str, call: Callable[[], Any]) -> None:
    message = refusal(RuntimeError, call)
    world = dist.get_world_size(group)
    assert message.startswith(f"{name}: expected the same on all {world} ranks, got "), message
    assert f"on rank {world - 1}" in message, message


def made_otherwise(group: dist.ProcessGroup, equal_batches: bool) -> None:
    for argument, (name, value) in OTHERWISE.items():
        key = {"order": "baskets", "own margin": "margin"}.get(argument, argument)
        theirs = {"aliases": torch.zeros(50).long()} if key == "aliases" else {}
        mine = {key: value} if _is_last(group) else theirs
        head = _head(group, equal_batches=equal_batches, **mine)
        _told(group, name, lambda head=head: head(*_batch()))
    alike = _head(group, equal_batches=equal_batches)
    assert alike(*_batch()).isfinite()  # nobody is left behind in a collective


def called_otherwise(group: dist.ProcessGroup) -> None:
    head, (x, labels) = _head(group), _batch()
    head(x, labels)
    last = _is_last(group)
    weight = torch.ones(4) if last else None
    _told(group, "sample_weight", lambda: head(x, labels, sample_weight=weight))
    _told(group, "embeddings", lambda: head(x.bfloat16() if last else x.half(), labels))
    head.train(not last)
    _told(group, "training", lambda: head(x, labels))
    head.train()
    head.scale = 30.0 if last else 31.0
    _told(group, "scale", lambda: head(x, labels))


def aliases_set_otherwise(group: dist.ProcessGroup, equal_batches: bool) -> None:
    head, (x, labels) = _head(group, aliases=torch.full((50,), -1), equal_batches=equal_batches), _batch()
    before = head(x, labels)
    known = torch.full((50,), -1)
    known[[3, 34]] = 1
    for in_place in (False, True):
        head.set_aliases(known, in_place=in_place)
        assert head(x, labels) != before
        known[4] = -1 if _is_last(group) else 1
        head.set_aliases(known, in_place=in_place)
        _told(group, "aliases", lambda: head(x, labels))
        known[4] = -1


def grown_otherwise(group: dist.ProcessGroup, equal_batches: bool) -> None:
    for shard in ("basket", "contiguous"):
        head = _head(group, shard=shard, equal_batches=equal_batches)
        head(*_batch())
        size = 11 if _is_last(group) else 12
        _told(group, "baskets", lambda head=head, size=size: head.add_basket("c", size))
        assert head.num_classes == 50
        means = bs.ClassMeans(head, size)
        _told(group, "size", lambda means=means: means.update(*_batch()))
        head.add_basket("c", 12)
        assert head(*_batch()).isfinite()


def linked_otherwise(group: dist.ProcessGroup) -> None:
    head = _head(group)
    linker = bs.IdentityLinker(head, exclude=0.6 if _is_last(group) else 0.7)
    _told(group, "exclude", lambda: linker(*_batch(), 0))


def partial_fc_otherwise(group: dist.ProcessGroup) -> None:
    ways = [
        ("num_classes", (ArcFace(), DEPTH, 50), (ArcFace(), DEPTH, 52)),
        ("margin_loss", (ArcFace(), DEPTH, 50), (CombinedMarginLoss(64.0, 1.0, 0.4, 0.0), DEPTH, 50)),
        ("sample_rate", (ArcFace(), DEPTH, 50), (ArcFace(), DEPTH, 50, 0.5)),
    ]
    for name, theirs, mine in ways:
        head = PartialFC_V2(*(mine if _is_last(group) else theirs), process_group=group)
        _told(group, name, lambda head=head: head(*_batch()))
