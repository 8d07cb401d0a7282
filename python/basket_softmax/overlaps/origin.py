"""Which checkpoint a report is of: a file beside it, so that confidences are never taken for those of another run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from ..replacing import replacing

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Origin:
    """Of a report.

    checkpoint: fingerprint of the checkpoint, as `Run.fingerprint`. run, step: where it was, for messages.
    source: "prototypes" or "centres". min_confidence: pairs below it were not listed.
    """

    checkpoint: str
    run: str
    step: int
    source: str
    min_confidence: float


def write_origin(path: Path, origin: Origin) -> None:
    """Write it as JSON; a file that is there is replaced."""
    with replacing(path) as file:
        file.write(json.dumps(asdict(origin), indent=1) + "\n")


def read_origin(path: Path) -> Origin:
    """What `write_origin` wrote.

    Raises:
        ValueError: it is damaged, or something else.
        OSError: it cannot be read.
    """
    with open(path, encoding="utf-8") as file:
        try:
            origin = Origin(**json.load(file))
            return Origin(
                str(origin.checkpoint), str(origin.run), int(origin.step), str(origin.source),
                float(origin.min_confidence),
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} does not say which checkpoint a report is of: {error}") from None
