"""One training of the demo: one rule, one seed, then recognition of characters that were never trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import basket_softmax as bs

from ..data import MixedBasketSampler, load_glyphs, views
from .measure import recognise
from .model import WIDTH, as_input, make_model
from .regimes import REGIMES, draw_training_set, with_wrong_labels
from .rules import LINKED, labels_for, link_quality, make_linker, make_loss

BATCH = 128
LEARNING_RATE = 8e-3
WEIGHT_DECAY = 5e-4
WARM_UP = 0.08  # share of the steps in which the learning rate rises
MARGIN, MARGIN_RAMP = 0.35, 0.2
SCALE = 16.0
VIEWS = 8  # augmented copies of each picture to draw from
STRENGTH = 0.8  # of the augmentation in training
Advance = Callable[[Tensor], None]


class Trained(NamedTuple):
    """What a training leaves; labels: [N] global, of the training pictures, and identity: [N], who they are."""

    model: nn.Module
    linker: bs.IdentityLinker | None
    labels: Tensor
    identity: np.ndarray


def train_once(
    rule: str,
    seed: int,
    regime_name: str = "many",
    split: str = "test",
    advance: Advance = lambda loss: None,
    steps: int | None = None,
    norm: str = "batch",
    group: dist.ProcessGroup | None = None,
    wrong_labels: float = 0.0,
) -> dict[str, Any]:
    """Train under `rule`, then measure on the characters of `split`; one row of results.json.

    Arguments are those of `train`. A rule of `LINKED` adds `link_precision` and `link_recall`; the last of them trains
    twice, the second time with the identities that the first one found. With a process group every rank calls it, and
    rank 0 alone measures: the others get a row of rule, seed and seconds.
    """
    began = time.perf_counter()
    known = None
    for _ in range(LINKED.get(rule, 1)):
        trained = train(
            rule, seed, regime_name, advance=advance, steps=steps, norm=norm, group=group,
            wrong_labels=wrong_labels, known=known,
        )  # fmt: skip
        known = None if trained.linker is None else trained.linker.shared
    found: dict[str, float] = {}
    if group is None or dist.get_rank(group) == 0:
        glyphs = load_glyphs()
        found = recognise(trained.model, glyphs, split, REGIMES[regime_name].basket_of_font(glyphs))
        if trained.linker is not None:
            found |= link_quality(trained.linker, trained.labels, trained.identity)
    return {"rule": rule, "seed": seed, **found, "seconds": round(time.perf_counter() - began, 2)}


def train(
    rule: str,
    seed: int,
    regime_name: str = "many",
    *,
    advance: Advance = lambda loss: None,
    steps: int | None = None,
    norm: str = "batch",
    group: dist.ProcessGroup | None = None,
    wrong_labels: float = 0.0,
    known: Tensor | None = None,
) -> Trained:
    """One network, trained.

    The seed draws baskets, weights, order and views; all rules of a seed see the same of each but the order of
    random numbers that the rule itself consumes.

    Args:
        rule: one of `RULES` or of `LINKED`.
        advance: called after every step with its loss, detached.
        steps: fewer or more than the regime's, to shorten a test.
        norm: one of `model.NORMS`.
        group: its ranks share every batch, each taking a part of the rows, and the classes; all of them must call this
            with the same arguments. With `norm` "group" they train as one process does, up to rounding.
        wrong_labels: this share of the training labels is wrong within its basket (`regimes.with_wrong_labels`), the
            same ones for every rule.
        known: [C] aliases to start with.
    """
    regime = REGIMES[regime_name]
    steps = steps or regime.steps
    glyphs = load_glyphs()
    data = with_wrong_labels(draw_training_set(glyphs, regime, seed), wrong_labels, seed)
    generator = torch.Generator().manual_seed(seed)
    pool = views(torch.from_numpy(glyphs.images[data.image]), VIEWS, generator, STRENGTH)

    torch.manual_seed(seed)
    model = make_model(norm)
    loss = make_loss(rule, regime, data, WIDTH, SCALE, group)
    loss.set_aliases(known)
    labels = labels_for(rule, data, loss)
    linker = make_linker(rule, loss, steps, seed)
    optimizer = torch.optim.AdamW(_groups(model, loss), lr=LEARNING_RATE)
    sampler = MixedBasketSampler(torch.from_numpy(data.basket), BATCH, seed=seed, drop_last=True)
    model.train()
    net = model if group is None else DistributedDataParallel(model, process_group=group)
    for step, batch in zip(range(steps), _epochs(sampler), strict=False):
        done = step / steps
        loss.margin = bs.CosFace(MARGIN * min(1.0, done / MARGIN_RAMP))
        for settings in optimizer.param_groups:
            settings["lr"] = LEARNING_RATE * _schedule(done)
        # Every rank draws for the whole batch, so that the numbers are those of one process, and takes its rows.
        rows = torch.tensor(batch)
        view = torch.randint(VIEWS, (len(rows),), generator=generator)
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
        own = _own_rows(len(rows), group)
        images = pool[rows[own], view[own]].roll(shift, (1, 2))
        embeddings, given = net(as_input(images)), labels[rows[own]]
        value = loss(embeddings, given if linker is None else linker(embeddings, given))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        advance(value.detach())
    return Trained(model, linker, labels, data.identity)


def _own_rows(rows: int, group: dist.ProcessGroup | None) -> slice:
    """This rank's part of a batch; parts differ by one row at most."""
    if group is None:
        return slice(None)
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    return slice(rows * rank // world, rows * (rank + 1) // world)


def _groups(model: nn.Module, loss: nn.Module) -> list[dict[str, Any]]:
    """Weight decay on convolutions and the linear layer only."""
    kernels = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1] + list(loss.parameters())
    return [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]


def _schedule(done: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    if done < WARM_UP:
        return max(done, 1e-3) / WARM_UP
    return 0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP) / (1.0 - WARM_UP)))


def _epochs(sampler: MixedBasketSampler) -> Any:
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        yield from sampler
        epoch += 1
