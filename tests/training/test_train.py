"""A run from folders to a loadable result; what it writes, and what stops it before it begins."""

import shutil
import sys

import pytest
import torch

import basket_softmax as bs
from basket_softmax.data.extras import MissingExtra
from basket_softmax.training import load_config, load_run, train
from basket_softmax.training.batches import Batches
from basket_softmax.training.began import what_it_began_with
from basket_softmax.training.datasets import DataError, open_datasets
from basket_softmax.training.diverged import Diverged
from basket_softmax.training.meter import Meter
from basket_softmax.training.model import aliases_of, build_head
from basket_softmax.training.ranks import joined_ranks
from basket_softmax.training.run import known_aliases, make_trainer
from basket_softmax.training.state import RunFolder, restore
from training.logged import rows_of


def test_learns_and_writes(small, folders):
    config = small(
        epochs=6, validation={"baskets": {"held": folders / "held"}, "fars": [0.1], "every_epochs": 4}
    )
    summary = train(config)
    rows = rows_of(config.output / "metrics.csv")
    assert [row["step"] for row in rows] == list(range(2, 37, 2))
    assert [row["epoch"] for row in rows] == [-(-step // 6) for step in range(2, 37, 2)]
    assert sum(row["loss"] for row in rows[-3:]) < 0.8 * sum(row["loss"] for row in rows[:3])
    assert all(0 < row["mined_share/one"] <= 1 for row in rows)
    assert summary.metrics["loss"] == pytest.approx(rows[-1]["loss"], rel=1e-6)
    measured = rows_of(config.output / "validation.csv")
    assert [(row["step"], row["epoch"]) for row in measured] == [(24, 4), (36, 6)]
    assert all(0 <= row["rank1"] <= 1 and 0 <= row["tar@0.1"] <= 1 for row in measured)
    assert load_config(config.output / "config.yaml") == config
    kept = sorted(path.name for path in (config.output / "checkpoints").iterdir())
    assert kept == ["step-00000030", "step-00000036"]


@pytest.mark.parametrize("subcenters", [1, 3])
def test_overlap_candidates_are_counted(small, subcenters):
    """As many as a table of all cosines of the final centres shows."""
    config = small(epochs=1, log__overlap_cosine=-0.99, loss__subcenters=subcenters)
    train(config)
    (row,) = rows_of(config.output / "overlaps.csv")
    run = load_run(config.output)
    table = torch.nn.functional.normalize(run.head.weight.detach().double())
    cosines = table @ table.t()
    cosines = cosines.view(12, subcenters, 12, subcenters).amax((1, 3))[:6, 6:]
    first, second = cosines.argmax(1), cosines.argmax(0)
    mutual = [i for i in range(6) if second[first[i]] == i and cosines[i, first[i]] >= -0.99]
    assert row == {
        "step": 6,
        "epoch": 1,
        "pairs": len(mutual),
        "candidates/one": len(mutual),
        "candidates/two": len(mutual),
    }
    assert mutual


def test_known_aliases_reach_the_loss(small, tmp_path):
    table = tmp_path / "known.csv"
    table.write_text("basket,identity,alias\none,id003,x\ntwo,id000,x\n")
    config = small(epochs=1, loss__aliases=table)
    data = open_datasets(config)
    with joined_ranks("cpu") as ranks:
        trainer = make_trainer(
            config, data, Batches(config, data.training), ranks, known_aliases(config, data)
        )
    assert trainer.head.aliases.tolist() == [-1, -1, -1, 0, -1, -1, 0, -1, -1, -1, -1, -1]
    table.write_text("basket,identity,alias\none,nobody,x\n")
    with pytest.raises(DataError, match=r"loss.aliases: .*nobody"):
        train(config)
    whole = small(validation={"fraction": 0.34, "fars": [0.1]}, loss__aliases=table)
    table.write_text("basket,identity,alias\n" + "".join(f"one,id{i:03},p{i}\n" for i in range(6)))
    training = open_datasets(whole).training
    assert (aliases_of(whole, training) >= 0).sum() == 4  # two of the six are held out


def test_linking(small):
    """Thresholds so low that mutually nearest classes are linked at once; the loss then knows the links."""
    config = small(loss__linking={"exclude": -0.9, "every": 3}, log__every_steps=3)
    train(config)
    linked = [row["linked"] for row in rows_of(config.output / "metrics.csv")]
    assert len(linked) == 4
    assert all(0 < count <= 12 for count in linked)
    data = open_datasets(config)
    with joined_ranks("cpu") as ranks:
        trainer = make_trainer(
            config, data, Batches(config, data.training), ranks, known_aliases(config, data)
        )
        assert trainer.head.aliases is None
        restore(RunFolder(config.output), 12, trainer, Meter(), what_it_began_with(data, None))
    assert int((trainer.head.aliases >= 0).sum()) == linked[-1]
    assert trainer.linker.step == 12


@pytest.mark.parametrize("amp", ["fp16", "bf16"])
def test_linking_under_autocast(small, amp):
    """The matching is inside of the step's autocast; with fp16 it was an error inside torch."""
    config = small(epochs=1, amp=amp, loss__linking={"exclude": -0.9, "share": -0.5, "every": 2})
    train(config)
    assert all(row["linked"] > 0 for row in rows_of(config.output / "metrics.csv"))


def test_a_head_that_these_baskets_do_not_allow(small):
    lists = {f"b{i}": small().baskets["one"].path for i in range(2)}
    config = small(baskets=lists, loss__mining={"name": "topk", "k": 128, "skip": 0})
    train(config.model_copy(update={"epochs": 1}))  # a basket of six classes lists six
    with pytest.raises(DataError, match=r"loss: .*16384|loss: .*16,384"):
        build_head(config, bs.Baskets({f"b{i}": 128 for i in range(130)}))


def test_load_run_gives_what_was_trained(small):
    config = small(epochs=1)
    train(config)
    run = load_run(config.output)
    assert (run.config, run.step) == (config, 6)
    assert not run.backbone.training
    assert not run.head.training
    assert [basket.name for basket in run.baskets] == list(run.head.baskets.names) == ["one", "two"]
    assert run.head.weight.shape == (run.head.num_classes, 8) == (12, 8)
    image = config.image.build()(run.baskets[0].image(0))
    assert run.backbone(image[None]).shape == (1, 8)
    same = load_run(config.output / "checkpoints" / "step-00000006")
    assert torch.equal(same.head.weight, run.head.weight)
    for a, b in zip(same.backbone.parameters(), run.backbone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_load_run_without_the_data(small, folders, tmp_path):
    """The backbone can be had when the images are gone; asking for them says what is missing."""
    (tmp_path / "moved").symlink_to(folders / "basket0")
    config = small(epochs=1, baskets={"one": tmp_path / "moved", "two": folders / "basket1"})
    train(config)
    (tmp_path / "moved").unlink()
    run = load_run(config.output)
    with pytest.raises(DataError, match=r"baskets.one.path: .*moved"):
        _ = run.baskets
    (tmp_path / "moved").symlink_to(folders / "held")
    with pytest.raises(ValueError, match="the run was trained on"):
        _ = run.baskets


def test_load_run_of_something_else(small, tmp_path):
    with pytest.raises(bs.checkpoint.CheckpointError, match="holds no checkpoint of bbs train"):
        load_run(tmp_path)
    bs.checkpoint.save(tmp_path / "c", bs.BasketSoftmaxLoss({"a": 3}, 4))
    with pytest.raises(
        bs.checkpoint.CheckpointError, match=r"was not written by bbs train: there is no config.yaml"
    ):
        load_run(tmp_path / "c")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "sgd", "head": {"fused": True, "lr": 0.05}}},
        {"optimizer": {"name": "adamw", "head": {"weight_decay": 0.0}}, "amp": "bf16", "clip": 0.5},
        {"amp": "fp16", "clip": 5.0, "loss__margin": "adaface"},
        {
            "loss__sample_rate": 0.6,
            "optimizer": {"name": "sgd", "head": {"momentum": 0.0, "weight_decay": 0.0}},
        },
        {"loss__sample_rate": 0.6, "optimizer": {"name": "sgd", "head": {"fused": True}}, "amp": "bf16"},
        {"loss__sample_rate": 0.6, "loss__sparse_grad": False, "optimizer": "adamw", "clip": 0.5},
        {"loss__margin": "magface", "optimizer": {"name": "sgd", "lr": 0.05}},
        {"loss__margin": "curricularface", "clip": 5.0},
        {"loss__margin": {"name": "interclass_filter", "threshold": 0.5}, "loss__mining": "all"},
        {"loss__mining": {"name": "below", "guard": {"name": "ema", "r": 0.9}}},
        {"loss__subcenters": 3, "optimizer": {"name": "sgd", "head": {"fused": True}}},
        {
            "loss__subcenters": 2,
            "loss__sample_rate": 0.6,
            "optimizer": {"name": "sgd", "head": {"momentum": 0.0, "weight_decay": 0.0}},
        },
    ],
)
def test_every_way_to_step(small, changes):
    config = small(epochs=6, checkpoint__keep=1, log__every_steps=6, **changes)
    train(config)
    rows = rows_of(config.output / "metrics.csv")
    assert [row["step"] for row in rows] == [6, 12, 18, 24, 30, 36]
    assert sum(row["loss"] for row in rows[-2:]) < sum(row["loss"] for row in rows[:2])


def test_workers_change_nothing(small, tmp_path):
    found = []
    for workers in (0, 2):
        config = small(epochs=1, workers=workers, augment__rotate=20.0, output=tmp_path / str(workers))
        train(config)
        found.append((config.output / "metrics.csv").read_bytes())
    assert found[0] == found[1]


def test_a_fraction_is_held_out(small):
    config = small(epochs=1, validation={"fraction": 0.34, "fars": [0.1]})
    train(config)
    run = load_run(config.output)
    assert run.head.baskets.sizes == (4, 4)
    (row,) = rows_of(config.output / "validation.csv")
    assert row["rank1"] == pytest.approx((row["rank1/one"] + row["rank1/two"]) / 2, rel=1e-6)


def test_proportions(small, folders):
    config = small(
        baskets={
            "one": {"path": folders / "basket0", "proportion": 3.0},
            "two": {"path": folders / "basket1", "proportion": 1.0},
        }
    )
    batches = Batches(config, open_datasets(config).training)
    seen = torch.stack([baskets.bincount(minlength=2) for _, _, baskets in batches.from_step(0)])
    assert seen.tolist() == [[6, 2]] * 12
    with pytest.raises(
        DataError,
        match=r"baskets\.one\.proportion: expected a row in a batch of 2, got none by 0\.001 of 1\.001 .* larger pr",
    ):
        Batches(
            config.model_copy(update={"batch_size": 2, "baskets": {**config.baskets, "one": tiny(config)}}),
            open_datasets(config).training,
        )


def tiny(config):
    return config.baskets["one"].model_copy(update={"proportion": 0.001})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 64}, "batch_size: expected at most the 48 images there are, got 64"),
        (
            {"validation": {"fraction": 0.99}},
            "validation.fraction: expected a fraction that the 6 identities with two images of basket 'one' can give, "
            "got 0.99, which holds out 6 of 6 identities",
        ),
        (
            {"baskets__one": "/nowhere"},
            "baskets.one.path: expected a folder with one sub-folder per identity, ",
        ),
    ],
)
def test_data_that_do_not_fit(small, changes, message):
    config = small(**changes)
    with pytest.raises(DataError) as caught:
        train(config)
    assert message in str(caught.value)
    assert not config.output.exists()  # or the next attempt would meet a run that never began


def test_a_loss_that_is_not_a_number_stops_the_run(small):
    config = small(optimizer={"name": "sgd", "lr": 1e30}, schedule={"warmup_epochs": 0.0})
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) in the steps up to"):
        train(config)


def test_an_output_that_the_system_refuses_is_named(small, monkeypatch):
    """As below /proc, where permissions say nothing of it."""

    def refuse(self, *_, **__):
        raise FileNotFoundError(2, "No such file or directory", str(self))

    config = small(epochs=1)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(OSError, match=r"/out cannot be made: No such file or directory$"):
        train(config)


def test_load_run_refuses_identities_with_other_names(small, folders, tmp_path):
    """As many as before, but the classes would get the names of others."""
    shutil.copytree(folders / "basket0", tmp_path / "own")
    config = small(epochs=1, baskets={"one": tmp_path / "own", "two": folders / "basket1"})
    train(config)
    first, second = sorted((tmp_path / "own").iterdir())[:2]
    (second / next(second.iterdir()).name).unlink()  # fewer images: the classes are who they were
    assert len(load_run(config.output).baskets) == 2
    first.rename(first.with_name("zz"))
    with pytest.raises(ValueError, match=r"as many identities .*, but others: a folder was renamed"):
        _ = load_run(config.output).baskets


@pytest.mark.parametrize("changes", [{}, {"log__overlap_cosine": 0.5}, {"validation": True}])
def test_a_run_that_diverges_between_log_rows_is_neither_measured_nor_saved(small, folders, changes):
    """The rows of metrics.csv are further apart than epochs, so that the weights themselves have to be looked at."""
    if "validation" in changes:
        changes = {"validation": {"baskets": {"held": folders / "held"}}}
    changes = {"log__overlap_cosine": None, **changes}
    config = small(
        optimizer={"name": "sgd", "lr": 1e38}, log__every_steps=1000, checkpoint={"every_steps": 4}, **changes
    )
    with pytest.raises(Diverged, match=r"NaN or Inf after step 4 in .*class centres"):
        train(config)
    assert RunFolder(config.output).steps() == []
    for log in ("metrics", "validation", "overlaps"):
        assert not (config.output / f"{log}.csv").exists()


def test_an_update_that_overflows_after_a_finite_loss_is_not_saved(small):
    config = small(
        optimizer={"name": "sgd", "lr": 1e38}, schedule={"warmup_epochs": 0.0}, checkpoint={"every_steps": 1},
        log__every_steps=1000,
    )  # fmt: skip
    with pytest.raises(Diverged, match=r"NaN or Inf after step 1 in (the backbone|class centres)"):
        train(config)
    assert RunFolder(config.output).steps() == []


def test_a_library_that_is_missing_is_told_before_anything_is_written(small, monkeypatch):
    config = small(log__tensorboard=True)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r'log\.tensorboard needs tensorboard: pip install "bbs-kernels'):
        train(config)
    assert not config.output.exists()
