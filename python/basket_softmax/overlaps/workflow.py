"""From a trained run to a table, a page and aliases on disk: what `bbs overlaps` does, without a word printed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..data import ImageBasket, write_aliases
from ..losses import BasketSoftmaxLoss
from .decisions import Persons, persons
from .find import NoConfidence, Overlaps, find_overlaps
from .names import ClassNames
from .origin import Origin, read_origin, write_origin
from .page import write_page
from .prototypes import class_prototypes
from .report import read_report, write_report

REPORT, PAGE, ALIASES = "overlaps.csv", "overlaps.html", "aliases.csv"
ORIGIN = "overlaps.json"  # which checkpoint the report is of

# A context manager for (label, number of steps), which gives what each step is to be told, or None.
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None] | None]]


class TrainedRun(Protocol):
    """What is needed of a run; `basket_softmax.training.Run` has it."""

    @property
    def backbone(self) -> nn.Module: ...
    @property
    def head(self) -> BasketSoftmaxLoss: ...
    @property
    def baskets(self) -> list[ImageBasket]: ...
    @property
    def step(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Report:
    """What `report` found and wrote.

    found: all mutual pairs. listed: those of the table. undecided: those that the page had to choose from; shown: how
    many it has. unsure: why there are no confidences, None where there are.
    """

    found: Overlaps
    listed: Overlaps
    undecided: Overlaps
    shown: int
    unsure: str | None


def report(
    run: TrainedRun,
    path: Path,
    output: Path,
    image: Any,
    *,
    known: Tensor | None,
    source: Literal["prototypes", "centres"],
    min_confidence: float,
    accept_above: float | None,
    page_pairs: int,
    page_images: int,
    batch_size: int,
    workers: int,
    bar: Bar,
) -> Report:
    """Search for pairs and write the table, its origin and the page into the folder `output`.

    Args:
        path: of the run, for messages about the report later.
        image: transform of an image, as `class_prototypes` takes it.
        known: [C] int64 aliases of the run; pairs that they join are not listed.
        source: what is compared: mean embeddings of all images, or the head's centres.
        min_confidence: pairs below it are not listed.
        accept_above: pairs of this confidence or more are not put on the page.
        page_pairs, page_images: most pairs, and images of an identity, on the page.

    Raises:
        TypeError, ValueError, OSError: as for `class_prototypes`, `find_overlaps` and writing.
    """
    names = ClassNames(run.baskets)
    if source == "prototypes":
        with bar("embedding images", sum(map(len, run.baskets))) as progress:
            centres = class_prototypes(
                run.backbone, run.baskets, image, device=run.device, batch_size=batch_size, workers=workers,
                progress=progress,
            )  # fmt: skip
        each = 1
    else:
        centres, each = run.head.full_weight().cpu(), run.head.subcenters
    unsure = None
    with bar("comparing identities", len(centres) * (len(centres) - 1) // 2) as progress:
        try:
            found = find_overlaps(centres, run.head.baskets, subcenters=each, progress=progress)
        except NoConfidence as error:
            found, unsure = error.overlaps, str(error)
    new = ~_joined(found, known)
    listed = found.select(new if unsure is not None else new & (found.confidence >= min_confidence))
    # First, so that no origin ever stands beside the report of another run.
    (output / ORIGIN).unlink(missing_ok=True)
    write_report(output / REPORT, listed, names)
    origin = Origin(run.fingerprint, str(path.resolve()), run.step, source, min_confidence)
    write_origin(output / ORIGIN, origin)
    undecided = listed if accept_above is None else listed.select(~(listed.confidence >= accept_above))
    shown = write_page(
        output / PAGE, undecided, run.baskets, max_pairs=page_pairs, images_per_class=page_images
    )
    return Report(found, listed, undecided, shown, unsure)


def reported(run: TrainedRun, output: Path) -> tuple[Origin, Overlaps]:
    """Return the report in `output` and where it is from.

    Raises:
        ValueError: there is none, it is damaged, or of another checkpoint than the run's.
    """
    for file in (output / REPORT, output / ORIGIN):
        if not file.exists():
            raise ValueError(f"{file} does not exist: run bbs overlaps without --apply first")
    origin = read_origin(output / ORIGIN)
    if origin.checkpoint != run.fingerprint:
        raise ValueError(
            f"{output / REPORT} is of another checkpoint, step {origin.step:,} of {origin.run}, and --accept-above "
            "takes its confidences: run bbs overlaps without --apply first, or give the --output of this run"
        )
    return origin, read_report(output / REPORT, ClassNames(run.baskets))


def decide(
    run: TrainedRun,
    output: Path,
    decisions: dict[tuple[int, int], bool],
    table: Overlaps | None,
    accept_above: float | None,
    known: Tensor | None,
) -> Persons:
    """Write the aliases that decisions and confidences give into `output`; arguments as for `persons`."""
    found = persons(run.head.baskets.offsets, decisions, table, accept_above, known)
    write_aliases(output / ALIASES, found.aliases, run.baskets)
    return found


def _joined(found: Overlaps, known: Tensor | None) -> np.ndarray:
    """[P] bool: pairs that the known aliases joined already."""
    if known is None:
        return np.zeros(len(found.first), bool)
    alias = known.numpy()
    joined: np.ndarray = (alias[found.first] >= 0) & (alias[found.first] == alias[found.second])
    return joined
