"""`train`: a config to a trained run, from the start or from the last checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..baskets import Baskets
from ..data.extras import optional
from ..replacing import check_writable, replacing
from .batches import Batches
from .began import what_it_began_with
from .config import Config
from .datasets import Datasets, open_datasets
from .diverged import check_finite
from .logs import CsvLog, TensorBoardLog
from .meter import Meter
from .model import aliases_of, build_backbone, build_head
from .overlap_log import overlap_candidates
from .progress import Progress
from .randomness import seed_alike, seed_apart
from .ranks import Ranks, joined_ranks
from .reading import differences, load_config, to_yaml
from .run_lock import run_lock
from .state import CONFIG, ResumeError, RunFolder, restore, save
from .step import Trainer
from .validate import validate

# What may change when a run goes on: that images and aliases are the same ones, the checkpoint knows by itself.
FREE = (
    "output",
    "workers",
    "log.tensorboard",
    "checkpoint.*",
    "baskets.*.path",
    "validation.baskets.*.path",
    "validation.pairs.*",
    "loss.aliases",
)


@dataclass(frozen=True)
class Summary:
    """steps: of the run; metrics: the last row of metrics.csv; validation: of validation.csv, empty without one."""

    steps: int
    metrics: dict[str, Any]
    validation: dict[str, Any]


def train(config: Config, resume: bool = False) -> Summary:
    """Train as `config` says; under torchrun every rank calls it.

    Writes config.yaml, metrics.csv, validation.csv, overlaps.csv, tensorboard/ and checkpoints/ into `config.output`.

    Args:
        resume: go on from the last checkpoint in `config.output`, if there is one. On the CPU, with as many ranks and
            threads as before, weights and logs are those of a run that was never interrupted, bit for bit.

    Raises:
        ResumeError: the folder holds a run and `resume` is False, or the run in it had another config or other data, or
            is still going on.
        DataError, BackboneError: the config does not fit the data, or names no usable backbone.
        Diverged: the loss, a weight or an embedding is NaN or Inf; nothing of it is in a checkpoint.
        MissingExtra: a library that the config needs is not installed.
        OSError: `config.output` cannot be written.
        CheckpointError: the last checkpoint is damaged.
    """
    with joined_ranks(config.device) as ranks:
        folder = RunFolder(config.output)
        check_writable(config.output)
        check_extras(config)
        with run_lock(config.output, ranks):
            start = first_step(folder, config, resume)
            ranks.wait()  # nobody writes before all have looked
            return _train(config, open_datasets(config), folder, start, ranks)


def make_trainer(
    config: Config, data: Datasets, batches: Batches, ranks: Ranks, aliases: Tensor | None
) -> Trainer:
    """Backbone and head with their first weights, on the rank's device; the same on every rank."""
    seed_alike(config.seed)
    backbone = build_backbone(config).to(ranks.device)
    sizes = Baskets({basket.name: len(basket.identities) for basket in data.training})
    head = build_head(config, sizes, aliases, ranks.group).to(ranks.device)
    trainer = Trainer(config, backbone, head, ranks, batches.steps, batches.steps_per_epoch)
    seed_apart(config.seed, ranks.rank)
    return trainer


def known_aliases(config: Config, data: Datasets) -> Tensor | None:
    """[C] int64 of `loss.aliases`, whose every row names an identity of a basket; None without the file."""
    return aliases_of(config, data.training, data.sources[: len(data.training)])


def check_extras(config: Config) -> None:
    """A MissingExtra unless what the logs need is installed; images and tables say so when they are opened."""
    if config.log.tensorboard:
        optional("tensorboard", "tensorboard", "log.tensorboard")


def first_step(folder: RunFolder, config: Config, resume: bool) -> int:
    """The step to start from; nothing is written."""
    done = folder.steps()
    if (folder.config.exists() or done) and not resume:
        what = f"checkpoints up to step {done[-1]}" if done else "a run without a checkpoint"
        raise ResumeError(
            f"{folder.output} holds {what}: --resume goes on with it, another output starts a new run"
        )
    if not folder.config.exists() and not done:
        foreign = [log for log in (folder.metrics, folder.validation, folder.overlaps) if log.exists()]
        if foreign:  # the config is written before them
            raise ResumeError(
                f"{foreign[0]} is not of a run, as there is no {folder.config.name} beside it, and a run would replace "
                "it: choose another output, or move it away"
            )
    if not done:
        return 0
    begun = folder.checkpoint(done[-1]) / CONFIG
    if not begun.exists():
        raise ResumeError(f"{begun} is missing, so that nothing says whether the run began with this config")
    changed = differences(load_config(begun), config, FREE)
    if changed:
        raise ResumeError(
            "\n  ".join([f"{folder.output} was begun with another config, so it cannot go on:", *changed])
        )
    return done[-1]


def _train(config: Config, data: Datasets, folder: RunFolder, start: int, ranks: Ranks) -> Summary:
    batches = Batches(config, data.training, ranks.rank, ranks.world)
    meter, aliases = Meter(), known_aliases(config, data)
    trainer = make_trainer(config, data, batches, ranks, aliases)
    began = what_it_began_with(data, aliases)
    if start:
        restore(folder, start, trainer, meter, began)
    logs = None
    if ranks.first:
        with replacing(folder.config) as file:
            file.write(to_yaml(config))
        logs = _Logs(config, folder, start)
    per_epoch = batches.steps_per_epoch
    row: dict[str, Any] = {}
    found: dict[str, Any] = {}
    with Progress(config, data, batches, start, ranks, aliases) as progress:
        for step, batch in enumerate(
            batches.from_step(start), start + 1
        ):  # step: how many are done after this one
            result = trainer.step(step - 1, batch)
            meter.add(result)
            epoch, ended = -(-step // per_epoch), step % per_epoch == 0
            if step % config.log.every_steps == 0 or step == batches.steps:
                row = meter.row(step, epoch, result, trainer)
                if logs is not None:
                    logs.metrics(row)
                    progress.logged(row)
            progress.advance(step)
            saved = ended or (config.checkpoint.every_steps and step % config.checkpoint.every_steps == 0)
            if saved:  # and before that measured
                check_finite(trainer, meter.total(), step)
            if ended and _is_measured(config, epoch):
                assert config.validation is not None
                measured = validate(
                    trainer.backbone, data.held_out, batches.dataset.image_format, ranks,
                    config.validation.fars, max(2, config.batch_size // ranks.world), config.workers, data.pairs,
                )  # fmt: skip
                if logs is not None:
                    found = {"step": step, "epoch": epoch, **measured}
                    logs.validation(found)
                    progress.measured(found)
            if ended and config.log.overlap_cosine is not None:
                counted = overlap_candidates(trainer.head, config.log.overlap_cosine, ranks)
                if logs is not None:
                    logs.overlaps({"step": step, "epoch": epoch, **counted})
            if saved:
                save(folder, config, trainer, meter, step, began)
    if logs is not None:
        if start == batches.steps:
            row, found = logs.last()
        logs.close()
    row, found = ranks.from_all((row, found))[0]
    return Summary(batches.steps, row, found)


def _is_measured(config: Config, epoch: int) -> bool:
    if config.validation is None:
        return False
    return epoch % config.validation.every_epochs == 0 or epoch == config.epochs


class _Logs:
    """The files that rank 0 writes."""

    def __init__(self, config: Config, folder: RunFolder, start: int) -> None:
        self._metrics, self._validation = CsvLog(folder.metrics, start), CsvLog(folder.validation, start)
        self._overlaps = CsvLog(folder.overlaps, start)
        self._board = TensorBoardLog(folder.tensorboard, start) if config.log.tensorboard else None

    def metrics(self, row: dict[str, Any]) -> None:
        self._write(self._metrics, row, "train")

    def validation(self, row: dict[str, Any]) -> None:
        self._write(self._validation, row, "validation")

    def overlaps(self, row: dict[str, Any]) -> None:
        self._write(self._overlaps, row, "overlaps")

    def last(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The last rows of metrics.csv and validation.csv."""
        return self._metrics.last(), self._validation.last()

    def _write(self, log: CsvLog, row: dict[str, Any], prefix: str) -> None:
        log.write(row)
        if self._board is not None:
            self._board.write(row, prefix)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
