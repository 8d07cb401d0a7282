"""The recipes of docs/parallel.md with Lightning, accelerate and transformers, on two ranks under torchrun.

Each trains once without interruption and once in two parts, with a checkpoint between; the losses must have the same
bits on both ranks and in both ways, and fall.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from dist import recipes
from support.torchrun import losses_of_ranks, torchrun

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parallel.md"
pytestmark = [
    pytest.mark.dist,
    pytest.mark.slow,
    pytest.mark.skipif(not PAGE.is_file(), reason="needs the source tree"),
]


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def block(heading: str) -> str:
    """The first Python block under a heading, with small sizes."""
    text = PAGE.read_text(encoding="utf-8")
    section = text[text.index(f"\n### {heading}\n") :]
    code = re.search(r"```python\n(.+?)```", section, re.S)[1]
    assert "10572, 512" in code
    return code.replace("10572, 512", "50, 16")


def losses(folder: Path, source: str, *parts: str) -> list[float]:
    """Those of the script run for each of `parts` in turn, alike on both ranks."""
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(source)
    for part in parts:
        torchrun(2, script, part, environment={"HF_HUB_OFFLINE": "1"}, folder=folder)
    return losses_of_ranks(folder)


def check(folder: Path, source: str, steps: int) -> None:
    whole = losses(folder / "whole", source, "whole")
    assert len(whole) == steps
    assert sum(whole[-4:]) < 0.9 * sum(whole[:4]), "nothing was learned"
    assert losses(folder / "parts", source, "first", "second") == whole


@needs("lightning")
def test_lightning(tmp_path: Path) -> None:
    code = block("Lightning")
    assert "gradient_clip_val" in code
    check(tmp_path, recipes.BEFORE + code.split("\ntrainer = ")[0] + recipes.LIGHTNING + recipes.AFTER, 16)


@needs("accelerate")
def test_accelerate(tmp_path: Path) -> None:
    source = recipes.BEFORE + recipes.ACCELERATE_BEFORE + block("accelerate") + recipes.AFTER
    check(tmp_path, source, 8)


@needs("accelerate")
def test_accelerate_with_fused_sgd(tmp_path: Path) -> None:
    code = block("accelerate")
    plain = "torch.optim.SGD([head.weight], "
    assert plain in code
    code = code.replace(plain, "bs.optim.FusedSGD(head, ")
    check(tmp_path, recipes.BEFORE + recipes.ACCELERATE_BEFORE + code + recipes.AFTER, 8)


@needs("accelerate", "transformers")
def test_trainer_of_transformers(tmp_path: Path) -> None:
    code = block("Trainer of transformers")
    call = 'TrainingArguments("run", max_grad_norm=0.0, save_steps=1000)'
    assert call in code
    small = call.replace(
        "save_steps=1000",
        "save_steps=8, num_train_epochs=4, per_device_train_batch_size=6, learning_rate=0.02, use_cpu=True, "
        "report_to=[], disable_tqdm=True, logging_strategy='no', max_steps=8 if parts == 'first' else -1, "
        "lr_scheduler_type='constant'",
    )
    source = recipes.BEFORE + recipes.TRANSFORMERS_BEFORE + code.replace(call, small)
    check(tmp_path, source + recipes.TRANSFORMERS + recipes.AFTER, 16)
