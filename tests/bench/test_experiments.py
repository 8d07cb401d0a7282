"""The experiments' results survive stops, their statistics are the textbook's, and the page is made from them."""

from __future__ import annotations

import json

import pytest

from bbs_experiments import page, store
from bbs_experiments.statistics import Cell, interval, ratio
from bbs_experiments.tables import pairs, table


def row(rule, seed, rank1, cell="many", **more):
    return {
        "cell": cell,
        "rule": rule,
        "seed": seed,
        "rank1": rank1,
        "tar_1e3": rank1 / 2,
        "tar_1e4": rank1 / 4,
        **more,
    }


ROWS = [
    row("own", 0, 0.70), row("own", 1, 0.72), row("own", 2, 0.74), row("own", 3, 0.1, cell="style"),
    row("bbs", 0, 0.74), row("bbs", 1, 0.75), row("bbs", 2, 0.78),
    row("oracle", 0, 0.76), row("oracle", 1, 0.80), row("oracle", 2, 0.80),
    row("all", 2, 0.60),
]  # fmt: skip


def test_a_training_is_written_once(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    assert store.read(path) == []
    for each in ROWS:
        store.append(path, each)
    store.append(path, row("own", 0, 0.99))  # another process was faster
    assert store.read(path) == ROWS
    assert store.has(path, ("many", "all", 2))
    assert not store.has(path, ("many", "all", 1))


def test_a_line_cut_off_is_named(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(ROWS[0]) + '\n{"cell": "ma\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        store.read(path)
    path.write_text(2 * (json.dumps(ROWS[0]) + "\n"))
    with pytest.raises(ValueError, match=r"line 2: \('many', 'own', 0\) is there already"):
        store.read(path)


def test_the_interval_of_a_mean():
    """Student's t of two degrees of freedom: 4.3027 at 97.5 %."""
    found = interval([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0)
    assert found.half == pytest.approx(4.30265 * 7**0.5 / 3**0.5, rel=1e-5)
    assert found.text() == "3.0 ± 6.6"
    assert interval([2.5]).text("+") == "+2.5"
    with pytest.raises(ValueError, match="values: expected at least one, got none"):
        interval([])


def test_the_interval_of_a_ratio():
    found = ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (found.mean, found.half) == (pytest.approx(0.5), pytest.approx(0.0, abs=1e-12))
    found = ratio([1.0, 2.0, 6.0], [2.0, 2.0, 2.0])  # a constant denominator: the mean's interval, halved
    assert found.mean == pytest.approx(1.5)
    assert found.half == pytest.approx(interval([1.0, 2.0, 6.0]).half / 2)
    with pytest.raises(ValueError, match="expected equally many"):
        ratio([1.0], [1.0, 2.0])


def test_differences_are_paired_by_seed():
    cell = Cell(ROWS, "many")
    assert cell.differences("bbs") == pytest.approx([4.0, 3.0, 4.0])
    assert cell.differences("all") == pytest.approx([-14.0])
    assert cell.closed("bbs").mean == pytest.approx(100 * 11 / 20)
    assert Cell(ROWS, "style").closed("own") is None


def test_tables():
    text = table(Cell(ROWS, "many"), ("all", "own", "bbs", "linker", "oracle")).splitlines()
    assert len(text) == 6  # no result of the linker
    assert text[2].split(" | ")[1:4] == ["60.0", "-14.0", "-233"]
    assert text[4].split(" | ")[2:4] == ["+3.7 ± 1.4", "55 ± 45"]
    assert text[5].split(" | ")[3] == "100"
    lines = pairs(Cell(ROWS, "many"), [("bbs", "own"), ("linker", "bbs")], {"rank1": "rank-1"}).splitlines()
    assert lines[2:] == ["| `bbs` − `own` | rank-1 | +3.7 ± 1.4 | +4.0 +3.0 +4.0 |"]


def test_a_page_is_renewed_twice_alike(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- results: one -->\nold\n<!-- /results -->\nb\n")
    for _ in range(2):
        page.renew(path, {"one": lambda: "| new |"})
        assert path.read_text() == "a\n<!-- results: one -->\n\n| new |\n\n<!-- /results -->\nb\n"
    with pytest.raises(ValueError, match=r"expected the blocks \['two'\], each once, got \['one'\]"):
        page.renew(path, {"two": str})


def test_plots_are_drawn_from_what_is_there(tmp_path):
    from bbs_experiments import plots

    plots.differences(ROWS, tmp_path / "a.png")
    plots.wrong_labels(ROWS, tmp_path / "b.png")
    plots.closed(Cell(ROWS, "many"), ("bbs",), tmp_path / "c.png")
    assert min((tmp_path / f"{name}.png").stat().st_size for name in "abc") > 5_000
