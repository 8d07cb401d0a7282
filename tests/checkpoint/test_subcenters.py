"""Checkpoints of heads with sub-centres: bit for bit, at the same number of centres, as one file too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import basket_softmax as bs
from basket_softmax.checkpoint.convert import merge
from checkpoint.training import Run, same_bits


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "adafactor"])
def test_training_goes_on_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    run = Run(optimizer, subcenters=3)
    run.step(2)
    run.save(tmp_path)
    resumed = Run(optimizer, seed=1, subcenters=3)
    resumed.load(tmp_path)
    assert same_bits(resumed.tensors(), run.tensors())
    run.step()
    resumed.step()
    assert same_bits(resumed.tensors(), run.tensors())


def test_as_one_file(tmp_path: Path) -> None:
    run = Run(subcenters=3)
    run.save(tmp_path / "folder")
    manifest = merge(tmp_path / "folder", tmp_path / "head.pt")
    assert (manifest.num_classes, manifest.subcenters, manifest.embedding_size) == (97, 3, 12)
    other = Run(seed=1, subcenters=3)
    other.head.load_state_dict(torch.load(tmp_path / "head.pt", weights_only=True))
    assert torch.equal(other.head.weight, run.head.weight)


@pytest.mark.parametrize(("there", "here"), [(3, 1), (1, 3), (3, 2)])
def test_another_number_of_centres(tmp_path: Path, there: int, here: int) -> None:
    Run(subcenters=there).save(tmp_path)
    run = Run(subcenters=here)
    before = run.tensors()
    with pytest.raises(
        bs.checkpoint.CheckpointError, match=f"subcenters is {there} in the checkpoint, {here} in"
    ):
        run.load(tmp_path)
    assert same_bits(run.tensors(), before)


def test_insightface_has_one_centre_per_class(tmp_path: Path) -> None:
    head = bs.ArcFaceLoss(5, 4, subcenters=2)
    with pytest.raises(
        bs.checkpoint.CheckpointError, match=r"subcenters: expected 1, since insightface's files .*, got 2"
    ):
        bs.checkpoint.load_insightface(tmp_path, head)
