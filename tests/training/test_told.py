"""What a run prints before and while it trains, warnings included."""

import shutil

import pytest

from basket_softmax.training import check, train
from basket_softmax.training.datasets import DataError, open_datasets
from training.logged import rows_of


def test_aliases_of_unknown_baskets_are_an_error_with_a_fraction_too(small, tmp_path, capsys):
    table = tmp_path / "known.csv"
    whole = small(epochs=1, validation={"fraction": 0.34, "fars": [0.1]}, loss__aliases=table)
    table.write_text("basket,identity,alias\nwebface,id003,x\nglint,id000,x\n")
    with pytest.raises(
        DataError, match=r"loss.aliases: .*basket: expected one of 'one', 'two', got 'webface'"
    ):
        train(whole)
    assert "basket: expected one of 'one', 'two', got 'webface'" in str(check(whole))
    table.write_text(
        "basket,identity,alias\n" + "".join(f"{b},id{i:03},p{i}\n" for b in ("one", "two") for i in range(6))
    )
    data = open_datasets(whole)
    kept = [set(basket.identities) for basket in data.training]
    both = len(kept[0] & kept[1])
    assert both < 6  # some are held out
    told = f"aliases: {2 * both} identities, {both} person{'s' * (both != 1)}"
    assert told in str(check(whole)).splitlines()
    capsys.readouterr()
    train(whole)
    assert told in capsys.readouterr().out.splitlines()


def test_aliases_that_join_nobody_say_so(small, tmp_path, capsys):
    table = tmp_path / "known.csv"
    table.write_text("basket,identity,alias\none,id003,x\ntwo,id000,y\n")
    train(small(epochs=1, loss__aliases=table))
    assert (
        "aliases: none joins two identities that are trained, so they change nothing"
        in capsys.readouterr().out
    )


def test_held_out_folders_that_are_trained_are_warned_of(small, folders, capsys):
    train(
        small(epochs=1, validation={"baskets": {"held": folders / "held" / ".." / "basket1"}, "fars": [0.1]})
    )
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line.split(": ")[1] for line in warnings] == ["validation.baskets.held is baskets.two"]


def test_one_identity_alone_is_warned_of(small, folders, tmp_path, capsys):
    shutil.copytree(folders / "basket0" / "id000", tmp_path / "lonely" / "id000")
    config = small(epochs=1, baskets={"lonely": tmp_path / "lonely"}, batch_size=2)
    train(config)
    warning = "warning: one identity alone has no negatives: its loss is 0 from the first step, and nothing is learnt"
    assert warning in capsys.readouterr().out.splitlines()
    assert warning in str(check(config)).splitlines()
    assert {row["loss"] for row in rows_of(config.output / "metrics.csv")} == {0.0}


@pytest.mark.parametrize("name", ["[/a]", "[bold]a", "a:smile:b"])
def test_names_with_markup_are_printed_as_they_are(small, folders, tmp_path, capsys, name):
    """Rich takes brackets as styles and colons as emoji unless told not to; a closing tag stopped the run."""
    config = small(
        epochs=1,
        baskets={name: folders / "basket0", "two": folders / "basket1"},
        validation={"baskets": {name: folders / "held"}, "fars": [0.1]},
        output=tmp_path / f"mk{name}" / name,
    )
    train(config)
    told = capsys.readouterr().out
    assert told.startswith(f"{name}: 24 images of 6 identities\n")
    assert f"held out of {name}: 16 images" in told
    assert told.endswith(f"written to {config.output}\n")


def test_what_a_basket_leaves_out_is_printed_before_training(small, folders, tmp_path, capsys):
    shutil.copytree(folders / "basket0", tmp_path / "own")
    (tmp_path / "own" / "loose.png").write_bytes(b"")
    (tmp_path / "own" / "id000" / "moving.gif").write_bytes(b"")
    (tmp_path / "own" / "nobody").mkdir()
    shutil.copytree(folders / "held", tmp_path / "held")
    (tmp_path / "held" / "list.txt").write_bytes(b"")
    baskets = {"one": tmp_path / "own", "two": folders / "basket1"}
    train(small(epochs=1, baskets=baskets, validation={"baskets": {"one": tmp_path / "held"}, "fars": [0.1]}))
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("  left out on opening: ")
    assert all(what in told[1] for what in ("loose.png", "id000/moving.gif", "nobody"))
    assert told[4] == "  left out on opening: files that are not images: 1 (list.txt)"
    train(
        small(
            epochs=1,
            baskets=baskets,
            validation={"fraction": 0.34, "fars": [0.1]},
            output=tmp_path / "fraction",
        )
    )
    assert (
        capsys.readouterr().out.count("left out on opening") == 1
    )  # what is held out is a share of the same basket


def test_a_first_epoch_without_a_row_has_no_loss_to_print(small, folders, capsys):
    train(
        small(epochs=1, log__every_steps=7, validation={"baskets": {"held": folders / "held"}, "fars": [0.1]})
    )
    assert "epoch 1: loss " in capsys.readouterr().out  # the last step has a row in any case
    train(
        small(
            epochs=2, log__every_steps=99, output=small().output / "two",
            validation={"baskets": {"held": folders / "held"}, "fars": [0.1]},
        )
    )  # fmt: skip
    told = capsys.readouterr().out
    assert "epoch 1: rank-1 " in told
    assert "epoch 2: loss " in told
