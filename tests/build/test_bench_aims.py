"""Aims beside measurements: the arithmetic by hand, and the figures in the prose of the page against the JSON."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bbs_bench.cases import find_case

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "bench"
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="needs the source tree")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load("bench_aims")


@pytest.fixture(scope="module")
def document() -> dict:
    return load("bench_table").read(RESULTS)


def test_products_of_one_basket_by_hand(tool) -> None:
    """256 x 86,016 x 512: 22.55 GFLOP a product; 84 MiB of cosines, of which 32 are kept."""
    one = 2e-9 * 256 * 86_016 * 512
    forward, backward = tool.products(find_case("main", "one basket, C 86 k"))
    assert forward == pytest.approx(one)
    assert backward == pytest.approx(one * (3 - 32 / 84))
    assert tool.products(find_case("main", "one basket, C 86 k"), 1 << 30).backward == pytest.approx(2 * one)


def test_products_of_four_baskets_by_hand(tool) -> None:
    """Backward is dense in the own quarter alone, and 21 MiB of cosines fit into the stash."""
    one = 2e-9 * 256 * 86_016 * 512
    forward, backward = tool.products(find_case("main", "top-64 of 4 baskets, C 86 k"))
    assert forward == pytest.approx(one)
    assert backward == pytest.approx(2 * one / 4)


def test_an_aim_that_is_missed_says_so(tool, document) -> None:
    rows = [dict(row) for row in document["timings"]]
    for row in rows:
        row["peak_share"] = 0.5
        if row["threads"] == 2:
            row["median"] *= 2
    worse = tool.aims({**document, "timings": rows})
    assert next(aim.what for aim in worse if not aim.reached).startswith("forward on one thread")
    assert not next(aim for aim in worse if aim.what == "two threads against one").reached


def test_the_page_names_every_aim_that_was_missed(tool, document) -> None:
    missed = [aim.what for aim in tool.aims(document) if not aim.reached]
    assert missed == [
        "one basket, C 86 k: torch.compile, tuned allocator",
        "top-64 of 4 baskets, C 86 k: eager PyTorch, default allocator",
        "one basket, C 10 k: eager PyTorch, tuned allocator",
    ]


def test_figures_of_the_prose(tool, document) -> None:
    """Each sentence with a figure that no mark fills: written here with the figure from the JSON."""
    page = re.sub(r"\s+", " ", (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    main = tool.Measured(document)
    sizes, rules = (tool.Measured(load("bench_table").read(RESULTS / name)) for name in ("sizes", "rules"))
    ours = [r["extra_mib"] for r in sizes.rows.values() if r["provider"] == tool.OURS]
    at = {c: f"one basket, C {c}" for c in ("1 k", "256 k", "1 M", "2 M")}
    forward, backward = tool.products(find_case("main", tool.PLAIN))

    def limit(case: str, allocator: str) -> float:
        row = main.row(case, allocator)
        at_peak = sum(tool.products(find_case("main", case))) * row["peak_share"] / row["forward_gflops"]
        return main.row(case, allocator, tool.EAGER)["ratio"] * row["median"] / at_peak

    def size(c: str, provider: str = tool.OURS) -> dict:
        return sizes.row(at[c], "default", provider, threads=2)

    def share(case: str) -> float:
        return rules.row(case, "default")["peak_share"]

    for sentence in (
        f"is at most {max(ours):.0f} MiB at any number of classes",
        f"needs {size('256 k', tool.EAGER)['extra_mib'] / 1024:.1f} GiB at 256,000 classes",
        f"`torch.compile` is faster ({size('1 k', tool.COMPILED)['ratio']:.2f} ×): a step of "
        f"{1e3 * size('1 k')['median']:.0f} ms",
        f"gains nothing ({size('2 M', tool.WHOLE)['ratio']:.2f} ×), while at 1 M it saves a quarter "
        f"({size('1 M', tool.WHOLE)['ratio']:.2f} ×)",
        f"at {share('top-1 of 4 baskets, C 64 k'):.0%} of peak with 4 baskets and `k` = 1, and at "
        f"{share('top-64 of 16 baskets, C 64 k'):.0%} with 16 baskets",
        f"the whole matrix of cosines, {main.row(tool.PLAIN, 'tuned', tool.COMPILED)['extra_mib']:.0f} MiB",
        f"{(forward + backward) / forward:.1f} products in place of 3",
        f"({main.row(tool.PLAIN, 'tuned', tool.WHOLE)['extra_mib']:.0f} MiB) it is "
        f"{main.whole_stash(tool.PLAIN, 'tuned', tool.COMPILED):.2f} × as fast",
        f"{main.row(tool.MINED, 'default', tool.EAGER)['ratio']:.2f} × of the 6.5 aimed at; products at peak would be "
        f"{limit(tool.MINED, 'default'):.2f} ×",
        f"forward pass, at {main.row(tool.MINED, 'default')['peak_share']:.0%} of peak because of mining",
        f"tuned allocator**: {main.row(tool.SMALL, 'tuned', tool.EAGER)['ratio']:.2f} ×",
        f"would be only {limit(tool.SMALL, 'tuned'):.2f} × as fast",
        f"forward pass, at {main.row(tool.SMALL, 'tuned')['peak_share']:.0%} of peak.",
    ):
        assert sentence in page, sentence


def test_figures_of_the_readme(tool, document) -> None:
    text = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    main = tool.Measured(document)
    eager, compiled, mined = (
        [f"{main.row(case, allocator, provider)['ratio']:.2f} ×" for allocator in ("default", "tuned")]
        for case, provider in (
            (tool.PLAIN, tool.EAGER),
            (tool.PLAIN, tool.COMPILED),
            (tool.MINED, tool.EAGER),
        )
    )
    assert f"eager PyTorch takes {eager[0]} as long as this library and `torch.compile` {compiled[0]}" in text
    assert f"tuned for them {eager[1]} and {compiled[1]}." in text
    assert f"four baskets and mining eager PyTorch takes {mined[0]} and {mined[1]}." in text
