"""A checkpoint of another head: an error that names what differs, and a head that is not touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import basket_softmax as bs
from checkpoint.training import BASKETS, WIDTH, Run, same_bits

Error = bs.checkpoint.CheckpointError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baskets": {"a": 31, "b": 17, "c": 1}}, "baskets: the checkpoint has 'd', which the head lacks"),
        ({"baskets": {**BASKETS, "e": 3}}, "baskets: the checkpoint lacks 'e'"),
        ({"baskets": {"a": 31, "b": 17, "x": 1, "d": 48}}, "lacks 'x' and has 'c', which the head lacks"),
        ({"baskets": [31, 17, 1, 48]}, "lacks '0', '1', '2', '3' and has 'a', 'b', 'c', 'd'"),
        (
            {"baskets": {"b": 17, "a": 31, "c": 1, "d": 48}},
            r"in the order \['a', 'b', 'c', 'd'\] in the checkpoint, in the head in the order \['b', 'a', 'c', 'd'\]",
        ),
        (
            {"baskets": {"a": 30, "b": 18, "c": 1, "d": 48}},
            "basket 'a' has 31 classes in the checkpoint, 30 in the head",
        ),
        ({"dtype": torch.float64}, "weight is float32 in the checkpoint, float64 in the head"),
        ({"mining": bs.TopK(4)}, "the checkpoint has 'ema', the head has not"),
        ({"margin": bs.AdaFace()}, "the head has 'margin.mean', the checkpoint has not"),
    ],
)
def test_another_head(saved: Path, options: dict, message: str) -> None:
    run = Run(**options)
    run.step()
    before = run.tensors()
    with pytest.raises(Error, match=message):
        run.load(saved)
    assert same_bits(run.tensors(), before)


def test_another_width(saved: Path) -> None:
    head = bs.BasketSoftmaxLoss(BASKETS, WIDTH + 1, mining=bs.TopK(4, guard=bs.Ema(0.5)))
    before = head.weight.detach().clone()
    with pytest.raises(Error, match="embedding_size is 12 in the checkpoint, 13 in the head"):
        bs.checkpoint.load(saved, head)
    assert torch.equal(head.weight, before)


def test_another_optimiser(saved: Path) -> None:
    run = Run("adamw")
    before = run.tensors()
    with pytest.raises(Error, match="holds the state of SGD, optimizer is AdamW"):
        run.load(saved)
    assert same_bits(run.tensors(), before)


def test_an_optimiser_of_other_parameters(saved: Path) -> None:
    run = Run()
    with pytest.raises(ValueError, match="optimizer: expected the one that trains this loss's weight"):
        bs.checkpoint.save(saved, run.head, torch.optim.SGD(run.backbone.parameters(), lr=1.0))
    alone = torch.optim.SGD(run.head.parameters(), lr=1.0)
    before = run.tensors()
    with pytest.raises(
        Error, match="weight is parameter 0 of the optimizer, in the checkpoint it is parameter 2"
    ):
        bs.checkpoint.load(saved, run.head, alone)
    assert same_bits(run.tensors(), before)


def test_a_checkpoint_without_optimiser(tmp_path: Path) -> None:
    run = Run()
    bs.checkpoint.save(tmp_path, run.head)
    with pytest.raises(Error, match="holds no optimiser state, SGD was to load it: give optimizer=None"):
        bs.checkpoint.load(tmp_path, run.head, run.optimizer)


def test_no_checkpoint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(Error, match=r"holds no checkpoint: there is no checkpoint\.json in it"):
            bs.checkpoint.load(folder, Run().head)


def test_an_optimiser_of_other_parameter_groups(saved: Path) -> None:
    """The same parameters in the same order, in two groups: torch would say so as a bare ValueError."""
    run = Run()
    groups = [{"params": run.backbone.parameters()}, {"params": run.head.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.5, momentum=0.9)
    before = run.tensors()
    with pytest.raises(
        Error,
        match="has 2 parameter groups, of 2 and 1 parameters, in the checkpoint it has 1 parameter group, of 3",
    ):
        bs.checkpoint.load(saved, run.head, optimizer)
    assert same_bits(run.tensors(), before)
