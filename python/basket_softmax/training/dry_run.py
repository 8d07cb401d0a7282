"""`bbs train --check`: the data, the memory and the time of a run, before it begins. Nothing is written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from ..checkpoint import CheckpointError
from ..data import CheckReport, UnreadableImage, check_baskets
from ..replacing import check_writable
from .backbones import BackboneError
from .batches import Batch, Batches
from .began import what_it_began_with
from .config import Config
from .datasets import DataError, Datasets, open_datasets, remarks
from .memory import (
    available_bytes,
    backbone_bytes,
    batch_bytes,
    head_bytes,
    loader_bytes,
    saved_for_backward,
    size_text,
)
from .meter import Meter
from .model import aliases_text
from .ranks import Ranks, joined_ranks
from .run import check_extras, first_step, known_aliases, make_trainer
from .run_lock import refuse_running
from .state import ResumeError, RunFolder, restore
from .step import Trainer

TRIED = 8  # steps that are timed, after two that are not
SECONDS = 60.0  # no more are tried after that


@dataclass(frozen=True)
class DryRun:
    """What a run would meet and cost; printable.

    data: the `bs.data.CheckReport` of every basket.
    steps: of the run; memory: bytes per rank, by purpose; available: bytes that the device has.
    step_seconds: median of the steps that were tried; validation_seconds: of all validations together, estimated.
    problems: why it would fail, or measure what it trained; empty if it would not.
    notes: what else is to be known: aliases, and what would have no effect.
    """

    data: CheckReport
    steps: int
    memory: dict[str, int]
    available: int
    step_seconds: float | None
    validation_seconds: float
    device: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing stands against the run."""
        return not self.problems

    def __str__(self) -> str:
        width = max(map(len, self.memory))
        lines = [
            str(self.data),
            "",
            f"memory per rank, computed ({self.device} has {size_text(self.available)} free)",
        ]
        lines += [f"  {name:{width}}  {size_text(count):>10}" for name, count in self.memory.items()]
        lines += [f"  {'together':{width}}  {size_text(sum(self.memory.values())):>10}", ""]
        if self.step_seconds is not None:
            total = self.steps * self.step_seconds + self.validation_seconds
            measured = f", validation {_time(self.validation_seconds)}" if self.validation_seconds else ""
            lines.append(
                f"time: {self.steps:,} steps of {1000 * self.step_seconds:.3g} ms{measured}, {_time(total)} in all"
            )
        lines += self.notes
        lines += [f"problem: {problem}" for problem in self.problems]
        lines.append("ready to train" if self.ok else f"{len(self.problems)} to solve first")
        return "\n".join(lines)


def check(
    config: Config,
    progress: Callable[[int, int], None] | None = None,
    resume: bool = False,
    decode: bool = False,
) -> DryRun:
    """Read every image's header, make backbone and head, train a few steps, and throw them away.

    Args:
        progress: called with (images read, images in all).
        resume: as for `train`; what is in the output folder stands against one or the other. A checkpoint that the
            run would go on from is loaded, and compared with data and config.
        decode: also decode every image, which finds files that are cut off.

    Raises:
        DataError, MissingExtra, OSError: as `train` would, when the baskets cannot be opened.
    """
    with joined_ranks(config.device) as ranks:
        check_extras(config)
        data = open_datasets(config)
        batches = Batches(config, data.training, ranks.rank, ranks.world)
        report = check_baskets(data.sources, config.image.build(), progress, decode=decode)
        problems = [] if report.ok else ["data: see above"]
        notes = [f"warning: {remark}" for remark in remarks(config, data)]
        classes = sum(len(basket.identities) for basket in data.training)
        memory = head_bytes(config, classes, ranks.world)
        available = available_bytes(ranks.device)
        if sum(memory.values()) > available:
            problems.append(
                f"the head needs {size_text(sum(memory.values()))}: fewer classes per rank, or a smaller width"
            )
        images = batch_bytes(config, ranks.world)
        if images > available and not problems:
            problems.append(
                f"the images of a step take {size_text(images)}: a smaller batch_size or image.size, now "
                f"{config.batch_size} and {config.image.size}"
            )
        seconds, validation, start = None, 0.0, 0
        can_step = not problems
        problems += _leaks(report, len(data.training))
        try:
            check_writable(config.output)
            refuse_running(config.output)
            start = first_step(RunFolder(config.output), config, resume)
        except (ResumeError, OSError) as error:
            problems.append(f"output: {error}")
        try:
            aliases = known_aliases(config, data)
            notes += [] if aliases is None else [f"aliases: {aliases_text(aliases)}"]
            if can_step:
                trainer = make_trainer(config, data, batches, ranks, aliases)
                memory |= backbone_bytes(config, trainer)
                tried, activations = _try(trainer, batches)
                memory["activations of a step, measured"] = activations
                memory["images that wait"] = loader_bytes(config, ranks.world)
                seconds, validation = tried, _validation_seconds(trainer, config, data, batches, ranks)
                if start:
                    restore(
                        RunFolder(config.output), start, trainer, Meter(), what_it_began_with(data, aliases)
                    )
        except (BackboneError, CheckpointError, DataError, ResumeError, UnreadableImage) as error:
            problems.append(str(error))
        return DryRun(
            report, batches.steps, memory, available, seconds, validation, str(ranks.device), problems, notes
        )


def _leaks(report: CheckReport, training: int) -> list[str]:
    """Images that are trained and held out as well, by their bytes; the first `training` baskets are trained."""
    members = report.duplicates
    held_out = members.basket >= training
    group = np.repeat(np.arange(len(members)), np.diff(members.start))
    trained = np.zeros(len(members), bool)
    trained[group[~held_out]] = True
    count = int((held_out & trained[group]).sum())
    if count == 0:
        return []
    return [
        f"{count:,} of the images of validation.baskets {'is' if count == 1 else 'are'} trained too: what is measured "
        "on them says nothing of people who were not trained"
    ]


def _try(trainer: Trainer, batches: Batches) -> tuple[float, int]:
    """(seconds per step with its images, bytes kept for the backward pass)."""
    began, seconds, saved_bytes = time.perf_counter(), [], 0
    last = began
    for number, batch in enumerate(islice(batches.from_step(0), 2 + TRIED)):
        if number == 0:
            saved_bytes = _first(trainer, batch)
        else:
            trainer.step(number, batch)
        _wait(trainer.ranks)
        now = time.perf_counter()
        seconds.append(now - last)
        last = now
        if now - began > SECONDS:
            break
    return statistics.median(seconds[2:] or seconds), saved_bytes


def _first(trainer: Trainer, batch: Batch) -> int:
    parameters = [p for module in (trainer.backbone, trainer.head) for p in module.parameters()]
    with saved_for_backward(parameters) as saved:
        trainer.step(0, batch)
    return saved.bytes


def _wait(ranks: Ranks) -> None:
    if ranks.device.type == "cuda":
        torch.cuda.synchronize(ranks.device)


@torch.no_grad()
def _validation_seconds(
    trainer: Trainer, config: Config, data: Datasets, batches: Batches, ranks: Ranks
) -> float:
    """Time of embedding all held-out images, from a single batch; comparing them is left out."""
    if config.validation is None:
        return 0.0
    images = next(batches.from_step(0))[0].to(ranks.device)
    trainer.backbone.eval()
    trainer.backbone(images)
    began = time.perf_counter()
    trainer.backbone(images)
    _wait(ranks)
    times = -(-config.epochs // config.validation.every_epochs)
    # Of pairs every image is embedded as it is and mirrored.
    held_out = sum(len(basket) for basket in data.held_out) + 2 * sum(len(p.images) for p in data.pairs)
    return (time.perf_counter() - began) * held_out / ranks.world / len(images) * times


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours / 24:.1f} days"
