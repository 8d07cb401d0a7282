"""One training of the demo: one rule, one seed, then recognition of characters that were never trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import basket_softmax as bs

from ..data import Glyphs, MixedBasketSampler, load_glyphs, views
from .measure import recognise
from .model import WIDTH, as_input, make_model
from .regimes import REGIMES, Regime, TrainingSet, draw_training_set, with_wrong_labels
from .rules import LINKED, labels_for, link_quality, make_linker, make_loss

BATCH = 128
LEARNING_RATE = 8e-3
WEIGHT_DECAY = 5e-4
WARM_UP = 0.08  # share of the steps in which the learning rate rises
MARGIN, MARGIN_RAMP = 0.35, 0.2
SCALE = 16.0
VIEWS = 8  # augmented copies of each picture to draw from
STRENGTH = 0.8  # of the augmentation in training


def train_once(
    rule: str,
    seed: int,
    regime_name: str = "many",
    split: str = "test",
    advance: Callable[[], None] = lambda: None,
    steps: int | None = None,
    wrong_labels: float = 0.0,
) -> dict[str, Any]:
    """Train under `rule`, then measure on the characters of `split`; one row of results.json.

    `rule` is one of `RULES`, or one of `LINKED`, whose rows have `link_precision` and `link_recall` too; the last of
    these trains twice, the second time with the identities that the first one found.
    The seed draws baskets, weights, order and views; all rules of a seed see the same of each but the order of
    random numbers that the rule itself consumes. `advance` is called after every step; `steps` shortens a test.
    `wrong_labels`: this share of the training labels is wrong within its basket (`regimes.with_wrong_labels`), the
    same ones for every rule.
    """
    began = time.perf_counter()
    regime = REGIMES[regime_name]
    steps = steps or regime.steps
    glyphs = load_glyphs()
    data = with_wrong_labels(draw_training_set(glyphs, regime, seed), wrong_labels, seed)
    known = None
    for _ in range(LINKED.get(rule, 1)):
        trained = _train(rule, seed, regime, glyphs, data, steps, advance, known)
        known = None if trained.linker is None else trained.linker.shared
    found = recognise(trained.model, glyphs, split, regime.basket_of_font(glyphs))
    if trained.linker is not None:
        found |= link_quality(trained.linker, trained.labels, data.identity)
    return {"rule": rule, "seed": seed, **found, "seconds": round(time.perf_counter() - began, 2)}


class _Trained(NamedTuple):
    """labels: [N] global, of the training pictures."""

    model: nn.Module
    linker: bs.IdentityLinker | None
    labels: Tensor


def _train(
    rule: str,
    seed: int,
    regime: Regime,
    glyphs: Glyphs,
    data: TrainingSet,
    steps: int,
    advance: Callable[[], None],
    known: Tensor | None,
) -> _Trained:
    """The training itself; known: [C] aliases to start with."""
    generator = torch.Generator().manual_seed(seed)
    pool = views(torch.from_numpy(glyphs.images[data.image]), VIEWS, generator, STRENGTH)
    torch.manual_seed(seed)
    model = make_model()
    loss = make_loss(rule, regime, data, WIDTH, SCALE)
    loss.set_aliases(known)
    labels = labels_for(rule, data, loss)
    linker = make_linker(rule, loss, steps, seed)
    optimizer = torch.optim.AdamW(_groups(model, loss), lr=LEARNING_RATE)
    sampler = MixedBasketSampler(torch.from_numpy(data.basket), BATCH, seed=seed, drop_last=True)
    model.train()
    for step, batch in zip(range(steps), _epochs(sampler), strict=False):
        done = step / steps
        loss.margin = bs.CosFace(MARGIN * min(1.0, done / MARGIN_RAMP))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(done)
        rows = torch.tensor(batch)
        images = pool[rows, torch.randint(VIEWS, (len(rows),), generator=generator)]
        shift = torch.randint(-1, 2, (2,), generator=generator).tolist()
        embeddings = model(as_input(images.roll(shift, (1, 2))))
        value = loss(embeddings, labels[rows] if linker is None else linker(embeddings, labels[rows]))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        advance()
    return _Trained(model, linker, labels)


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
