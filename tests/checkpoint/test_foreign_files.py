"""What a save leaves alone, and what it is not for."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import basket_softmax as bs
from basket_softmax.compat.insightface import CombinedMarginLoss, PartialFC_V2


def test_folders_of_others_stay(tmp_path: Path) -> None:
    """Named like data, or even as data is, with files that no save writes."""
    others = [tmp_path / "data-faces" / "a.jpg", tmp_path / "data-0123456789ab" / "a.csv"]
    for file in others:
        file.parent.mkdir()
        file.write_text("x")
    for _ in range(2):
        bs.checkpoint.save(tmp_path, bs.ArcFaceLoss(50, 16))
    assert all(file.read_text() == "x" for file in others)
    assert len(list(tmp_path.glob("data-*"))) == 3


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(
        bs.checkpoint.CheckpointError, match="a checkpoint is a folder, got the path of a file"
    ):
        bs.checkpoint.save(tmp_path / "run", bs.ArcFaceLoss(50, 16))


@pytest.mark.parametrize(
    "module",
    [
        lambda: PartialFC_V2(CombinedMarginLoss(64, 1.0, 0.5, 0.0), 16, 50),
        lambda: bs.compat.pml.ArcFaceLoss(50, 16),
        lambda: nn.Linear(3, 4),
    ],
)
def test_another_module_is_refused_in_words(tmp_path: Path, module) -> None:
    with pytest.raises(TypeError, match=r"a checkpoint is of a BasketSoftmaxLoss .*state_dict\(\)"):
        bs.checkpoint.save(tmp_path, module())
    with pytest.raises(TypeError, match="a checkpoint is of a BasketSoftmaxLoss"):
        bs.checkpoint.load(tmp_path, module())
    assert not list(tmp_path.iterdir())
