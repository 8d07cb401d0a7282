"""`bbs train --check`: what it finds, what it computes, and that it leaves nothing behind."""

import os
import re
import shutil

import pytest
import torch

from basket_softmax.training import check, train
from basket_softmax.training.memory import available_bytes, head_bytes, saved_for_backward


def test_a_run_that_can_begin(small, folders):
    config = small(validation={"baskets": {"held": folders / "held"}, "fars": [0.1]}, loss__mining="own")
    found = check(config)
    assert found.ok
    assert not config.output.exists()
    assert found.steps == 12
    assert found.memory["centres"] == 12 * 8 * 4
    assert found.memory["backbone"] > 4 * 8 * 4 * 8 * 8  # the last layer alone
    assert found.memory["images that wait"] == 8 * 16 * 16 * 4
    assert 0 < found.step_seconds < 10
    assert found.validation_seconds > 0
    text = str(found)
    assert "one: 24 images of 6 identities" in text
    assert "held out, held: 16 images of 4 identities" in text
    assert "time: 12 steps of" in text
    assert text.endswith("ready to train")


def test_it_does_not_touch_what_training_draws(small):
    """Nothing that a check does is part of the run that follows."""
    config = small(epochs=1)
    assert check(config).memory.keys() == check(config).memory.keys()
    assert not config.output.exists()


def test_unreadable_images_are_a_problem(small, folders, tmp_path):
    broken = tmp_path / "broken"
    for name in ("a", "b"):
        (broken / name).mkdir(parents=True)
        for image in sorted((folders / "held" / "id000").iterdir()):
            (broken / name / f"{name}{image.name}").write_bytes(image.read_bytes() + name.encode())
    (broken / "a" / "damaged.png").write_bytes(b"no image")
    found = check(small(baskets={"broken": broken}, batch_size=4))
    assert not found.ok
    assert found.step_seconds is None
    assert "damaged.png" in str(found)
    assert str(found).endswith("problem: data: see above\n1 to solve first")


def test_a_head_that_does_not_fit(small, monkeypatch):
    monkeypatch.setattr("basket_softmax.training.dry_run.available_bytes", lambda device: 1000)
    found = check(small())
    assert found.problems == ["the head needs 1.15 KB: fewer classes per rank, or a smaller width"]
    assert found.step_seconds is None


def test_images_that_do_not_fit(small):
    found = check(small(image={"size": 1_000_000, "channels": 1}))
    assert found.problems == [
        "the images of a step take 32 TB: a smaller batch_size or image.size, now 8 and 1000000"
    ]
    assert found.step_seconds is None


def test_an_output_that_cannot_be_made(small, tmp_path):
    (tmp_path / "file").write_text("")
    config = small(output=tmp_path / "file" / "run")
    wanted = f"{tmp_path}/file/run cannot be written: {tmp_path}/file is not a folder"
    assert check(config).problems == [f"output: {wanted}"]
    with pytest.raises(NotADirectoryError, match=re.escape(wanted)):
        train(config)


def test_an_output_without_permission(small, tmp_path, monkeypatch):
    """What the system says to anybody but root, whom it lets write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or not mode & os.W_OK)
    assert check(small(output=tmp_path / "run")).problems == [
        f"output: {tmp_path}/run cannot be written: there is no permission to write in {tmp_path}"
    ]


def test_what_the_page_cache_holds_counts_as_free():
    available = available_bytes(torch.device("cpu"))
    assert available >= 0.9 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("changes", "gradient", "state"),
    [
        ({}, 1.0, 1),
        ({"optimizer": {"name": "sgd", "momentum": 0.0}}, 1.0, 0),
        ({"optimizer": {"name": "sgd", "head": {"fused": True}}}, 0.0, 1),
        ({"optimizer": {"name": "adamw"}}, 1.0, 2),
        (
            {"optimizer": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}, "loss__sample_rate": 0.5},
            0.5,
            0,
        ),
        ({"optimizer": "adamw", "loss__sample_rate": 0.5, "loss__sparse_grad": False}, 1.0, 2),
    ],
)
def test_memory_of_the_head(small, changes, gradient, state):
    centres = 500_001 * 8 * 4
    assert head_bytes(small(**changes), 1_000_001, world=2) == {
        "centres": centres,
        "centres' gradient": int(gradient * centres),
        "centres' optimiser state": state * centres,
    }


def test_memory_of_the_linker(small):
    found = head_bytes(small(loss__linking={}, loss__subcenters=3), 1000, world=4)
    assert found["linker"] == 250 * 8 * 4 + 48 * 1000
    assert found["centres"] == 3 * 250 * 8 * 4


def test_saved_tensors_are_counted_once_and_parameters_not():
    weight = torch.randn(30, 20, requires_grad=True)
    x = torch.randn(10, 30, requires_grad=True)
    with saved_for_backward([weight]) as saved:
        y = x @ weight  # keeps x, and weight
        z = (y.exp() * x.sum()).sum()  # keeps exp(y), twice, and the sum
    assert saved.bytes == 4 * (10 * 30 + 10 * 20 + 1)
    z.backward()


def test_an_output_that_training_would_refuse_is_a_problem(small):
    config = small(epochs=1)
    train(config)
    found = check(config)
    assert not found.ok
    assert "problem: output: " in str(found)
    assert found.step_seconds > 0
    assert "--resume goes on with it, another output starts a new run" in str(found)
    assert check(config, resume=True).ok
    assert "begun with another config" in str(check(small(epochs=2), resume=True))


def copied(folders, tmp_path):
    shutil.copytree(folders / "basket0", tmp_path / "own")
    return {"one": tmp_path / "own", "two": folders / "basket1"}, sorted((tmp_path / "own").rglob("*.png"))


def test_an_image_that_only_fails_when_it_is_decoded(small, folders, tmp_path):
    """Its header is whole. In a step that is tried it is a problem beside the report, not an error instead of it."""
    baskets, images = copied(folders, tmp_path)
    for image in images:
        image.write_bytes(image.read_bytes()[:-40])
    found = check(small(baskets=baskets))
    assert "one: 24 images of 6 identities" in str(found)
    assert len(found.problems) == 1
    assert "the image cannot be read: " in found.problems[0]
    assert found.step_seconds is None
    decoded = check(small(baskets=baskets), decode=True)
    assert "images that cannot be read: 24" in str(decoded)
    assert decoded.problems == ["data: see above"]


def test_a_checkpoint_that_resume_would_refuse_is_a_problem(small, folders, tmp_path):
    baskets, images = copied(folders, tmp_path)
    config = small(epochs=1, baskets=baskets)
    train(config)
    assert check(config, resume=True).ok
    held = images[0].read_bytes()
    (images[0].parent / "more.png").write_bytes(held + b"more")
    found = check(config, resume=True)
    assert not found.ok
    assert "the baskets have other identities or images than when" in str(found)
    (images[0].parent / "more.png").unlink()
    part = next((config.output / "checkpoints" / "step-00000006").rglob("*.distcp"))
    part.write_bytes(part.read_bytes()[:-10])
    found = check(config, resume=True)
    assert not found.ok
    assert part.name in found.problems[0]


def test_held_out_images_that_are_trained_are_a_problem(small, folders):
    found = check(small(validation={"baskets": {"held": folders / "basket0"}, "fars": [0.1]}))
    assert found.problems[0].startswith("24 of the images of validation.baskets are trained too: ")
    assert "(one) = " in str(found)
    assert "(held out, held)\n" in str(found)
    assert "warning: validation.baskets.held is baskets.one: what is measured on it" in str(found)
    assert found.step_seconds > 0  # what it costs is told all the same
    assert check(small(validation={"baskets": {"held": folders / "held"}, "fars": [0.1]})).ok


def test_a_backbone_that_cannot_be_made_is_a_problem_beside_the_report(small):
    found = check(small(backbone={"factory": "nowhere:make"}))
    assert "one: 24 images of 6 identities" in str(found)
    assert len(found.problems) == 1
    assert "nowhere" in found.problems[0]
