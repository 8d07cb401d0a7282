"""Two runs into one output: the second is refused in one line, and the first notices nothing."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import basket_softmax as bs
from basket_softmax.checkpoint.folder import reading, verify
from basket_softmax.training import check, to_yaml, train
from basket_softmax.training import run as run_module
from basket_softmax.training import run_lock as run_lock_module
from basket_softmax.training.datasets import DataError
from basket_softmax.training.ranks import Ranks
from basket_softmax.training.run_lock import run_lock
from basket_softmax.training.state import ResumeError, RunFolder
from training.logged import rows_of

ALONE = Ranks(0, 1, torch.device("cpu"), None)
IN_USE = rf"out is in use by another run \(process {os.getpid()} on .*\): wait for its end, or choose another output$"


def test_a_second_run_is_refused_while_the_first_one_trains(small, monkeypatch):
    """New, resumed, or with another config: the first one's files are what they would have been."""
    config = small(epochs=1, log__every_steps=1)
    original, refused = run_module.Trainer.step, []
    monkeypatch.setattr(run_lock_module, "WAIT", 0.1)

    def step(self, at, batch):
        if at == 3:
            for resume in (False, True):
                with pytest.raises(ResumeError, match=IN_USE):
                    train(small(epochs=5, seed=7), resume=resume)
                refused.append(resume)
        return original(self, at, batch)

    monkeypatch.setattr(run_module.Trainer, "step", step)
    train(config)
    assert refused == [False, True]
    assert [row["step"] for row in rows_of(config.output / "metrics.csv")] == [1, 2, 3, 4, 5, 6]


def test_a_check_says_so_and_writes_nothing(small):
    config = small(epochs=1)
    with run_lock(config.output, ALONE):
        before = sorted(config.output.rglob("*"))
        (problem,) = check(config).problems
        assert problem.startswith(
            f"output: {config.output} is in use by another run (process {os.getpid()} on "
        )
        assert sorted(config.output.rglob("*")) == before
    assert check(config).ok
    assert not config.output.exists()


def test_a_run_that_did_not_begin_leaves_no_folder(small, tmp_path):
    deep = tmp_path / "deep" / "er"
    with pytest.raises(DataError):
        train(small(output=deep, baskets__one=str(tmp_path / "nothing")))
    assert not (tmp_path / "deep").exists()
    deep.mkdir(parents=True)
    (deep / "mine.txt").write_text("mine")
    with pytest.raises(DataError):
        train(small(output=deep, baskets__one=str(tmp_path / "nothing")))
    assert (deep / "mine.txt").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".train.lock").mkdir()
    with pytest.raises(OSError, match=r"\.train\.lock"):
        train(small(epochs=1))


def test_a_checkpoint_that_is_read_is_pruned_later(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        bs.checkpoint.save(folder.checkpoint(step), bs.ArcFaceLoss(5, 4))
    with reading(folder.checkpoint(1)) as manifest:
        folder.prune(1)
        verify(folder.checkpoint(1), manifest)
    assert folder.steps() == [1, 3]
    folder.prune(1)
    assert folder.steps() == [3]


@pytest.mark.dist
@pytest.mark.slow
def test_of_three_commands_at_once_one_trains(small, tmp_path: Path) -> None:
    config = small(epochs=6, log__every_steps=1)
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    command = [sys.executable, "-m", "basket_softmax", "train", str(tmp_path / "run.yaml")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=300) for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1, 1], said
    for process, (_, errors) in zip(processes, said, strict=True):
        if process.returncode:
            (line,) = errors.splitlines()
            assert line.startswith(f"Error: {config.output} is in use by another run (process ") or (
                f"{config.output} holds " in line
            )
    with open(config.output / "metrics.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == [str(n) for n in range(1, 37)]
