"""The printed table on narrow terminals: every digit is there, and three seeds need no more than 80 columns."""

from __future__ import annotations

import pytest

from basket_softmax.demo.regimes import REGIMES
from basket_softmax.demo.report import NAMES, print_table


def rows(seeds):
    """Differences as wide as they come (-12.0), and figures of four digits."""
    rank = {rule: 0.665 + 0.12 * (rule == "own") + 0.15 * (rule == "oracle") for rule in NAMES}
    return [
        {
            "rule": r,
            "seed": s,
            "rank1": rank[r] + s / 100,
            "tar_1e3": 0.511 + s / 50,
            "tar_1e4": 0.222 + s / 40,
        }
        for r in NAMES
        for s in seeds
    ]


@pytest.mark.parametrize("seeds", [range(1), range(3), range(8)])
@pytest.mark.parametrize("regime", REGIMES)
def test_nothing_is_cut_off_at_80_columns(capsys, monkeypatch, seeds, regime):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(rows(seeds), REGIMES[regime])
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert printed.count("-12.0") == 5 * len(seeds)  # every rule but own and oracle
    for name in NAMES.values():
        assert name in printed


def test_three_seeds_stand_on_one_line_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(rows(range(3)), REGIMES["many"])
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if "│" in line) <= 80
    (naive,) = [line for line in lines if "naive merge" in line]
    cells = [cell.strip() for cell in naive.split("│")]
    assert cells == ["naive merge", "67.5±1.0", "-12.0 -12.0 -12.0", "53.1±2.0", "24.7±2.5"]
