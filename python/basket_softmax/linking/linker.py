"""`IdentityLinker`: finds, while a head is trained, which classes of different baskets are one identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbs_kernels.resharding.growth import growth_here, growth_of_shards
from bbs_kernels.validate import check_bool, check_floating, is_integer

from ..layout import Layout, layout_of, load_rows, note_layout
from ..matching import Groups, mutual_nearest
from . import prototypes
from .arguments import check_fraction, check_thresholds
from .protocol import LinkedHead, Placement
from .shards import gathered, known_everywhere
from .sharing import SharedLabels

ADVICE = "each rank loads the state that it saved, at the same number of ranks"


class IdentityLinker(nn.Module):
    """Links classes of different baskets to identities and tells a running `BasketSoftmaxLoss` about them.

        linker = bs.IdentityLinker(loss)
        for images, labels, basket in batches:
            embeddings = backbone(images)
            value = loss(embeddings, linker(embeddings, labels, basket))

    Each call moves the prototypes (running means of unit embeddings) of the batch's classes. Every `every` calls the
    prototypes, each less the mean of its basket, are matched: classes of two baskets that are mutually nearest and more
    similar than `exclude` are joined to identities, the most similar first, never two classes of one basket. From then
    on the loss treats joined classes as one identity (`BasketSoftmaxLoss.set_aliases`): neither is a negative of the
    other. Those joined at more than `share` also exchange labels: a row is trained under another class of its identity
    with probability `probability`. Links are found anew each time; one that no longer holds is gone.

    Args:
        loss: the head. Aliases it has are kept as known identities.
        exclude: cosine of prototypes from which linked classes are no negatives of each other, in [-1, 1].
        share: cosine from which they exchange labels, >= `exclude`; None: they never do.
        probability: that a row of a class with such links is trained under another one's label, in [0, 1].
        every: calls between two matchings, >= 1. A matching compares all pairs of classes of different baskets.
        start: calls before the first matching.
        momentum: share of a prototype that one embedding leaves, in [0, 1).
        centred: subtract each basket's mean from its prototypes; what tells baskets apart then no longer hides who is
            the same.
        seed: of the exchanged labels. The same seed, step and batch give the same labels, also after a restart.

    Attributes:
        prototypes: [C, D] fp32; under the head's process group those of this rank's classes.
        excluded, shared: [C] int64 of all classes on every rank, identities found so far: classes with the same
            non-negative value are linked.
        step: calls so far.
        in_place: False. Assign True to hand links over by `set_aliases(..., in_place=True)`, as a step captured in a
            CUDA graph needs it; the head must then have `aliases` from the start.

    The state_dict holds all of them; the first one after `add_basket` under a process group is for every rank to ask.
    Memory: C x D numbers (divided by the ranks) and some 48 bytes a class;
    a matching needs some five times C x D numbers on the CPU of rank 0.

    Raises:
        TypeError, ValueError: an argument that is not of these; the message says what was expected.
    """

    prototypes: Tensor
    excluded: Tensor
    shared: Tensor
    known: Tensor

    def __init__(
        self,
        loss: LinkedHead,
        *,
        exclude: float = 0.6,
        share: float | None = None,
        probability: float = 0.5,
        every: int = 20,
        start: int = 0,
        momentum: float = 0.8,
        centred: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(loss, LinkedHead):
            raise TypeError(f"loss: expected a BasketSoftmaxLoss, got {type(loss).__name__}")
        self.exclude, self.share = check_thresholds(exclude, share)
        self.probability = check_fraction("probability", probability, one=True)
        self.momentum = check_fraction("momentum", momentum, one=False)
        for name, value, least in (("every", every, 1), ("start", start, 0), ("seed", seed, 0)):
            if not is_integer(value) or value < least:
                raise ValueError(f"{name}: expected an int >= {least}, got {value!r}")
        self.every, self.start, self.seed = int(every), int(start), int(seed)
        self.centred, self.in_place = check_bool("centred", centred), False
        self._loss = [loss]  # in a list: its centres are not parameters of this module
        parallel = loss.placement
        classes = loss.num_classes if parallel is None else parallel.shard.num_local
        empty = torch.zeros(classes, loss.embedding_size, dtype=torch.float32, device=loss.weight.device)
        self.register_buffer("prototypes", empty)
        known = known_everywhere(loss)
        self.register_buffer("excluded", known)
        self.register_buffer("shared", known.clone())
        self.register_buffer("known", known.clone(), persistent=False)
        self.step = 0
        self._sharding = None if parallel is None else parallel.shard.sharding
        self._labels = SharedLabels(self.shared)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, labels: Tensor, basket: Tensor | int | str | None = None) -> Tensor:
        """Take a batch in, match when it is time, and give the labels to train with.

        Args:
            embeddings: [B, D] of the batch, any floating dtype; gradients do not pass.
            labels, basket: as for the loss. Under a process group every rank brings its own rows and must call it.

        Returns:
            [B] int64 global classes for the loss, in eval mode the given ones (and nothing is learnt).
        """
        loss = self._loss[0]
        parallel = loss.placement
        if parallel is None or not self.training:
            labels = loss.global_labels(embeddings, labels, basket)
            check_floating("embeddings", embeddings)
            if not self.training:
                return labels
        self._follow_growth()
        if parallel is None:
            prototypes.update(self.prototypes, embeddings, labels, self.momentum)
        else:
            labels = self._update_together(parallel, embeddings, labels, basket)
        if self.step >= self.start and (self.step - self.start) % self.every == 0:
            self.match()
        if self.share is not None:
            labels = self._labels.draw(labels, self.probability, self._generator())
        self.step += 1
        return labels

    @torch.no_grad()
    def match(self) -> None:
        """Find the links anew from the prototypes and hand them to the loss; under a process group on every rank."""
        self._follow_growth()
        loss = self._loss[0]
        full = gathered(self.prototypes, loss.placement)
        found = torch.empty((2, loss.num_classes), dtype=torch.int64, device="cpu")
        if full is not None:  # one process, or rank 0
            # Whatever torch's default device is, and a step under autocast finds the same links.
            with torch.device("cpu"), torch.autocast("cpu", enabled=False):
                found = torch.stack(self._identities(full, loss.baskets.offsets))
        found = found.to(self.excluded.device)
        if loss.placement is not None:
            found = loss.placement.ranks.broadcast(found, 0)
        self._adopt(*found)

    def _identities(self, full: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Both aliases [C] from the prototypes of all classes, on the CPU."""
        if self.centred:
            full = prototypes.without_basket_mean(full, offsets)
        pairs = mutual_nearest(full, offsets, minimum=self.exclude)
        groups = Groups(offsets, full, self.known.cpu())
        if self.share is not None:
            sure = int((pairs.cosine >= self.share).sum())  # the first ones
            groups.join(pairs.first[:sure], pairs.second[:sure], self.share)
        shared = groups.aliases()
        groups.join(pairs.first, pairs.second, self.exclude)
        return groups.aliases(), shared

    def _adopt(self, excluded: Tensor, shared: Tensor) -> None:
        self.excluded.copy_(excluded)
        self.shared.copy_(shared)
        self._labels = SharedLabels(self.shared)
        self._loss[0].set_aliases(self.excluded, in_place=self.in_place)

    def _update_together(
        self, parallel: Placement, embeddings: Tensor, labels: Tensor, basket: Tensor | int | str | None
    ) -> Tensor:
        """Every rank's rows to the ranks that keep their classes; this rank's labels as global classes."""
        x, own, problem = self._loss[0].checked_rows(embeddings, labels, basket)
        ranks, shard = parallel.ranks, parallel.shard
        x = x.detach().to(self.prototypes.dtype)
        counts = ranks.row_counts(len(own), False, own.device, problem, common=self._common()).counts
        every, classes = ranks.gather_rows(x, counts), ranks.gather_rows(own, counts)
        real = (classes >= 0) & (classes < shard.num_classes)
        rows = shard.local_labels(classes, torch.where(real, shard.basket_of(classes), -1))
        prototypes.update(self.prototypes, every, rows, self.momentum)
        return own

    def _common(self) -> dict[str, Any]:
        return {
            "baskets": self._loss[0].baskets.as_dict(), "exclude": self.exclude, "share": self.share,
            "probability": self.probability, "every": self.every, "start": self.start, "momentum": self.momentum,
            "centred": self.centred, "seed": self.seed, "step": self.step,
        }  # fmt: skip

    def _generator(self) -> torch.Generator:
        parallel = self._loss[0].placement
        rank = 0 if parallel is None else parallel.ranks.rank
        (mixed,) = np.random.SeedSequence([self.seed, self.step, rank]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(mixed) >> 1)

    def _follow_growth(self) -> None:
        """After `add_basket`: the old classes' rows and zeros for the new ones, wherever the head put them."""
        loss = self._loss[0]
        added = loss.num_classes - len(self.excluded)
        if added == 0:
            return
        parallel = loss.placement
        if parallel is None or self._sharding is None:
            growth = growth_here(len(self.excluded), added)
        else:
            ranks, old = parallel.ranks, self._sharding
            growth = growth_of_shards(old, parallel.shard.sharding, ranks.rank, ranks.group)
        self.prototypes = growth.extend(self.prototypes)
        self._sharding = None if parallel is None else parallel.shard.sharding
        for name in ("excluded", "shared", "known"):
            old = getattr(self, name)
            setattr(self, name, torch.cat([old, old.new_full((added,), -1)]))
        self._labels = SharedLabels(self.shared)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.step, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.step = int(state)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self._follow_growth()
        super()._save_to_state_dict(destination, prefix, keep_vars)
        note_layout(destination, prefix, self._layout())

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._follow_growth()
        rows = ("prototypes", "excluded", "shared")
        load_rows(self, super()._load_from_state_dict, arguments, self._layout(), rows=rows, advice=ADVICE)
        self._adopt(self.excluded.clone(), self.shared.clone())

    def _layout(self) -> Layout:
        loss = self._loss[0]
        return layout_of(loss.baskets, loss.placement)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> IdentityLinker:
        # .half(), .to(torch.bfloat16): running means whose small steps would be lost stay fp32, and move all the same.
        means = self.prototypes
        super()._apply(fn, recurse)
        if self.prototypes.dtype != means.dtype:
            self.prototypes = means.to(self.prototypes.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "an IdentityLinker belongs to its loss and cannot be copied or pickled: make a new one for the copied loss "
            "and use state_dict() and load_state_dict()"
        )

    def extra_repr(self) -> str:
        return (
            f"exclude={self.exclude}, share={self.share}, probability={self.probability}, every={self.every}, "
            f"start={self.start}, momentum={self.momentum}, centred={self.centred}, seed={self.seed}"
        )
