"""The folder of a run, and all that a resumed run needs to go on bit for bit.

    output/config.yaml                the resolved config
    output/metrics.csv, validation.csv, overlaps.csv, tensorboard/
    output/checkpoints/step-00000120/ a checkpoint of basket_softmax.checkpoint, and the config once more

A checkpoint counts once its checkpoint.json is there, which is renamed into place last.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .. import checkpoint
from ..checkpoint.folder import being_read
from ..checkpoint.manifest import NAME as COMPLETE
from ..checkpoint.steps import complete_steps, named_steps, step_folder
from .began import what_changed
from .config import Config
from .linker_state import linker_state, load_linker_state
from .meter import Meter
from .randomness import random_state, seed_apart, set_random_state
from .reading import to_yaml
from .step import Trainer

CONFIG = "config.yaml"


class RunFolder:
    """Paths of a run's output."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.config = output / CONFIG
        self.metrics, self.validation = output / "metrics.csv", output / "validation.csv"
        self.overlaps = output / "overlaps.csv"
        self.tensorboard, self.checkpoints = output / "tensorboard", output / "checkpoints"

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(complete_steps(self.checkpoints))

    def checkpoint(self, step: int) -> Path:
        """The folder of one."""
        return step_folder(self.checkpoints, step)

    def prune(self, keep: int) -> None:
        """Remove all but the last `keep`, and what crashed attempts left; what is being read stays until next time."""
        kept = self.steps()[-keep:]
        for step, folder in named_steps(self.checkpoints).items():
            if step not in kept and not being_read(folder):
                (folder / COMPLETE).unlink(missing_ok=True)  # first, so that half a folder never counts
                shutil.rmtree(folder, ignore_errors=True)


def save(
    folder: RunFolder, config: Config, trainer: Trainer, meter: Meter, step: int, began: dict[str, str]
) -> None:
    """Write the checkpoint after `step` steps; every rank calls it.

    Args:
        began: of `what_it_began_with`.
    """
    ranks, optimizers = trainer.ranks, trainer.optimizers
    extra = {
        "step": step,
        **began,
        "backbone": trainer.backbone.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "meter": meter.state_dict(),
        "random": ranks.from_all(random_state(ranks.device)),
        "linker": None if trainer.linker is None else linker_state(trainer.linker, trainer.head),
        "optimizer": None if optimizers.fused is None else optimizers.main.state_dict(),
    }
    target = folder.checkpoint(step)
    if ranks.first:
        target.mkdir(parents=True, exist_ok=True)
        (target / CONFIG).write_text(to_yaml(config), encoding="utf-8")
    ranks.wait()
    checkpoint.save(target, trainer.head, optimizers.fused or optimizers.main, extra)
    if ranks.first:
        folder.prune(config.checkpoint.keep)
    ranks.wait()


def restore(folder: RunFolder, step: int, trainer: Trainer, meter: Meter, began: dict[str, str]) -> None:
    """Load that checkpoint; every rank calls it.

    Args:
        began: of `what_it_began_with`, now.

    Raises:
        CheckpointError: it is damaged or of another head; the message names what differs.
        ResumeError: the data or the known identities have changed since.
    """
    ranks, optimizers = trainer.ranks, trainer.optimizers
    target = folder.checkpoint(step)
    extra = checkpoint.load(target, trainer.head, optimizers.fused or optimizers.main)
    changed = what_changed(extra, began)
    if changed is not None:
        raise ResumeError(
            f"{changed} when {target} was written: a run goes on with the same data only; choose another output to "
            "start a new one"
        )
    trainer.backbone.load_state_dict(extra["backbone"])
    trainer.scaler.load_state_dict(extra["scaler"])
    meter.load_state_dict(extra["meter"], ranks.device)
    if trainer.linker is not None:
        load_linker_state(trainer.linker, trainer.head, extra["linker"])
    if optimizers.fused is not None:
        optimizers.main.load_state_dict(extra["optimizer"])
    if len(extra["random"]) == ranks.world:
        set_random_state(extra["random"][ranks.rank], ranks.device)
    else:  # another number of ranks: no rank can go on with the numbers of another
        seed_apart(trainer.config.seed + step, ranks.rank)


class ResumeError(ValueError):
    """A run that cannot go on; the message says why."""
