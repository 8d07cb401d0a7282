"""Bodies: ranks that make a head, or call it, each in its own way; every rank must hear of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
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
    "adaface": ("margin", bs.AdaFace(0.3)),
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
        key = {"order": "baskets", "own margin": "margin", "adaface": "margin"}.get(argument, argument)
        theirs: dict[str, Any] = {
            "aliases": {"aliases": torch.zeros(50).long()}, "adaface": {"margin": bs.AdaFace(0.4)}
        }.get(argument, {})  # fmt: skip
        mine = {key: value} if _is_last(group) else theirs
        head = _head(group, equal_batches=equal_batches, **mine)
        _told(group, name, lambda head=head: head(*_batch()))
    alike = _head(group, equal_batches=equal_batches)
    assert alike(*_batch()).isfinite()  # nobody is left behind in a collective


@dataclass
class OwnMargin:
    """A user's own: its repr holds an address."""

    shift: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, cos_t: torch.Tensor) -> torch.Tensor:
        return self.shift(cos_t)


def made_alike(group: dist.ProcessGroup) -> None:
    """What ranks cannot compare by its text is compared by its class alone."""
    for margin in (OwnMargin(lambda c: c - 0.3), lambda c: c - 0.3, bs.AdaFace(), bs.MagFace()):
        head = _head(group, margin=margin, scale=32 if _is_last(group) else 32.0)
        assert head(*_batch()).isfinite()


def promised_otherwise(group: dist.ProcessGroup) -> None:
    """equal_batches on one rank alone, and aliases taken away on one rank alone."""
    head = _head(group, equal_batches=_is_last(group))
    _told(group, "equal_batches", lambda: head(*_batch()))
    known = torch.full((50,), -1)
    head, batch = _head(group, aliases=known, equal_batches=True), _batch()
    assert torch.equal(head(*batch), head(*batch))  # with the exchange of the first step, and without
    head.set_aliases(None if _is_last(group) else known)
    _told(group, "aliases", lambda: head(*_batch()))


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


def wrong_baskets_on_one_rank(group: dist.ProcessGroup) -> None:
    """What is wrong on one rank is raised on all, and nobody waits."""
    head, last = _head(group), _is_last(group)
    rank = dist.get_world_size(group) - 1
    centres = torch.randn(4, DEPTH)
    wrong = [
        (ValueError, {"name": "a"}, "basket 'a' exists already"),
        (TypeError, {"size": "six"}, "must be an int|expected an int"),
        (ValueError, {"init": "zeros"}, "init: expected 'random'"),
        (ValueError, {"init": centres[1:]}, "init: expected shape"),
        (TypeError, {"optimizer": "x"}, "optimizer: expected a torch.optim.Optimizer"),
    ]
    for kind, mine, text in wrong:
        arguments = {"name": "c", "size": 4, **(mine if last else {})}
        message = refusal(kind, lambda arguments=arguments: head.add_basket(**arguments))
        assert message.startswith(f"rank {rank} of"), message
        assert re.search(text, message), message
    different = [
        ("init", {"init": centres if last else "random"}),
        ("init", {"init": centres + last}),
        ("optimizer", {"optimizer": torch.optim.SGD([head.weight], lr=0.1) if last else None}),
    ]
    for name, arguments in different:
        _told(group, name, lambda arguments=arguments: head.add_basket("c", 4, **arguments))
    assert head.num_classes == 50
    means = bs.ClassMeans(head, 4)
    for embeddings in (None, torch.ones(4, DEPTH).long()):
        x = embeddings if last else torch.randn(4, DEPTH)
        message = refusal(TypeError, lambda x=x: means.update(x, torch.arange(4)))
        assert f"rank {rank}" in message, message
        assert "embeddings: expected a" in message, message


def linked_in_several_dtypes(group: dist.ProcessGroup) -> None:
    """Ranks may bring embeddings of several dtypes: they travel as prototypes."""
    made = []
    for mine in (torch.float32, torch.bfloat16 if _is_last(group) else torch.float16):
        linker = bs.IdentityLinker(_head(group))
        x = torch.full((4, DEPTH), 0.5).cumsum(1).to(mine)
        linker(x, torch.arange(4), 0)
        made.append(linker.prototypes)
    torch.testing.assert_close(*made)
    x = torch.ones(4, DEPTH).long() if _is_last(group) else torch.ones(4, DEPTH)
    message = refusal(TypeError, lambda: linker(x, torch.arange(4), 0))
    assert "embeddings: expected a floating-point tensor, got torch.int64" in message, message


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
