"""examples/glyph_folders.py as a user runs it: the planted overlaps, the truth, no equal images, messages."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from basket_softmax.data import ImageFormat, check_baskets, open_basket, read_aliases

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "glyph_folders.py"
SMALL = ["--baskets", "2", "--identities", "20", "--overlap", "0.25", "--held-out", "7"]

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the source tree")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("glyph_folders", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(script):
    return lambda *arguments: CliRunner().invoke(script.main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def folders(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("glyphs") / "out"
    done = run(out, *SMALL)
    assert done.exit_code == 0, done.output
    assert "2 baskets of 20 people, 5 in all of them; 7 held out" in done.output
    return out


def test_the_truth_names_every_folder_and_the_planted_overlap(folders):
    with (folders / "truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["basket"], row["identity"]) for row in rows} == {
        path.relative_to(folders).parts for path in folders.glob("*/*") if path.is_dir()
    }
    people = {
        name: [row["person"] for row in rows if row["basket"] == name] for name in ("basket0", "basket1")
    }
    held_out = [row["person"] for row in rows if row["basket"] == "held-out"]
    shared = set(people["basket0"]) & set(people["basket1"])
    assert [len(set(p)) for p in (*people.values(), shared, held_out)] == [20, 20, 5, 7]
    assert not set(held_out) & {*people["basket0"], *people["basket1"]}
    same_number = [a == b for a, b in zip(*people.values(), strict=True)]
    assert sum(same_number) < len(shared)  # numbers do not tell


def test_the_baskets_can_be_trained_on(folders):
    baskets = [open_basket(folders / name) for name in ("basket0", "basket1", "held-out")]
    assert [len(basket.identities) for basket in baskets] == [20, 20, 7]
    report = check_baskets(baskets, ImageFormat(40, channels=1), decode=True)
    assert report.ok
    assert len(report.duplicates) == 0
    assert [len(check.single) for check in report.checks] == [0, 0, 0]
    assert all(list(check.sizes) == [(40, 40)] for check in report.checks)


def test_the_truth_is_an_alias_table_after_its_last_column(folders, tmp_path):
    table = tmp_path / "aliases.csv"
    table.write_text(
        (folders / "truth.csv").read_text(encoding="utf-8").replace("person", "alias"), encoding="utf-8"
    )
    baskets = [open_basket(folders / name) for name in ("basket0", "basket1")]
    aliases = read_aliases(table, baskets, unknown="skip")
    assert sorted(Counter(aliases.tolist()).values()) == [1] * 30 + [2] * 5


def test_the_same_options_write_the_same_files_and_another_seed_others(folders, run, tmp_path):
    def content(root):
        return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    for name, seed in (("again", 0), ("other", 1)):
        assert run(tmp_path / name, *SMALL, "--seed", seed).exit_code == 0
    assert content(tmp_path / "again") == content(folders)
    other, first = content(tmp_path / "other"), content(folders)
    assert other[Path("truth.csv")] != first[Path("truth.csv")]
    assert other[Path("basket0/0001/00.png")] != first[Path("basket0/0001/00.png")]


def test_messages(folders, run, tmp_path):
    for arguments, message in [
        ((folders,), "is not empty"),
        (
            (tmp_path / "x", "--identities", "200"),
            "200 people, 60 of them shared, are 480 people, but there are 250",
        ),
        ((tmp_path / "x", "--overlap", "2"), "--overlap"),
    ]:
        done = run(*arguments)
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_from_the_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "out"], capture_output=True, text=True, check=True
    )
    assert "3 baskets of 100 people, 30 in all of them; 100 held out" in done.stdout
