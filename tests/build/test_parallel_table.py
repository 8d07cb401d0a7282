"""The page on several processes shows what bench/parallel_model.py computes, and the model what the page says."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "parallel.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the source tree")


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("parallel_model", ROOT / "bench" / "parallel_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
