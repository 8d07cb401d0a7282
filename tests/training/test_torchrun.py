"""Two ranks under torchrun: the numbers of one process, a killed rank, and a run that goes on with one rank."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from basket_softmax.data import open_basket
from basket_softmax.training import load_run, to_yaml, train
from basket_softmax.training.datasets import open_datasets
from basket_softmax.training.ranks import Ranks
from basket_softmax.training.run_lock import run_lock
from basket_softmax.training.validate import validate
from support.pair_files import write_pairs

TESTS = Path(__file__).resolve().parents[1]
pytestmark = [pytest.mark.dist, pytest.mark.slow]


def torchrun(file: Path, *options: str, ranks: int = 2, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["--max-restarts", environment.pop("RESTARTS", "0")]
    command += ["-m", "basket_softmax", "train", str(file), *options]
    paths = os.pathsep.join([*sys.path, str(TESTS)])
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", **environment},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def written(small, folders, tmp_path):
    """Makes a config of a backbone without batch statistics, and its file."""

    def make(**changes):
        config = small(
            backbone={"factory": "training.plain:plain", "embedding_size": 8},
            validation={"baskets": {"held": folders / "held"}, "fars": [0.1]},
            clip=5.0, **{"log__every_steps": 1, **changes},
        )  # fmt: skip
        file = tmp_path / "run.yaml"
        file.write_text(to_yaml(config))
        return config, file

    return make


def losses(output: Path) -> list[float]:
    with open(output / "metrics.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(("shard", "fused"), [("basket", True), ("contiguous", False)])
def test_two_ranks_train_what_one_does(written, tmp_path, fused, shard):
    config, file = written(
        optimizer={"name": "sgd", "lr": 0.05, "head": {"fused": fused}}, parallel={"shard": shard}
    )
    done = torchrun(file)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("2 epochs of 6 steps with 8 images on 2 ranks") == 1
    alone = config.model_copy(update={"output": tmp_path / "alone"})
    train(alone)
    assert losses(config.output) == pytest.approx(losses(alone.output), rel=1e-4)
    both, one = load_run(config.output), load_run(alone.output)
    torch.testing.assert_close(both.head.weight, one.head.weight, rtol=1e-3, atol=1e-4)
    for a, b in zip(both.backbone.parameters(), one.backbone.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    validation = (config.output / "validation.csv").read_text(), (alone.output / "validation.csv").read_text()
    assert [line.count(",") for line in validation[0].splitlines()] == [3, 3, 3]
    assert validation[0].splitlines()[0] == validation[1].splitlines()[0]


def test_a_killed_rank_and_a_restart_leave_the_same_bits(written, tmp_path):
    config, file = written(backbone__factory="training.plain:drops_out", checkpoint={"every_steps": 4})
    straight = config.model_copy(update={"output": tmp_path / "straight"})
    other = tmp_path / "straight.yaml"
    other.write_text(to_yaml(straight))
    assert torchrun(other).returncode == 0
    done = torchrun(file, "--resume", RESTARTS="1", KILL_RANK="1", KILL_CALL="6")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "from step 4" in done.stdout
    for name in ("metrics.csv", "validation.csv", "overlaps.csv"):
        assert (config.output / name).read_bytes() == (straight.output / name).read_bytes()
    a, b = load_run(config.output), load_run(straight.output)
    assert torch.equal(a.head.weight, b.head.weight)
    assert all(
        torch.equal(p, q) for p, q in zip(a.backbone.parameters(), b.backbone.parameters(), strict=True)
    )


def test_fp16_overflow_skips_the_step_on_both_ranks(written):
    """The scaler starts at 65536, which overflows a loss of hundreds; both ranks must agree on when to skip."""
    config, file = written(amp="fp16", loss__scale=1000.0, optimizer={"name": "sgd", "lr": 0.001})
    done = torchrun(file)
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(losses(config.output)) == 12


def test_two_ranks_begin_and_one_goes_on(written):
    config, file = written(loss__linking={"exclude": -0.5, "every": 4})
    done = torchrun(file)
    assert done.returncode == 0, done.stderr[-4000:]
    before = losses(config.output)
    shutil.rmtree(
        config.output / "checkpoints" / "step-00000012"
    )  # as if the second epoch had been interrupted
    done = torchrun(file, "--resume", ranks=1)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "from step 6" in done.stdout
    assert losses(config.output) == pytest.approx(before, rel=1e-3)


def test_ranks_with_batch_normalisation_validate_the_network_that_is_saved(small, folders, tmp_path):
    """Running means differ between the ranks after a step: every rank measures with rank 0's, as they are saved."""
    basket = open_basket(folders / "held")
    images = [basket.read(i % len(basket)) for i in range(40)]
    pairs = write_pairs(tmp_path / "lfw.bin", images, [True, True, False, False] * 5)
    held = {"baskets": {"held": folders / "held"}, "pairs": {"lfw": pairs}, "fars": [0.1]}
    config = small(validation=held, epochs=1)
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    done = torchrun(tmp_path / "run.yaml")
    assert done.returncode == 0, done.stderr[-4000:]
    with open(config.output / "validation.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    run, alone = load_run(config.output), Ranks(0, 1, torch.device("cpu"), None)
    data = open_datasets(config)
    found = validate(run.backbone, data.held_out, config.image.build(), alone, [0.1], 4, 0, data.pairs)
    assert "accuracy" in found
    assert {key: float(row[key]) for key in found} == pytest.approx(found, abs=1e-6)


def test_ranks_that_diverge_stop_together_and_save_nothing(written):
    config, file = written(optimizer={"name": "sgd", "lr": 1e38}, log__every_steps=1000)
    done = torchrun(file)
    assert done.returncode != 0
    assert done.stderr.count("Error: NaN or Inf after step 6 in") == 2
    assert list(config.output.glob("checkpoints/*")) == []


def test_ranks_are_refused_together_where_another_run_is(written):
    config, file = written(epochs=1)
    with run_lock(config.output, Ranks(0, 1, torch.device("cpu"), None)):
        done = torchrun(file)
    assert done.returncode != 0
    assert (
        done.stderr.count(f"Error: {config.output} is in use by another run (process {os.getpid()} on ") == 2
    )
    assert not config.output.exists()
