"""CSV and Parquet tables as baskets: the same basket from both, types, other columns, messages."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from basket_softmax.data import open_basket
from support.pictures import encoded, write_tree

PATHS = ["images/b, c.png", "images/é.png", "../other/x.png", "images/a.png", "images/a.png"]
IDENTITIES = ["n10", "007", "n2", "7", "n10"]


@pytest.fixture
def folder(tmp_path):
    write_tree(
        tmp_path, {"set/images/b, c.png": 0, "set/images/é.png": 1, "other/x.png": 2, "set/images/a.png": 3}
    )
    return tmp_path / "set"


def written(path, columns, rows_per_group=2):
    """The table as CSV or Parquet, by the name; values as they are."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
        return path
    columns = {
        name: values.to_pylist() if hasattr(values, "to_pylist") else values
        for name, values in columns.items()
    }
    lines = [columns, *zip(*columns.values(), strict=True)]
    path.write_text(
        "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".parquet"])
def test_a_table(folder, suffix):
    table = {"size": [1, 2, 3, 4, 5], "identity": IDENTITIES, "path": PATHS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        basket = open_basket(written(folder / f"faces{suffix}", table))
    assert basket.name == "faces"
    assert basket.identities == ["007", "7", "n2", "n10"]
    assert basket.labels.tolist() == [3, 0, 2, 1, 3]
    assert basket.labels.dtype == np.int64
    assert [basket.read(i) for i in range(5)] == [encoded(number) for number in (0, 1, 2, 3, 3)]
    assert basket.where(2) == f"{folder}/../other/x.png"
    assert [basket.select([3]).read(i) for i in range(2)] == [encoded(0), encoded(3)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_other_columns_and_absolute_paths(folder, suffix, tmp_path):
    table = {"file": [f"{tmp_path}/other/x.png", "images/a.png"], "person": ["b", "a"]}
    path = written(folder / f"t{suffix}", table)
    basket = open_basket(path, "people", image_column="file", identity_column="person")
    assert basket.name == "people"
    assert [basket.read(i) for i in range(2)] == [encoded(2), encoded(3)]
    by_path = open_basket(path, image_column="file", identity_column="file")
    assert by_path.identities == sorted(table["file"])


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint32(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_identities_of_other_types(folder, kind):
    identities = pa.array([10, 9, 10, 100, 9]).cast(pa.string())
    identities = identities.cast(kind) if not pa.types.is_dictionary(kind) else identities.dictionary_encode()
    basket = open_basket(written(folder / "t.parquet", {"path": PATHS, "identity": identities}))
    assert basket.identities == ["9", "10", "100"]
    assert basket.labels.tolist() == [1, 0, 1, 2, 0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_messages(folder, suffix):
    def opens(columns, **options):
        open_basket(written(folder / f"t{suffix}", columns), **options)

    with pytest.raises(
        ValueError, match=r"t\..* has no column 'path', it has 'file', 'identity'; choose with image_"
    ):
        opens({"file": ["a.png"], "identity": ["a"]})
    with pytest.raises(ValueError, match="has no column 'who', it has 'path', 'identity'"):
        opens({"path": ["a.png"], "identity": ["a"]}, identity_column="who")
    with pytest.raises(
        ValueError, match=r"column 'path' of .* is empty in row 2 \(the header is not counted\)"
    ):
        opens({"path": ["a.png", "", ""], "identity": ["a", "b", "c"]})
    with pytest.raises(ValueError, match=r"column 'identity' of .* is empty in row 3"):
        opens({"path": ["a.png", "b.png", "c.png"], "identity": ["a", "b", ""]})
    with pytest.raises(ValueError, match="expected a row per image, got none"):
        opens({"path": pa.array([], pa.string()), "identity": pa.array([], pa.string())})
    (folder / f"t{suffix}").write_bytes(b"\x00\xff\n\xfe,,,\n,")
    with pytest.raises(ValueError, match=r"t\..* (cannot be read as|has no column)"):
        open_basket(folder / f"t{suffix}")


def test_messages_of_parquet_types(folder):
    for table, message in [
        ({"path": [b"raw"], "identity": ["a"]}, "column 'path' of .*: expected strings, got binary"),
        (
            {"path": ["a.png"], "identity": [1.5]},
            "column 'identity' of .*: expected strings or integers, got double",
        ),
        ({"path": ["a.png", None], "identity": [1, 2]}, "column 'path' of .* is empty in row 2"),
        ({"path": ["a.png", "b.png"], "identity": [None, 2]}, "column 'identity' of .* is empty in row 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            open_basket(written(folder / "t.parquet", table))


def test_a_line_with_too_many_cells(folder):
    (folder / "t.csv").write_text("path,identity\na.png,a\nb.png,b,c\n")
    with pytest.raises(ValueError, match=r"t\.csv cannot be read as CSV: .*Expected 2 columns, got 3"):
        open_basket(folder / "t.csv")


@pytest.mark.filterwarnings("ignore:basket .* leaves out:UserWarning")
@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("pyarrow", "t.csv", r'reading .*t\.csv needs pyarrow: pip install "bbs-kernels\[train\]"'),
        ("PIL.Image", "images/..", r'reading images needs pillow: pip install "bbs-kernels\[train\]"'),
    ],
)
def test_a_missing_library_names_the_extra(folder, monkeypatch, module, name, message):
    written(folder / "t.csv", {"path": PATHS, "identity": IDENTITIES})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=message):
        open_basket(folder / name).image(0)


def test_many_rows_cost_arrays_and_no_objects(folder):
    count = 200_000
    table = {"path": [f"{i:09d}.jpg" for i in range(count)], "identity": np.arange(count) // 100}
    basket = open_basket(written(folder / "t.parquet", table, 70_000))
    assert len(basket.source.text) == 13 * count
    assert basket.where(count - 1) == f"{folder}/{count - 1:09d}.jpg"
    assert basket.identities[-1] == "1999"
    assert np.array_equal(basket.labels, np.arange(count) // 100)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_blanks_at_an_end_do_not_double_the_identities(folder, suffix):
    table = {"identity": ["anna", "bert", "anna ", "bert", "bert"], "path": PATHS}
    with pytest.raises(
        ValueError, match=r"'identity' of .* has the identities 'anna' and 'anna ', which only blanks"
    ):
        open_basket(written(folder / f"faces{suffix}", table))
    table["identity"] = [
        " anna",
        "bert b",
        "bertb",
        " anna",
        "bert b",
    ]  # told apart by more, or written in one way
    assert len(open_basket(written(folder / f"faces{suffix}", table)).identities) == 3


@pytest.mark.skipif(not hasattr(pa, "string_view"), reason="pyarrow before 16")
def test_string_views_of_parquet(folder):
    views = {
        name: pa.array(column).cast(pa.string_view())
        for name, column in (("identity", IDENTITIES), ("path", PATHS))
    }
    basket = open_basket(written(folder / "faces.parquet", views))
    assert basket.identities == ["007", "7", "n2", "n10"]
    assert [basket.read(i) for i in range(5)] == [encoded(number) for number in (0, 1, 2, 3, 3)]
