"""save and load without a process group: everything comes back bit for bit, and training goes on as if undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import basket_softmax as bs
from checkpoint.training import BASKETS, OPTIMIZERS, WIDTH, Run, same_bits


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    run = Run(optimizer)
    run.step(3)
    run.save(tmp_path / "last")
    resumed = Run(optimizer, seed=1)
    assert not same_bits(resumed.tensors(), run.tensors())
    resumed.load(tmp_path / "last")
    assert same_bits(resumed.tensors(), run.tensors())
    for _ in range(2):
        run.step()
        resumed.step()
        assert same_bits(resumed.tensors(), run.tensors())


def test_the_learning_rate_and_other_settings_come_back(tmp_path: Path) -> None:
    run = Run()
    run.step()
    for group in run.optimizer.param_groups:
        group["lr"] = 0.125
    run.save(tmp_path)
    resumed = Run()
    resumed.load(tmp_path)
    assert resumed.optimizer.param_groups[0]["lr"] == 0.125


def test_before_the_first_step(tmp_path: Path) -> None:
    run = Run("adamw")
    run.save(tmp_path)
    resumed = Run("adamw", seed=1)
    resumed.step(2)
    resumed.load(tmp_path)
    assert same_bits(resumed.tensors(), run.tensors()), "the state of the two steps is gone as well"


def test_fused_sgd_is_known_to_its_loss(tmp_path: Path) -> None:
    def head() -> tuple[bs.BasketSoftmaxLoss, bs.optim.FusedSGD]:
        loss = bs.BasketSoftmaxLoss(BASKETS, WIDTH)
        return loss, bs.optim.FusedSGD(loss, 0.5, momentum=0.9)

    def step(loss: bs.BasketSoftmaxLoss, optimizer: bs.optim.FusedSGD, seed: int) -> None:
        torch.manual_seed(seed)
        loss(torch.randn(9, WIDTH), torch.randint(0, 97, (9,))).backward()
        optimizer.step()

    (loss, optimizer), (other, other_optimizer) = head(), head()
    step(loss, optimizer, 1)
    bs.checkpoint.save(tmp_path, loss)
    bs.checkpoint.load(tmp_path, other)
    step(loss, optimizer, 2)
    step(other, other_optimizer, 2)
    assert torch.equal(loss.weight, other.weight)
    # torch.optim.SGD can go on from the same state, for instance on a GPU
    plain = bs.BasketSoftmaxLoss(BASKETS, WIDTH)
    sgd = torch.optim.SGD(plain.parameters(), lr=1.0)
    bs.checkpoint.load(tmp_path, plain, sgd)
    assert sgd.param_groups[0]["momentum"] == 0.9
    assert sgd.state[plain.weight]["momentum_buffer"].shape == (97, WIDTH)


@pytest.mark.parametrize(
    "head",
    [
        lambda: bs.ArcFaceLoss(40, WIDTH),
        lambda: bs.BasketSoftmaxLoss([3, 0, 5], WIDTH, margin=bs.AdaFace()),
        lambda: bs.BasketSoftmaxLoss({"日本/x.y": 4, "": 2}, WIDTH, dtype=torch.float64),
        lambda: bs.BasketSoftmaxLoss([0], WIDTH),
    ],
)
def test_every_kind_of_head(tmp_path: Path, head) -> None:
    one, other = head(), head()
    for buffer in one.buffers():
        if buffer.is_floating_point():
            buffer.uniform_()
    bs.checkpoint.save(tmp_path, one)
    assert bs.checkpoint.load(tmp_path, other) is None
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_centres_alone(tmp_path: Path) -> None:
    run = Run()
    run.step()
    run.save(tmp_path)
    head = bs.BasketSoftmaxLoss(BASKETS, WIDTH, mining=bs.TopK(4, guard=bs.Ema(0.5)))
    extra = bs.checkpoint.load(tmp_path, head)
    assert torch.equal(head.weight, run.head.weight)
    assert extra["done"] == 1


def test_the_parameter_stays_the_same_object(tmp_path: Path) -> None:
    run = Run()
    run.save(tmp_path)
    weight, place = run.head.weight, run.head.weight.data_ptr()
    run.load(tmp_path)
    assert run.head.weight is weight
    assert weight.data_ptr() == place


def test_a_graph_on_the_old_centres_is_refused(tmp_path: Path) -> None:
    run = Run()
    run.save(tmp_path)
    loss = run.head(torch.randn(3, WIDTH), torch.arange(3))
    run.load(tmp_path)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_new_checkpoint_replaces_the_old(tmp_path: Path) -> None:
    run = Run()
    for _ in range(3):
        run.step()
        run.save(tmp_path / "deep" / "last")
    assert len(list((tmp_path / "deep" / "last").glob("data-*"))) == 1
    resumed = Run()
    resumed.load(tmp_path / "deep" / "last")
    assert resumed.done == 3


def test_inspect(tmp_path: Path) -> None:
    run = Run("momentum")
    run.step()
    run.save(tmp_path)
    found = bs.checkpoint.inspect(tmp_path)
    assert dict(found.baskets) == BASKETS
    assert (found.num_classes, found.embedding_size, found.world) == (97, WIDTH, 1)
    assert found.ranges == (((0, 31), (31, 48), (48, 49), (49, 97)),)
    assert found.rows == {
        "weight": bs.checkpoint.RowsInfo("float32", (WIDTH,)),
        "optimizer.momentum_buffer": bs.checkpoint.RowsInfo("float32", (WIDTH,)),
    }
    assert found.optimizer == "SGD"
    assert found.has_extra
    assert set(found.files) == {".metadata", "__0_0.distcp"}
    assert len(found.fingerprint) == 64


@pytest.mark.parametrize("extra", [object(), {"f": len}, [nn.Linear(2, 2)]])
def test_what_could_not_be_loaded_again_is_not_saved(tmp_path: Path, extra: object) -> None:
    run = Run()
    run.save(tmp_path)
    with pytest.raises(
        bs.checkpoint.CheckpointError,
        match=r"extra: expected tensors, .* cannot be loaded again with weights_only=True",
    ):
        bs.checkpoint.save(tmp_path, run.head, extra=extra)
    run.load(tmp_path)
