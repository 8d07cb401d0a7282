"""A run killed with SIGKILL at any step and resumed ends with the bits of a run that nothing happened to."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from basket_softmax import checkpoint
from basket_softmax.training import load_run, to_yaml, train
from basket_softmax.training import run as run_module
from basket_softmax.training.state import RunFolder

TESTS = Path(__file__).resolve().parents[1]

RECIPES = {
    "fused": {
        "loss__mining": {"name": "topk", "k": 3, "guard": {"name": "ema", "r": 0.9}},
        "optimizer": {"name": "sgd", "lr": 0.05, "head": {"fused": True}},
        "loss__sample_rate": 0.7,
        "loss__linking": {"exclude": -0.9, "share": -0.5, "every": 4},
    },
    "adamw, fp16, adaface": {
        "optimizer": {"name": "adamw"},
        "amp": "fp16",
        "clip": 1.0,
        "loss__margin": "adaface",
        "loss__subcenters": 2,
        "checkpoint": {"every_steps": 5},
        "log__every_steps": 4,
    },
}
WITH_WORKERS = {"workers": 2, "checkpoint": {"every_steps": 4, "keep": 1}}
COMMON = {
    "backbone": {"factory": "training.noisy:Noisy", "embedding_size": 8},
    "augment": {"flip": 0.5, "rotate": 10.0},
    "epochs": 3,
}


@pytest.fixture
def recipe(small, folders):
    """Makes a config of what a recipe changes."""
    held_out = {"baskets": {"held": folders / "held"}, "fars": [0.1]}
    return lambda changes: small(**COMMON, **changes, validation=held_out)


class Killed(Exception):
    """Stands in for SIGKILL where a process of its own would take too long."""


def stop_in_step(monkeypatch, number: int | None) -> None:
    """The next run is cut short in step `number` (from 0), after its backward pass has moved a fused head."""
    original = run_module.Trainer.step

    def step(self, at, batch):
        result = original(self, at, batch)
        if at == number:
            raise Killed
        return result

    monkeypatch.setattr(run_module.Trainer, "step", step)


def outcome(output: Path) -> dict[str, str]:
    """Digests of the last checkpoint's tensors, and of the CSV files."""
    step = RunFolder(output).steps()[-1]
    run = load_run(output)
    extra = checkpoint.load(RunFolder(output).checkpoint(step), run.head)
    found = {"step": str(step), "head": _digest(run.head.state_dict()), "extra": _digest(extra)}
    for name in ("metrics.csv", "validation.csv", "overlaps.csv"):
        found[name] = hashlib.sha256((output / name).read_bytes()).hexdigest()
    return found


def _digest(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        value = [(key, _digest(value[key])) for key in sorted(value, key=str)]
    elif isinstance(value, (list, tuple)):
        value = [_digest(item) for item in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


@pytest.mark.parametrize("name", RECIPES)
def test_interrupted_runs_end_alike(recipe, name, monkeypatch, tmp_path):
    """Cut in the first epoch, on its last step, and twice later: before and after checkpoints and rows of the logs."""
    config = recipe(RECIPES[name])
    straight = config.model_copy(update={"output": tmp_path / "straight"})
    train(straight)
    for number in (2, 5, 9, 13):
        with monkeypatch.context() as patch:
            stop_in_step(patch, number)
            with pytest.raises(Killed):
                train(config, resume=True)
        random.random()  # another process would have other states
        torch.rand(3)
    with open(config.output / "metrics.csv", "a") as file:
        file.write("15,3,0.0")  # the line that a kill cut
    train(config, resume=True)
    assert outcome(config.output) == outcome(straight.output)


def test_the_test_can_fail(small, tmp_path):
    """Another seed gives other digests of everything but the step."""
    found = []
    for seed in (0, 1):
        config = small(**COMMON, seed=seed, output=tmp_path / str(seed))
        train(config)
        (tmp_path / str(seed) / "validation.csv").write_text(str(seed))
        found.append(outcome(config.output))
    same = {key for key in found[0] if found[0][key] == found[1][key]}
    assert same <= {"step", "overlaps.csv"}  # counts may agree


@pytest.mark.slow
@pytest.mark.parametrize("changes", [*RECIPES.values(), WITH_WORKERS])
def test_kill_9_at_random_moments(recipe, changes, tmp_path):
    config = recipe(changes)
    straight = config.model_copy(update={"output": tmp_path / "straight"})
    train(straight)
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(config))
    draw, kills = random.Random(7), 0
    for _ in range(200):
        process = start(file)
        rows = lines(config.output)
        deadline = time.monotonic() + 120
        while process.poll() is None and lines(config.output) <= rows and time.monotonic() < deadline:
            time.sleep(0.005)  # until it has gone on by a row at least, or every attempt dies in its imports
        time.sleep(draw.uniform(0.0, 0.15))
        if process.poll() is None and kills < 6:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait(timeout=300) == 0:
            break
    assert process.returncode == 0
    assert kills >= 3
    assert outcome(config.output) == outcome(straight.output)


def lines(output: Path) -> int:
    file = output / "metrics.csv"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def start(file: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)])}
    command = [sys.executable, "-m", "basket_softmax", "train", str(file), "--resume"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
