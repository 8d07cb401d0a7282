"""bbs overlaps on a run of bbs train: the table, the page, what is accepted, and that training takes the aliases."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from basket_softmax.cli import main
from basket_softmax.data import open_basket, read_aliases
from basket_softmax.training import load_run, make_config, train
from training.glyph_folders import write_baskets

SHARED = 60  # identity id(60 + i) of `one` is id(i) of `two`


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["overlaps", *map(str, arguments)])


def config(folder: Path, output: Path, **changes: object) -> object:
    values = {
        "baskets": {"one": folder / "basket0", "two": folder / "basket1"},
        "output": output,
        "image": {"size": 16, "channels": 1},
        "backbone": {
            "factory": "basket_softmax.training.backbones:iresnet",
            "embedding_size": 16,
            "args": {"layers": [1], "width": 8},
        },
        "loss": {"mining": {"name": "topk", "k": 8}, "scale": 16.0, "margin": {"name": "cosface", "margin": 0.1}},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "epochs": 2,
        "batch_size": 48,
        "workers": 0,
        "log": {"tensorboard": False},
    }  # fmt: skip
    return make_config(values, {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("overlaps")
    write_baskets(root, identities=2 * SHARED, images=2)
    return root


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    train(config(folder, folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def found(trained, folder) -> Path:
    """Everything is listed, since two epochs make nothing sure."""
    result = run(
        trained, "--output", folder / "all", "--min-confidence", 0, "--page-pairs", 5, "--workers", 0
    )
    assert result.exit_code == 0, result.output
    assert "240 identities in 2 baskets: " in result.output
    assert f"{folder / 'all' / 'overlaps.html'}: 5 of " in result.output
    return folder / "all"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def same_person(row: dict[str, str]) -> bool:
    return int(row["identity_a"][2:]) - SHARED == int(row["identity_b"][2:])


def decide(path: Path, pairs: list[dict[str, str]], decision: str) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["basket_a", "identity_a", "basket_b", "identity_b", "decision"], extrasaction="ignore"
        )
        writer.writeheader()
        writer.writerows({**pair, "decision": decision} for pair in pairs)
    return path


def test_lists_pairs_with_the_surest_first(found):
    pairs = rows(found / "overlaps.csv")
    assert {(row["basket_a"], row["basket_b"]) for row in pairs} == {("one", "two")}
    for column in ("cosine", "confidence"):
        values = [float(row[column]) for row in pairs]
        assert values == sorted(values, reverse=True)
    # Chance would make 1 of 120 pairs true; a little training finds many of the 60.
    assert sum(same_person(row) for row in pairs) > 20
    assert not (found / "aliases.csv").exists()


def test_centres_are_searched_without_images(trained, tmp_path):
    result = run(trained, "--output", tmp_path, "--from", "centres", "--min-confidence", 0)
    assert result.exit_code == 0, result.output
    assert "confidences from centres are too high" in result.output
    run_ = load_run(trained)
    unit = torch.nn.functional.normalize(run_.head.weight.detach().double())
    for row in rows(tmp_path / "overlaps.csv")[:5]:
        a, b = (run_.baskets[i].identities.index(row[f"identity_{'ab'[i]}"]) for i in (0, 1))
        assert float(row["cosine"]) == pytest.approx(float(unit[a] @ unit[120 + b]), abs=2e-6)


def test_centres_of_a_head_with_subcentres_were_refused(folder, tmp_path):
    train(config(folder, tmp_path / "run", loss__subcenters=2, epochs=1))
    result = run(
        tmp_path / "run", "--output", tmp_path / "out", "--from", "centres", "--min-confidence", 0,
        "--page-pairs", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    loaded = load_run(tmp_path / "run")
    unit = torch.nn.functional.normalize(loaded.head.weight.detach().double()).unflatten(0, (240, 2))
    pairs = rows(tmp_path / "out" / "overlaps.csv")
    assert len(pairs) > 20
    for row in pairs[:5]:
        a, b = (loaded.baskets[i].identities.index(row[f"identity_{'ab'[i]}"]) for i in (0, 1))
        cosine = float((unit[a] @ unit[120 + b].T).max())
        assert float(row["cosine"]) == pytest.approx(cosine, abs=2e-6)


def test_accepted_pairs_train_on(found, trained, folder, tmp_path):
    pairs = [row for row in rows(found / "overlaps.csv") if same_person(row)]
    decisions = decide(tmp_path / "decisions.csv", pairs, "accept")
    result = run(trained, "--output", tmp_path, "--apply", decisions)
    assert result.exit_code == 0, result.output
    n = len(pairs)
    assert f"{2 * n} identities are {n} persons; {n} pairs accepted by hand, 0 by confidence" in result.output
    baskets = [open_basket(folder / f"basket{b}", name) for b, name in enumerate(("one", "two"))]
    aliases = read_aliases(tmp_path / "aliases.csv", baskets)
    for row in pairs:
        a, b = (
            basket.identities.index(row[key])
            for basket, key in zip(baskets, ("identity_a", "identity_b"), strict=True)
        )
        assert aliases[a] == aliases[120 + b] >= 0

    changes = {"loss__aliases": tmp_path / "aliases.csv", "epochs": 1}
    train(config(folder, tmp_path / "next", **changes))
    result = run(tmp_path / "next", "--output", tmp_path / "second", "--min-confidence", 0, "--workers", 0)
    assert result.exit_code == 0, result.output
    listed = {(row["identity_a"], row["identity_b"]) for row in rows(tmp_path / "second" / "overlaps.csv")}
    assert not listed & {(row["identity_a"], row["identity_b"]) for row in pairs}  # known already
    result = run(
        tmp_path / "next", "--output", tmp_path / "second", "--apply", decide(tmp_path / "none.csv", [], "")
    )
    assert f"{2 * n} identities are {n} persons" in result.output
    rejected = decide(tmp_path / "rejected.csv", pairs[:1], "reject")
    result = run(tmp_path / "next", "--output", tmp_path / "second", "--apply", rejected)
    who = "note: you rejected {identity_a!r} of {basket_a!r} and {identity_b!r} of {basket_b!r}, which are one person"
    assert who.format(**pairs[0]) in result.output
    assert f"{2 * n} identities known before are kept" in result.output


def test_confidence_accepts_and_the_rest_is_left_to_a_person(trained, found, tmp_path):
    pairs = rows(found / "overlaps.csv")
    sure = sorted({float(row["confidence"]) for row in pairs})[-1]
    accepted = [row for row in pairs if float(row["confidence"]) >= sure]
    result = run(trained, "--output", tmp_path, "--min-confidence", 0, "--accept-above", sure, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert f"0 pairs accepted by hand, {len(accepted)} by confidence" in result.output
    assert f" of {len(pairs) - len(accepted)} pairs to decide" in result.output
    # The same from the table, but what a person rejected stays out.
    decisions = decide(tmp_path / "decisions.csv", accepted[:1], "reject")
    result = run(trained, "--output", tmp_path, "--apply", decisions, "--accept-above", sure)
    assert f"0 pairs accepted by hand, {len(accepted) - 1} by confidence" in result.output


def test_errors_are_one_line(trained, folder, tmp_path):
    none = decide(tmp_path / "none.csv", [], "")
    result = run(trained, "--output", tmp_path / "new", "--apply", none, "--accept-above", 0.9)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "overlaps.csv does not exist: run bbs overlaps without --apply first" in result.output
    bad = decide(
        tmp_path / "bad.csv",
        [{"basket_a": "one", "identity_a": "id000", "basket_b": "two", "identity_b": "x"}],
        "accept",
    )
    result = run(trained, "--output", tmp_path, "--apply", bad)
    assert result.exit_code == 1
    assert "bad.csv, line 2: basket 'two' has no identity 'x'" in result.output
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "holds no checkpoint" in result.output


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cpux", "'cpux' is not cpu, cuda or cuda:N"),
        ("cuda:99", "'cuda:99': torch sees"),
        ("cuda:", "is not cpu"),
    ],
)
def test_devices_that_are_not_there(device, message, tmp_path):
    result = run(tmp_path, "--device", device)
    assert result.exit_code == 2
    assert message in result.output


def test_the_log_of_a_run_is_not_replaced(trained):
    log = (trained / "overlaps.csv").read_text()
    result = run(trained, "--output", trained, "--from", "centres")
    assert result.exit_code == 2
    assert f"{trained} holds a run, whose overlaps.csv would be lost" in result.output
    assert (trained / "overlaps.csv").read_text() == log


def test_accepting_pairs_that_are_not_listed_took_another_threshold(tmp_path):
    result = run(tmp_path, "--output", tmp_path / "report", "--accept-above", 0.1)
    assert result.exit_code == 2
    assert "--accept-above: expected --min-confidence, 0.5, or more, got 0.1" in result.output


def test_the_report_of_another_run_was_accepted(trained, found, folder, tmp_path):
    none = decide(tmp_path / "none.csv", [], "")
    other = folder / "other"
    train(config(folder, other, seed=1, epochs=1))
    result = run(other, "--output", found, "--apply", none, "--accept-above", 0.9)
    assert result.exit_code == 1
    of = f"overlaps.csv is of another checkpoint, step 20 of {trained}, and --accept-above takes its confidences"
    assert of in result.output
    assert "Traceback" not in result.output
    assert run(trained, "--output", found, "--apply", none, "--accept-above", 0.9).exit_code == 0
    for text in ("{}", "[1]", "no JSON"):
        copy = shutil.copytree(found, tmp_path / "copy", dirs_exist_ok=True)
        (copy / "overlaps.json").write_text(text)
        result = run(trained, "--output", copy, "--apply", none, "--accept-above", 0.9)
        assert result.exit_code == 1
        assert "overlaps.json does not say which checkpoint a report is of" in result.output
    (copy / "overlaps.json").unlink()
    result = run(trained, "--output", copy, "--apply", none, "--accept-above", 0.9)
    assert "overlaps.json does not exist: run bbs overlaps without --apply first" in result.output


def test_applying_accepted_below_what_the_report_lists(trained, found, tmp_path):
    copy = shutil.copytree(found, tmp_path / "copy")
    origin = json.loads((copy / "overlaps.json").read_text())
    (copy / "overlaps.json").write_text(json.dumps({**origin, "min_confidence": 0.5}))
    none = decide(tmp_path / "none.csv", [], "")
    result = run(trained, "--output", copy, "--apply", none, "--accept-above", 0.1)
    assert result.exit_code == 2
    assert "--accept-above: expected --min-confidence, 0.5, or more, got 0.1" in result.output


def test_two_versions_of_one_dataset_were_refused_after_the_pass(folder, tmp_path):
    """All classes are in a pair, so no neighbour is left that shows what chance makes across baskets."""
    shutil.copytree(folder / "basket0", tmp_path / "again")
    train(config(folder, tmp_path / "run", baskets__two__path=tmp_path / "again", epochs=1))
    output = tmp_path / "out"
    result = run(tmp_path / "run", "--output", output, "--accept-above", 0.9, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "240 identities in 2 baskets: 120 mutual pairs\n" in result.output
    assert (
        "240 of 240 nearest neighbours across baskets are mutual, as if the baskets were versions"
        in result.output
    )
    assert "overlaps.csv: 120 pairs without a confidence" in result.output
    assert "the pairs have no confidence: --accept-above accepts none of them" in result.output
    assert "aliases.csv: no identities are one person" in result.output
    pairs = rows(output / "overlaps.csv")
    assert {row["confidence"] for row in pairs} == {"n/a"}
    assert all(row["identity_a"] == row["identity_b"] for row in pairs)
    decisions = decide(tmp_path / "decisions.csv", pairs, "accept")
    result = run(tmp_path / "run", "--output", output, "--apply", decisions, "--accept-above", 0.9)
    assert "240 identities are 120 persons; 120 pairs accepted by hand, 0 by confidence" in result.output


def test_one_basket_is_refused_before_its_images_are_embedded(folder, tmp_path):
    train(config(folder, tmp_path / "run", baskets={"only": folder / "basket0"}, epochs=1))
    result = run(tmp_path / "run", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "run was trained on one basket, 'only': overlaps are between baskets" in result.output
    assert not (tmp_path / "out").exists()


def test_no_person_was_to_be_trained_with(trained, found, tmp_path):
    pairs = rows(found / "overlaps.csv")
    for decisions in (decide(tmp_path / "none.csv", [], ""), decide(tmp_path / "all.csv", pairs, "reject")):
        result = run(trained, "--output", tmp_path, "--apply", decisions)
        assert result.exit_code == 0, result.output
        assert (
            "aliases.csv: no identities are one person; 0 pairs accepted by hand, 0 by conf" in result.output
        )
        assert "train with them" not in result.output
    result = run(trained, "--output", tmp_path, "--apply", decide(tmp_path / "one.csv", pairs[:1], "accept"))
    assert "2 identities are 1 person; 1 pair accepted by hand" in result.output


def test_an_output_that_cannot_be_made_was_an_errno(trained, tmp_path):
    (tmp_path / "file").touch()
    result = run(trained, "--output", tmp_path / "file" / "x")
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path / 'file' / 'x'}: Not a directory\n"


@pytest.mark.parametrize("option", ["--accept-above", "--min-confidence"])
def test_nan_was_a_probability(option, tmp_path):
    result = run(tmp_path, option, "nan")
    assert result.exit_code == 2
    assert "nan is not in the range 0<=x<=1" in result.output


@pytest.mark.parametrize(
    ("option", "value"),
    [("--from", "centres"), ("--min-confidence", 0.9), ("--page-pairs", 3), ("--workers", 1)],
)
def test_options_of_the_search_beside_apply_are_refused(trained, tmp_path, option, value):
    decisions = tmp_path / "decisions.csv"
    decisions.write_text("basket_a,identity_a,basket_b,identity_b,decision\n")
    result = run(trained, "--output", tmp_path / "out", "--apply", decisions, option, value)
    assert result.exit_code == 2
    assert f"{option}: expected without --apply" in result.output
