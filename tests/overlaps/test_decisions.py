"""Decisions to persons: by hand, by confidence, known before; files that come back as they were written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from basket_softmax.data import open_basket, read_aliases, write_aliases
from basket_softmax.overlaps import ClassNames, Overlaps, persons, read_decisions, read_report, write_report

OFFSETS = torch.tensor([0, 3, 5, 7])  # a: 0 1 2, b: 3 4, c: 5 6
HEAD = "basket_a,identity_a,basket_b,identity_b,decision\n"


@pytest.fixture(scope="module")
def baskets(tmp_path_factory):
    root = tmp_path_factory.mktemp("baskets")
    for name, identities in {"a": ("x", "y, z", '"q"'), "b": ("x", "Ω"), "c": ("1", "2")}.items():
        for identity in identities:
            (root / name / identity).mkdir(parents=True)
            Image.new("L", (4, 4)).save(root / name / identity / "0.png")
    return [open_basket(root / name) for name in "abc"]


@pytest.fixture
def names(baskets):
    return ClassNames(baskets)


def overlaps(*rows):
    first, second, confidence = (np.array(column) for column in zip(*rows, strict=True))
    return Overlaps(first, second, confidence.astype(np.float32) / 2, confidence)


def test_accepted_pairs_are_persons_and_rejected_ones_are_not():
    found = persons(OFFSETS, {(0, 3): True, (3, 5): True, (1, 4): True, (2, 6): False})
    assert found.aliases.tolist() == [0, 1, -1, 0, 1, 0, -1]
    assert (found.by_hand, found.by_confidence, found.left_out, found.twice) == (3, 0, 0, [])


def test_confidence_joins_what_nobody_decided():
    table = overlaps((0, 3, 0.99), (1, 4, 0.95), (2, 6, 0.9), (2, 5, 0.5))
    found = persons(OFFSETS, {(1, 4): False}, table, accept_above=0.9)
    assert found.aliases.tolist() == [0, -1, 1, 0, -1, -1, 1]
    assert (found.by_hand, found.by_confidence, found.left_out) == (0, 2, 0)
    assert persons(OFFSETS, {}, table).by_confidence == 0  # without accept_above nothing is accepted


def test_confidence_never_joins_two_classes_of_one_basket():
    """0 ~ 3 and 3 ~ 5 make a person; 1 ~ 5 is less sure and would bring 0 and 1 of one basket together."""
    found = persons(OFFSETS, {}, overlaps((0, 3, 0.99), (3, 5, 0.98), (1, 5, 0.97), (1, 4, 0.96)), 0.9)
    assert found.aliases.tolist() == [0, 1, -1, 0, 1, 0, -1]
    assert (found.by_confidence, found.left_out) == (3, 1)


def test_confidence_never_joins_whom_a_person_told_apart():
    found = persons(OFFSETS, {(0, 5): False}, overlaps((0, 3, 0.99), (3, 5, 0.98)), 0.9)
    assert found.aliases.tolist() == [0, -1, -1, 0, -1, -1, -1]
    assert (found.by_confidence, found.left_out) == (1, 1)


def test_a_person_may_join_two_classes_of_one_basket_and_is_told():
    found = persons(OFFSETS, {(0, 3): True, (1, 3): True})
    assert found.aliases.tolist() == [0, 0, -1, 0, -1, -1, -1]
    assert found.twice == [(0, 1)]
    more = persons(OFFSETS, {(0, 3): True, (1, 3): True}, overlaps((0, 5, 0.99)), 0.9)
    assert more.aliases.tolist() == [0, 0, -1, 0, -1, 0, -1]


def test_known_aliases_are_kept():
    known = torch.tensor([7, -1, -1, -1, 7, 2, -1])
    found = persons(OFFSETS, {(4, 6): True}, known=known)
    assert found.aliases.tolist() == [0, -1, -1, -1, 0, -1, 0]  # 5 was alone under its alias


def test_decisions_file(names, tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text(
        HEAD + 'b,Ω,a,"y, z",accept\na,x,b,x,reject\na,"""q""",c,1,\nb,Ω,a,"y, z",accept\n', encoding="utf-8"
    )
    y, q = names.find("a", "y, z"), names.find("a", '"q"')
    assert read_decisions(path, names) == {
        (y, names.find("b", "Ω")): True, (names.find("a", "x"), names.find("b", "x")): False,
    }  # fmt: skip
    assert {y, q} <= {0, 1, 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("basket_a,identity_a\n", "has no column basket_b, identity_b, decision, it has basket_a, identity_a"),
        (HEAD.replace(",", ";") + "a;x;b;x;accept\n", "expected columns separated by commas, got semicolons"),
        (HEAD.replace(",", "\t"), "expected columns separated by commas, got tabs"),
        (HEAD + "a,x,b,x,maybe\n", "line 2: decision: expected accept, reject or nothing, got 'maybe'"),
        (HEAD + "a,x,d,x,accept\n", "line 2: basket: expected one of 'a', 'b', 'c', got 'd'"),
        (HEAD + "a,x,b,n,accept\n", "line 2: basket 'b' has no identity 'n'"),
        (HEAD + "a,x,a,x,accept\n", "line 2: identity 'x' of basket 'a' is paired with itself"),
        (HEAD + "a,x,b,x;accept\n", "line 2: expected a cell for each column, got none for decision"),
        (HEAD + "a,x,b,x,accept,\n", "line 2: expected 5 cells as in the header, got 6"),
        (HEAD + "a,x,b,x,accept\nb,x,a,x,reject\n", "line 3: the pair has the other decision in an earlier line"),
    ],
)  # fmt: skip
def test_bad_decisions(names, tmp_path, text, message):
    path = tmp_path / "decisions.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_decisions(path, names)


def test_a_decision_typed_in_a_spreadsheet_was_refused(names, tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text(HEAD + "a,x,b,x,Accept\nb,x,c,1,REJECT \nb,x,c,2, \n", encoding="utf-8")
    x, other, one = names.find("a", "x"), names.find("b", "x"), names.find("c", "1")
    assert read_decisions(path, names) == {(x, other): True, (other, one): False}


def test_leading_zeros_that_a_spreadsheet_dropped_are_named(tmp_path):
    for identity in ("0041", "41x", "7"):
        (tmp_path / "a" / identity).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "a" / identity / "0.png")
    names = ClassNames([open_basket(tmp_path / "a")])
    with pytest.raises(
        ValueError, match=r"has no identity '41', but '0041': a spreadsheet drops leading zeros"
    ):
        names.find("a", "41")
    for identity in ("42", "x", "70"):
        with pytest.raises(ValueError, match=f"has no identity '{identity}'$"):
            names.find("a", identity)


def test_report_comes_back(names, tmp_path):
    table = overlaps((0, 3, 0.99996), (1, 4, 0.9), (2, 6, 0.123456))
    write_report(tmp_path / "overlaps.csv", table, names)
    back = read_report(tmp_path / "overlaps.csv", names)
    assert back.first.tolist() == [0, 1, 2]
    assert back.second.tolist() == [3, 4, 6]
    assert back.cosine == pytest.approx(table.cosine, abs=1e-6)
    assert back.confidence.tolist() == [0.9999, 0.9, 0.1234]  # rounded down: never 1
    write_report(tmp_path / "empty.csv", table.select(np.zeros(3, bool)), names)
    assert len(read_report(tmp_path / "empty.csv", names).first) == 0


def test_a_report_without_confidences_comes_back(names, tmp_path):
    table = overlaps((0, 3, 0.5), (1, 4, np.nan))
    write_report(tmp_path / "overlaps.csv", table, names)
    assert "n/a\n" in (tmp_path / "overlaps.csv").read_text(encoding="utf-8")
    back = read_report(tmp_path / "overlaps.csv", names)
    assert back.confidence == pytest.approx([0.5, np.nan], nan_ok=True)
    assert persons(OFFSETS, {}, back, accept_above=0.0).aliases.tolist() == [0, -1, -1, 0, -1, -1, -1]


def test_aliases_are_what_the_loss_takes(baskets, tmp_path):
    found = persons(OFFSETS, {(0, 3): True, (1, 4): True, (4, 6): True})
    write_aliases(tmp_path / "aliases.csv", found.aliases, baskets)
    assert torch.equal(read_aliases(tmp_path / "aliases.csv", baskets), found.aliases)


def test_decisions_that_were_cut_off_are_not_taken_for_none(names, tmp_path):
    path = tmp_path / "decisions.csv"
    path.write_text(HEAD + 'a,x,b,x,accept\na,"y, z,b')
    with pytest.raises(ValueError, match=r"decisions\.csv, line 3: no CSV: unexpected end of data"):
        read_decisions(path, names)
    path.write_bytes(HEAD.encode() + "a,x,b,Ω,accept\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"decisions\.csv is not UTF-8"):
        read_decisions(path, names)


def test_a_rejection_that_accepted_pairs_contradict_is_told():
    found = persons(OFFSETS, {(0, 3): True, (3, 5): True, (0, 5): False, (1, 4): False})
    assert found.aliases.tolist() == [0, -1, -1, 0, -1, 0, -1]
    assert found.contradicted == [(0, 5)]


def test_a_rejection_that_known_aliases_contradict_is_told():
    known = torch.tensor([7, -1, -1, 7, -1, -1, -1])
    found = persons(OFFSETS, {(0, 3): False, (1, 4): False}, overlaps((1, 4, 0.99)), 0.9, known)
    assert found.contradicted == [(0, 3)]
    assert found.by_confidence == 0


def test_a_report_of_names_with_line_breaks_comes_back(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "x\ry").mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / name / "x\ry" / "0.png")
    names = ClassNames([open_basket(tmp_path / name) for name in ("a", "b")])
    write_report(tmp_path / "overlaps.csv", overlaps((0, 1, 0.9)), names)
    back = read_report(tmp_path / "overlaps.csv", names)
    assert (back.first.tolist(), back.second.tolist()) == ([0], [1])
