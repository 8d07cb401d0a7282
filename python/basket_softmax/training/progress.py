"""What a person sees of a run: where it starts, a bar that moves, and a line per measurement; on rank 0."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from torch import Tensor

from .batches import Batches
from .config import Config
from .datasets import Datasets, remarks
from .model import aliases_text
from .ranks import Ranks

SHOWN = {"rank1": "rank-1", "accuracy": "accuracy"}  # other columns of validation.csv in capitals


class Progress:
    """A context manager around the training loop; silent on every rank but the first."""

    def __init__(
        self,
        config: Config,
        data: Datasets,
        batches: Batches,
        start: int,
        ranks: Ranks,
        aliases: Tensor | None = None,
    ) -> None:
        self._console = (
            Console(  # names of baskets and folders are text, whatever brackets and colons they hold
                quiet=not ranks.first, highlight=False, soft_wrap=True, markup=False, emoji=False
            )
        )
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        for basket in data.training:
            self._console.print(
                f"{basket.name}: {len(basket):,} images of {len(basket.identities):,} identities"
            )
            if basket.skipped:
                self._console.print(f"  left out on opening: {basket.skipped}")
        told = [basket.skipped for basket in data.training]
        for basket in data.held_out:
            self._console.print(
                f"held out of {basket.name}: {len(basket):,} images of {len(basket.identities):,} identities"
            )
            if basket.skipped and not any(basket.skipped is one for one in told):  # not a share of one above
                self._console.print(f"  left out on opening: {basket.skipped}")
        for pairs in data.pairs:
            self._console.print(f"pairs of {pairs.images.name}: {len(pairs.same):,}")
        if aliases is not None:
            self._console.print(f"aliases: {aliases_text(aliases)}")
        for note in remarks(config, data):
            self._console.print(f"warning: {note}")
        ranks_text = "" if ranks.world == 1 else f" on {ranks.world} ranks"
        self._console.print(
            f"{config.epochs} epochs of {batches.steps_per_epoch:,} steps with {config.batch_size} images{ranks_text}"
            + (f", from step {start}" if start else "")
        )
        self._epochs, self._loss, self._shown = config.epochs, "", 0
        self._per_epoch = batches.steps_per_epoch
        self._task = self._bar.add_task("", total=batches.steps, completed=start)
        self._output = config.output

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._bar.stop()
        if kind is None:
            self._console.print(f"written to {self._output}")

    def advance(self, step: int) -> None:
        """After so many steps."""
        epoch = -(-step // self._per_epoch)
        self._bar.update(self._task, completed=step, description=f"epoch {epoch}/{self._epochs}{self._loss}")

    def logged(self, row: dict[str, Any]) -> None:
        """A row of metrics.csv."""
        self._loss = f" loss {row['loss']:.3f}"

    def measured(self, row: dict[str, Any]) -> None:
        """A row of validation.csv; the means over the held-out baskets are shown."""
        numbers = [self._loss.strip()] if self._loss else []
        numbers += [
            f"{SHOWN.get(key) or key.upper()} {100 * value:.1f} %"
            for key, value in row.items()
            if key not in ("step", "epoch") and "/" not in key
        ]
        self._console.print(f"epoch {row['epoch']}: {', '.join(numbers)}")
