"""The tables of the page on several processes: what bench/parallel_model.py computes, and what was measured."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "parallel.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the source tree")


def load(folder, name):
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model():
    return load("bench", "parallel_model")


def test_page_shows_the_table(model) -> None:
    assert model.table() in PAGE.read_text()


def test_bytes_are_the_pages_formula(model) -> None:
    """The rows of the page's table of messages, each evaluated, are the model's bytes of a plain bf16 TopK step."""
    step = model.Step(ranks=16, rows=96, classes=1e6, baskets=5, listed=33)
    names = {"B": step.batch, "D": model.DEPTH, "K": 5, "n": 33, "e": 2, "P": 16}
    rows = re.findall(
        r"^\| ([^|]+) \| ([0-9eBDKnP(][^|]*) \| (?:all|reduce)-[^|]+ \|$", PAGE.read_text(), re.M
    )
    optional = ("Relative", "aliases", "sample weights", "rows of each rank")
    total = 0
    for name, formula in rows:
        if any(word in name for word in optional):
            continue
        product = 1
        for factor in re.findall(r"\(3 K \+ 3\)|[0-9]+|[A-Za-z]", formula):
            product *= 3 * 5 + 3 if factor.startswith("(") else names.get(factor) or int(factor)
        total += product
    assert len(rows) == 11
    assert step.bytes_into_a_rank() == pytest.approx(total * 15 / 16)


def test_scaling_table_of_a_small_document() -> None:
    def row(layout, median, received):
        return {
            "provider": "ours", "layout": layout, "rounds": 9, "median": median, "lower_quartile": 0.9 * median,
            "upper_quartile": 1.1 * median, "received_bytes": received,
        }  # fmt: skip

    scaling = {"one rank": 1.9, "half the rows": 0.95, "half the classes": 0.93, "two threads": 1.1}
    document = {
        "machine": {"CPU": "a CPU, 2 cores", "torch": "2.13.0"},
        "size": {"rows": 128, "classes": 131072, "depth": 512},
        "load_before": 0.1,
        "timings": [row("one rank", 0.4, 0), row("two ranks", 0.2, 123456)],
        "scaling": [{"provider": "ours", "against": k, "median": v} for k, v in scaling.items()],
    }
    table = load("tools", "parallel_table").table(document)
    line = table.splitlines()[2]
    assert line == "| ours | 400 | 200 | 123.5 | 1.90 | 0.95 | 0.93 | 1.10 |"
    assert "128 rows and 131,072 classes, D = 512" in table
    assert "9 interleaved rounds" in table


def test_committed_scaling_is_whole() -> None:
    tool = load("tools", "parallel_table")
    document = tool.read(ROOT / "docs" / "results" / "parallel")
    lines = tool.table(document).splitlines()
    providers = dict.fromkeys(row["provider"] for row in document["timings"])
    assert [line.split(" | ")[0].strip("| ") for line in lines[2 : 2 + len(providers)]] == list(providers)
    alone = [row["received_bytes"] for row in document["timings"] if row["ranks"] == 1]
    assert set(alone) == {0}
    with pytest.raises(FileNotFoundError, match=r"bench/parallel_scaling\.py"):
        tool.read(ROOT / "docs" / "results" / "nowhere")


def test_ranks_table(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = load("tools", "ranks_table")
    one = [{"rule": "own", "seed": s, "rank1": 0.70 + 0.01 * s} for s in range(3)]
    two = [{"rule": "own", "seed": s, "rank1": 0.705 + 0.01 * s} for s in range(2)]
    assert "| 70.5 ± 0.7 | 71.0 ± 0.7 | +0.5 +0.5 |" in tool.table(one, two)
    committed = [
        json.loads((ROOT / "docs" / "results" / name / "results.json").read_text())
        for name in ("many", "ranks")
    ]
    assert {row["rule"] for row in committed[1]} == {"all", "own", "bbs", "oracle"}
    pairs = {(row["rule"], row["seed"]): row["rank1"] for row in committed[0]}
    off = [abs(row["rank1"] - pairs[row["rule"], row["seed"]]) for row in committed[1]]
    assert max(off) < 0.011, "the page says: no difference larger than one point"
