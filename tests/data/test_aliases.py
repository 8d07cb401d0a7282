"""Alias tables: what they become, the way back, rows that do not fit, and use in the loss."""

from __future__ import annotations

import csv

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import basket_softmax as bs
from basket_softmax.data import open_basket, read_aliases, write_aliases
from support.pictures import write_tree

NAMES = {"web": ["anna", "bert", "7"], "empty": [], "film": ["7", 'Bert, "B."', "carl", "dora"]}


def table(path, *rows, head="basket,identity,alias"):
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_rows_with_one_alias_are_one_person(tmp_path):
    path = table(
        tmp_path / "a.csv",
        'film,"Bert, ""B.""",b',
        "web,7,seven",
        "web,bert,b",
        "film,7,9",
        "film,carl,seven",
    )
    aliases = read_aliases(path, NAMES)
    assert aliases.dtype == torch.int64
    assert aliases.tolist() == [-1, 0, 1, 2, 0, 1, -1]  # numbered by the first class of each person


def test_the_order_of_rows_does_not_matter_and_other_columns_are_passed_over(tmp_path):
    rows = ["b,film,carl,0.9", "x,web,anna,0.1", "b,web,bert,0.5"]
    head = "alias,basket,identity,score"
    first = read_aliases(table(tmp_path / "a.csv", *rows, head=head), NAMES)
    again = read_aliases(table(tmp_path / "b.csv", *reversed(rows), head="\ufeff" + head), NAMES)
    assert first.tolist() == again.tolist() == [0, 1, -1, -1, -1, 1, -1]


@given(values=st.lists(st.integers(-1, 4), min_size=7, max_size=7))
def test_written_and_read_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("aliases") / "a.csv"
    write_aliases(path, torch.tensor(values), NAMES)
    got = read_aliases(path, NAMES).tolist()
    for a, x in zip(values, got, strict=True):
        assert (a < 0) == (x < 0)
        assert all((a == b) == (x == y) for b, y in zip(values, got, strict=True) if a >= 0)
    write_aliases(path, torch.tensor(got), NAMES)
    assert read_aliases(path, NAMES).tolist() == got


def test_image_baskets_and_labels_as_names(tmp_path):
    write_tree(tmp_path / "web", {"n10/1.png": 1, "n2/1.png": 2})
    write_tree(tmp_path / "film", {"x/1.png": 3})
    baskets = [open_basket(tmp_path / "web"), open_basket(tmp_path / "film")]
    path = table(tmp_path / "a.csv", "web,n10,a", "film,x,a")
    assert read_aliases(path, baskets).tolist() == [-1, 0, 0]
    with pytest.raises(ValueError, match=r"baskets: expected different names, got .*'web', 'web'"):
        read_aliases(path, [baskets[0], baskets[0]])
    numbered = bs.Baskets({"web": 2, "film": 1})
    write_aliases(path, torch.tensor([3, -1, 3]), numbered)
    assert path.read_text() == "basket,identity,alias\nweb,0,3\nfilm,0,3\n"
    assert read_aliases(path, numbered).tolist() == [0, -1, 0]


def test_rows_that_are_not_there(tmp_path):
    path = table(tmp_path / "a.csv", "web,bert,b", "film,zoe,b", "web,anna,a")
    with pytest.raises(ValueError, match=r"a\.csv, line 3: basket 'film' has 4 identities, but no 'zoe'"):
        read_aliases(path, NAMES)
    assert read_aliases(path, NAMES, unknown="skip").tolist() == [0, 1, -1, -1, -1, -1, -1]
    path = table(tmp_path / "b.csv", "tv,bert,b")
    with pytest.raises(ValueError, match=r"line 2: basket: expected one of 'web', 'empty', 'film', got 'tv'"):
        read_aliases(path, NAMES)
    assert (read_aliases(path, NAMES, unknown="skip") == -1).all()
    with pytest.raises(ValueError, match="unknown: expected 'raise' or 'skip', got 'warn'"):
        read_aliases(path, NAMES, unknown="warn")


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        (["web,bert"], "basket,identity", "has no column alias, it has basket, identity"),
        ([], "", "has no column basket, identity, alias, it has none"),
        (
            ["web,bert,b", "web,anna,"],
            "basket,identity,alias",
            r"line 3: .* are \('web', 'anna', ''\), none may be",
        ),
        (["web,bert"], "basket,identity,alias", r"line 2: .* none may be empty"),
        (
            ["web,bert,b", "web,bert,c"],
            "basket,identity,alias",
            "line 3: identity 'bert' of basket 'web' is in an ear",
        ),
    ],
)
def test_damaged_tables(tmp_path, rows, head, message):
    with pytest.raises(ValueError, match=message):
        read_aliases(table(tmp_path / "a.csv", *rows, head=head), NAMES)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        (torch.zeros(7), r"aliases: expected an int64 tensor \[7\], .*, got torch.float32 \(7,\)"),
        (
            torch.zeros(6, dtype=torch.int64),
            r"aliases: expected an int64 tensor \[7\], .*, got torch.int64 \(6,\)",
        ),
        ([0] * 7, r"aliases: expected an int64 tensor \[7\], .*, got \[0, 0"),
    ],
)
def test_aliases_that_do_not_fit(tmp_path, aliases, message):
    with pytest.raises(ValueError, match=message):
        write_aliases(tmp_path / "a.csv", aliases, NAMES)
    assert not (tmp_path / "a.csv").exists()


def test_the_loss_takes_them(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("basket", "identity", "alias"), ("web", "anna", "p"), ("film", "carl", "p")]
        )
    sizes = {name: len(identities) for name, identities in NAMES.items()}
    torch.manual_seed(0)
    plain = bs.BasketSoftmaxLoss(sizes, embedding_size=5, mining=bs.All())
    known = bs.BasketSoftmaxLoss(sizes, embedding_size=5, mining=bs.All(), aliases=read_aliases(path, NAMES))
    known.weight.data.copy_(plain.weight.data)
    row = plain.weight.detach()[5:6]  # looks exactly like carl: without the alias a hard negative of anna
    label, basket = torch.tensor([0]), torch.tensor([0])
    assert known(row, label, basket=basket) < plain(row, label, basket=basket) - 1.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b'web,"anna,x\n', r"a\.csv, line 2: no CSV: unexpected end of data"),
        (b'web,"anna"y,x\n', r"a\.csv, line 2: no CSV: ',' expected after"),
        ("web,ä,x\n".encode("latin1"), r"a\.csv is not UTF-8: invalid continuation byte"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, rows, message):
    (tmp_path / "a.csv").write_bytes(b"basket,identity,alias\n" + rows)
    with pytest.raises(ValueError, match=message):
        read_aliases(tmp_path / "a.csv", NAMES)


AWKWARD = ["a\rb", "c\nd", "e\r\nf", 'g"h', "i,j", " k", "u\u2028v", "x\x85y"]


def test_names_with_line_breaks_come_back(tmp_path):
    """Before Python 3.13 csv.writer leaves a lone carriage return bare, and csv.reader refuses the file."""
    aliases = torch.arange(len(AWKWARD))
    write_aliases(tmp_path / "a.csv", aliases, {"web": AWKWARD})
    assert b'"a\rb"' in (tmp_path / "a.csv").read_bytes()
    assert torch.equal(read_aliases(tmp_path / "a.csv", {"web": AWKWARD}), aliases)


def test_a_write_that_fails_leaves_the_table_that_was_there(tmp_path):
    path = tmp_path / "a.csv"
    write_aliases(path, torch.tensor([0, 0]), {"web": ["anna", "bert"]})
    before = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        write_aliases(path, torch.tensor([0, 0]), {"web": ["anna", "\udcff"]})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
