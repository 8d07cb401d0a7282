"""insightface's files of one run, one per rank, read as the one tensor that they are together.

softmax_fc_gpu_{rank}.pt    {"weight": [num_local, D]}
checkpoint_gpu_{rank}.pt    {"state_dict_softmax_fc": {"weight": …}, "state_optimizer": …, "epoch": …, …}

There rank r of n owns a contiguous range of C // n classes, one more on the first C % n ranks; the files in the order
of their ranks are the classes in order, whatever n was. In `state_optimizer` the head's weight is the last parameter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..losses import BasketSoftmaxLoss
from .errors import CheckpointError
from .heads import optimizer_of, place_of
from .optimizer_state import position_of
from .ranks import Place

NAMES = ("checkpoint_gpu_", "softmax_fc_gpu_")
Source = str | PathLike[str]


def check_one_centre(subcenters: int) -> None:
    """Raise a CheckpointError unless `subcenters` is 1."""
    if subcenters != 1:
        raise CheckpointError(
            f"subcenters: expected 1, since insightface's files hold one centre per class, got {subcenters}"
        )


class RankFiles:
    """The files of one run, mapped into memory: only what is copied out of them is read.

    Args:
        source: their folder, or the files themselves in any order.

    Raises:
        CheckpointError: none, one missing in the row of ranks, two kinds in one folder, or not of this format.
    """

    def __init__(self, source: Source | Sequence[Source]) -> None:
        self.paths = _in_order(source)
        self.files = [_mapped(path) for path in self.paths]
        self.weights = [_weight(file, path) for file, path in zip(self.files, self.paths, strict=True)]
        widths = {weight.shape[1] for weight in self.weights}
        if len(widths) > 1:
            raise CheckpointError(f"the files have different widths: {sorted(widths)}")
        self.num_classes, self.embedding_size = sum(map(len, self.weights)), widths.pop()

    def check(self, num_classes: int, embedding_size: int) -> None:
        """That they hold this many classes of this width; a CheckpointError otherwise."""
        if (self.num_classes, self.embedding_size) != (num_classes, embedding_size):
            raise CheckpointError(
                f"{len(self.paths)} files hold {self.num_classes} classes of width {self.embedding_size} together, "
                f"wanted are {num_classes} of width {embedding_size}: is a file of a later rank missing?"
            )

    def optimizer_rows(self) -> tuple[dict[str, list[Tensor]], dict[str, Any]]:
        """State of the head's optimiser: tensors with a row per class, a part per file; and the rest (step counts)."""
        states = [_head_state(file, path) for file, path in zip(self.files, self.paths, strict=True)]
        rows: dict[str, list[Tensor]] = {}
        rest: dict[str, Any] = {}
        for key, value in states[0].items():
            if value is None:  # torch writes momentum_buffer: None for SGD without momentum
                continue
            if isinstance(value, Tensor) and value.dim() > 0:
                rows[key] = [state[key] for state in states]
            else:
                rest[key] = value
        return rows, rest

    def others(self) -> dict[str, Any]:
        """Rank 0's other entries: epoch, global_step, state_dict_backbone, state_optimizer, state_lr_scheduler."""
        return {k: v for k, v in self.files[0].items() if k not in ("weight", "state_dict_softmax_fc")}


@torch.no_grad()
def load_insightface(
    source: Source | Sequence[Source],
    loss: BasketSoftmaxLoss,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, Any]:
    """Load the centres that insightface's PartialFC saved at any number of ranks, into a head at any number.

    Every rank of the loss's process group calls it.

    Args:
        source: the folder with `checkpoint_gpu_*.pt` or `softmax_fc_gpu_*.pt`, or a list of all these files.
        loss: a head with as many classes, in one basket or in several that follow one another as the labels did there.
        optimizer: the one that trains `loss.weight`: takes momentum or moments from `checkpoint_gpu_*.pt`. Its
            settings (learning rate, …) stay its own; those of the files are in what is returned.

    Returns:
        Rank 0's other entries: `epoch`, `global_step`, `state_dict_backbone`, `state_optimizer`, `state_lr_scheduler`;
        empty for `softmax_fc_gpu_*.pt`.

    Raises:
        CheckpointError: a file is missing, damaged or holds something else; other numbers of classes or widths.
        ValueError: `optimizer` does not train `loss.weight`.
    """
    check_one_centre(loss.subcenters)
    place, optimizer = place_of(loss), optimizer_of(loss, optimizer)
    position = None if optimizer is None else position_of(optimizer, loss.weight)

    def look() -> tuple[RankFiles, dict[str, list[Tensor]], dict[str, Any]]:
        files = RankFiles(source)
        files.check(loss.num_classes, loss.embedding_size)
        return files, *(({}, {}) if optimizer is None else files.optimizer_rows())

    files, rows, own = place.together(
        look
    )  # nothing changes anywhere before all ranks have found the files good

    def take() -> None:
        copy_rows(files.weights, loss.weight.detach(), place)
        if optimizer is not None:
            for key, parts in rows.items():
                own[key] = loss.weight.detach().new_empty((len(loss.weight), *parts[0].shape[1:]))
                copy_rows(parts, own[key], place)
            now = optimizer.state_dict()
            optimizer.load_state_dict({**now, "state": {**now["state"], position: own}})

    place.together(take)
    return files.others()


def copy_rows(parts: Sequence[Tensor], target: Tensor, place: Place) -> None:
    """The rows that `place` owns of all parts, one after the other, into its shard."""
    first = 0
    pieces = [piece for piece in place.sharding.pieces() if piece.rank == place.rank]
    for part in parts:
        for piece in pieces:
            start, stop = max(piece.start, first), min(piece.start + piece.length, first + len(part))
            if start < stop:
                local = piece.local + start - piece.start
                target[local : local + stop - start] = part[start - first : stop - first].to(target.device)
        first += len(part)


def _in_order(source: Source | Sequence[Source]) -> list[Path]:
    if isinstance(source, (str, PathLike)):
        folder = Path(source)
        found = [sorted(folder.glob(f"{name}*.pt")) for name in NAMES]
        if all(found):
            raise CheckpointError(
                f"{folder} has {NAMES[0]}*.pt and {NAMES[1]}*.pt: give a list of those you mean"
            )
        paths = found[0] or found[1]
        if not paths:
            raise CheckpointError(f"{folder} has neither {NAMES[0]}*.pt nor {NAMES[1]}*.pt")
    else:
        paths = [Path(path) for path in source]
    numbered: dict[int, Path] = {}
    for path in paths:
        match = re.fullmatch(f"(?:{'|'.join(NAMES)})(\\d+)\\.pt", path.name)
        if match is None:
            raise CheckpointError(
                f"{path.name} is not called {NAMES[0]}N.pt or {NAMES[1]}N.pt, N being the rank"
            )
        numbered[int(match[1])] = path
    missing = sorted(set(range(max(numbered, default=0) + 1)) - numbered.keys())
    if missing:
        raise CheckpointError(f"files of the ranks {', '.join(map(str, missing))} are missing")
    return [numbered[rank] for rank in sorted(numbered)]


def _mapped(path: Path) -> dict[str, Any]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{path} cannot be read with weights_only=True: {reason}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a dict, got a {type(found).__name__}")
    return found


def _weight(file: dict[str, Any], path: Path) -> Tensor:
    state = file.get("state_dict_softmax_fc", file)
    weight = state.get("weight") if isinstance(state, dict) else None
    if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point():
        raise CheckpointError(
            f"{path} holds no 'weight' [num_local, D], its entries are {sorted(map(str, file))}"
        )
    return weight


def _head_state(file: dict[str, Any], path: Path) -> dict[str, Any]:
    saved = file.get("state_optimizer")
    if not isinstance(saved, dict):
        raise CheckpointError(
            f"{path} holds no 'state_optimizer': give optimizer=None to load the centres alone"
        )
    last = saved["param_groups"][-1]["params"][-1]
    return saved["state"].get(last, {})
