"""Into which folder a run may write, and what a resumed run goes on with or refuses."""

import shutil

import pytest

from basket_softmax.training import check, train
from basket_softmax.training.began import what_changed, what_it_began_with
from basket_softmax.training.datasets import open_datasets
from basket_softmax.training.state import ResumeError


def test_a_folder_holds_one_run(small):
    config = small(epochs=1)
    train(config)
    with pytest.raises(ResumeError, match="holds checkpoints up to step 6: --resume goes on with it"):
        train(config)
    before = (config.output / "metrics.csv").read_bytes()
    train(config, resume=True)  # there is nothing left to do
    assert (config.output / "metrics.csv").read_bytes() == before
    with pytest.raises(ResumeError, match=r"\n  loss.scale: 16.0, now 8.0\Z"):
        train(small(epochs=1, loss__scale=8.0), resume=True)


def test_a_run_goes_on_where_its_images_were_moved_to(small, folders, tmp_path):
    (tmp_path / "moved").symlink_to(folders / "basket0")
    train(small(epochs=1))
    train(small(epochs=1, baskets__one=tmp_path / "moved", workers=1, checkpoint__keep=1), resume=True)


def test_resume_refuses_other_data(small, folders, tmp_path):
    (tmp_path / "link").symlink_to(folders / "basket0")
    config = small(epochs=1, baskets={"one": tmp_path / "link", "two": folders / "basket1"})
    train(config)
    (tmp_path / "link").unlink()
    (tmp_path / "link").mkdir()
    for identity in sorted((folders / "basket0").iterdir()):
        place = tmp_path / "link" / identity.name
        place.mkdir()
        for image in sorted(identity.iterdir())[1:]:
            (place / image.name).write_bytes(image.read_bytes())
    with pytest.raises(ResumeError, match="other identities or images"):
        train(config, resume=True)


def test_resume_refuses_other_images_of_the_same_names(small, folders, tmp_path):
    """As many of the same identities, labels and file names: only the bytes tell."""
    (tmp_path / "link").symlink_to(folders / "basket0")
    config = small(epochs=1, baskets={"one": tmp_path / "link", "two": folders / "basket1"})
    train(config)
    other = tmp_path / "other"
    shutil.copytree(folders / "basket0", other)
    for image, another in zip(
        sorted(other.rglob("*.png")), sorted((folders / "basket1").rglob("*.png")), strict=True
    ):
        image.write_bytes(another.read_bytes())
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(
        ResumeError, match="as many images of the same identities as before, but others than when"
    ):
        train(config, resume=True)
    found = check(config, resume=True)
    assert (
        found.problems == [problem for problem in found.problems if "but others than when" in problem] != []
    )


def test_resume_refuses_other_images_to_measure(small, folders, tmp_path):
    (tmp_path / "link").symlink_to(folders / "held")
    config = small(epochs=1, validation={"baskets": {"held": tmp_path / "link"}, "fars": [0.1]})
    train(config)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(folders / "basket1")
    with pytest.raises(
        ResumeError, match="what is measured, held-out identities or pairs, has other images than when"
    ):
        train(config, resume=True)


def test_resume_refuses_other_aliases_and_allows_a_file_that_moved(small, tmp_path):
    first, moved = tmp_path / "al.csv", tmp_path / "moved.csv"
    first.write_text("basket,identity,alias\none,id003,x\ntwo,id000,x\n")
    train(small(epochs=1, loss__aliases=first))
    moved.write_text("basket,identity,alias\ntwo,id000,anna\none,id003,anna\n")  # the same two, other words
    train(small(epochs=1, loss__aliases=moved), resume=True)
    first.write_text("basket,identity,alias\none,id004,x\ntwo,id001,x\n")
    for changed in (first, None):
        with pytest.raises(
            ResumeError, match=r"loss\.aliases says of other identities that they are one person than when"
        ):
            train(small(epochs=1, loss__aliases=changed), resume=True)
        assert "loss.aliases says of other" in str(check(small(epochs=1, loss__aliases=changed), resume=True))


def test_a_checkpoint_of_an_earlier_version_still_resumes(small):
    """It knows identities and labels alone."""
    config = small(epochs=1)
    began = what_it_began_with(open_datasets(config), None)
    before = {key: began[key] for key in ("data", "identities")}
    assert what_changed(before, began) is None
    assert what_changed({**before, "data": "0"}, began) is not None


def test_a_run_without_its_config_yaml_is_not_gone_on_with_unasked(small):
    config = small(epochs=1)
    train(config)
    (config.output / "config.yaml").unlink()
    with pytest.raises(ResumeError, match="holds checkpoints up to step 6: --resume goes on with it"):
        train(config)
    train(config, resume=True)
    (config.output / "checkpoints" / "step-00000006" / "config.yaml").unlink()
    with pytest.raises(ResumeError, match=r"step-00000006/config\.yaml is missing, so that nothing says"):
        train(config, resume=True)


def test_a_file_named_like_a_checkpoint_does_not_stop_the_run(small):
    config = small(epochs=1, checkpoint__keep=1)
    stray = config.output / "checkpoints" / "step-00000055"
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    train(config)
    assert stray.read_text() == "mine"


def test_files_of_others_in_the_output_are_kept(small):
    config = small(epochs=1, checkpoint__keep=1)
    mine = config.output / "checkpoints" / "step-best" / "weights.pt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    log = config.output / "metrics.csv"
    log.write_text("mine,1\n")
    with pytest.raises(ResumeError, match=r"metrics\.csv is not of a run, as there is no config\.yaml"):
        train(config)
    assert log.read_text() == "mine,1\n"
    log.unlink()
    train(config)
    assert mine.read_text() == "mine"


def test_the_summary_of_a_finished_run_that_is_resumed(small, folders):
    config = small(epochs=1, validation={"baskets": {"held": folders / "held"}, "fars": [0.1]})
    first, again = train(config), train(config, resume=True)
    assert again.steps == first.steps
    assert again.metrics == pytest.approx(first.metrics, rel=1e-6)
    assert again.validation == pytest.approx(first.validation, rel=1e-6)
