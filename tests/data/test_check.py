"""check_baskets on planted damage: every kind is found, nothing else is, and the report says it for people."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from basket_softmax.data import ImageFormat, check_baskets, open_basket
from basket_softmax.data.duplicates import ACROSS_BASKETS, SAME_IDENTITY, TWO_IDENTITIES, find_duplicates
from support.pictures import encoded, write_tree
from support.recordio_writer import training_set, write_records

FORMAT = ImageFormat((9, 7))


def opened(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return open_basket(path)


def clean(root):
    """web: 3 identities with 4 images; film: 2 with 3."""
    write_tree(root / "web", {f"{c}/{j}.png": 4 * c + j for c in range(3) for j in range(4)})
    write_tree(root / "film", {f"{c}/{j}.png": 100 + 3 * c + j for c in range(2) for j in range(3)})
    return [root / "web", root / "film"]


def groups(report, kind):
    return [
        [report.baskets[b].where(i).split("/", -1)[-3:] for b, i in group]
        for group in report.duplicates.groups(kind)
    ]


def test_clean_baskets(tmp_path):
    seen = []
    report = check_baskets([opened(p) for p in clean(tmp_path)], FORMAT, lambda *counts: seen.append(counts))
    assert report.ok
    assert seen == [(12, 18), (18, 18)]
    assert str(report) == "web: 12 images of 3 identities\nfilm: 6 images of 2 identities\nok"
    assert [(c.name, c.images, c.identities, c.sizes) for c in report.checks] == [
        ("web", 12, 3, {(9, 7): 12}),
        ("film", 6, 2, {(9, 7): 6}),
    ]


def test_unreadable_images(tmp_path):
    paths = clean(tmp_path)
    good = encoded(50, (40, 40))
    damaged = {"1/cut.png": good[:-200], "1/empty.png": b"", "2/text.jpg": b"not an image"}
    write_tree(paths[0], damaged | {"2/gone.png": 3})
    basket = opened(paths[0])
    (paths[0] / "2" / "gone.png").unlink()
    for decode in (False, True):
        report = check_baskets([basket], FORMAT, decode=decode)
        names = {basket.where(i).split("/")[-1]: what for i, what in report.checks[0].unreadable.items()}
        expected = {"empty.png": "it is empty", "text.jpg": "no known image format in its 12 bytes"}
        expected |= {"gone.png": "No such file or directory"}
        assert names.items() >= expected.items()
        assert set(names) - set(expected) == ({"cut.png"} if decode else set())
        assert not report.ok
        assert f"  images that cannot be read: {len(names)}\n    {tmp_path}/web/1/" in str(report)
        assert str(report).endswith("not ok")


def test_equal_images_by_kind(tmp_path):
    web, film = clean(tmp_path)
    write_tree(web, {"0/again.png": 1, "1/wrong.png": 8, "2/both.png": 100})  # 8 is image 0 of identity 2
    write_tree(film, {"0/four.png": 3, "1/four.png": 3, "1/six.png": 6})  # 3 is under two identities here too
    report = check_baskets([opened(web), opened(film)], FORMAT)
    assert groups(report, SAME_IDENTITY) == [[["web", "0", "1.png"], ["web", "0", "again.png"]]]
    assert sorted(groups(report, ACROSS_BASKETS)) == [
        [["web", "1", "2.png"], ["film", "1", "six.png"]],
        [["web", "2", "both.png"], ["film", "0", "0.png"]],
    ]
    assert sorted(groups(report, TWO_IDENTITIES)) == [
        [["web", "0", "3.png"], ["film", "0", "four.png"], ["film", "1", "four.png"]],
        [["web", "1", "wrong.png"], ["web", "2", "0.png"]],
    ]
    assert not report.ok
    text = str(report)
    assert "2 × the same image under two identities of one basket, so one label is wrong:\n" in text
    assert f"  {web}/1/wrong.png = {web}/2/0.png\n" in text
    assert f"  {web}/0/3.png = {film}/0/four.png = {film}/1/four.png\n" in text
    assert f"  {web}/2/both.png (web) = {film}/0/0.png (film)\n" in text


@pytest.mark.parametrize("mode", ["F", "I"])
@pytest.mark.parametrize("decode", [False, True])
def test_pixels_without_a_fixed_range_are_found_in_the_header(tmp_path, mode, decode):
    """Training stopped at such an image, long after a check that had called it good."""
    web = clean(tmp_path)[0]
    Image.fromarray(np.zeros((9, 7), np.float32 if mode == "F" else np.int32)).save(web / "1" / "depth.tif")
    report = check_baskets([opened(web)], FORMAT, decode=decode)
    assert not report.ok
    assert f"/1/depth.tif: pixels: expected 8 or 16 bits per channel, got mode '{mode}'\n" in str(report)


def test_names_with_commas_stay_whole_in_the_lines_of_equal_images(tmp_path):
    web = clean(tmp_path)[0]
    write_tree(web, {"0/a, b.png": 3})
    assert f"  {web}/0/3.png = {web}/0/a, b.png\n" in str(check_baskets([opened(web)], FORMAT))


def test_equal_images_that_labels_agree_with_are_ok(tmp_path):
    web, film = clean(tmp_path)
    write_tree(web, {"0/again.png": 1})
    write_tree(film, {"1/six.png": 6})
    assert check_baskets([opened(web), opened(film)], FORMAT).ok


def test_single_images_other_sizes_and_what_was_left_out(tmp_path):
    web = clean(tmp_path)[0]
    tree = {
        "anna/1.png": encoded(1, (20, 30)),
        "bert/1.png": 60,
        "0/big.png": encoded(2, (20, 30)),
        "0/a.txt": b"",
    }
    write_tree(web, tree | {"1/tall.png": encoded(3, (30, 20))})
    basket = opened(web)
    report = check_baskets([basket], FORMAT)
    assert report.ok
    check = report.checks[0]
    assert [basket.identities[c] for c in check.single] == ["anna", "bert"]
    assert list(check.sizes.items()) == [((9, 7), 13), ((20, 30), 2), ((30, 20), 1)]
    assert str(report) == (
        "web: 16 images of 5 identities\n"
        "  identities with one image: 2 (anna, bert)\n"
        "  images resampled to 9 × 7: 3 (2 of 20 × 30, 1 of 30 × 20)\n"
        "  left out on opening: files that are not images: 1 (0/a.txt)\n"
        "ok"
    )


def test_records_and_selections(tmp_path):
    people = [[encoded(4 * c + j) for j in range(3)] for c in range(5)]
    people[4][1] = b"damaged"
    path = write_records(tmp_path / "train.rec", training_set(people))
    report = check_baskets([opened(path)], FORMAT)
    assert str(report).splitlines()[1:3] == [
        "  images that cannot be read: 1",
        f"    {path} record 14: no known image format in its 7 bytes",
    ]
    assert check_baskets([opened(path).select([2, 0])], FORMAT).ok


def test_a_long_report_shows_the_first_ten(tmp_path):
    tree = {f"{c}/{j}.png": 40 + j for c in range(2) for j in range(12)}
    tree |= {f"2/{j:02d}.png": b"x" for j in range(13)} | {f"{c}/1.png": 100 + c for c in range(10, 30)}
    lines = str(check_baskets([opened(write_tree(tmp_path / "web", tree))], FORMAT)).splitlines()
    assert lines[1] == "  identities with one image: 20 (10, 11, 12, 13, 14 and 15 more)"
    assert lines[2] == "  images that cannot be read: 13"
    assert lines[13] == "    … and 3 more"
    assert lines[14].startswith("12 × the same image under two identities")
    assert lines[25:] == ["  … and 2 more", "not ok"]


def test_duplicates_against_a_plain_search():
    rng = np.random.default_rng(5)

    class Labels:
        def __init__(self, count):
            self.labels = rng.integers(0, 4, count)

        def __len__(self):
            return len(self.labels)

    for trial in range(30):
        baskets = [Labels(int(n)) for n in rng.integers(0, 9, 3)]
        total = sum(map(len, baskets))
        digests = rng.integers(0, 3, (total, 2)).astype(np.uint64)
        readable = rng.random(total) < 0.8
        found = find_duplicates(baskets, digests, readable)
        places = [(b, i) for b, basket in enumerate(baskets) for i in range(len(basket))]
        equal = {}
        for place, digest, good in zip(places, digests.tolist(), readable, strict=True):
            if good:
                equal.setdefault(tuple(digest), []).append(place)
        expected = {SAME_IDENTITY: [], ACROSS_BASKETS: [], TWO_IDENTITIES: []}
        for group in equal.values():
            labels = {(b, int(baskets[b].labels[i])) for b, i in group}
            if len(group) > 1:
                two = len(labels) > len({b for b, _ in labels})
                kind = TWO_IDENTITIES if two else ACROSS_BASKETS if len(labels) > 1 else SAME_IDENTITY
                expected[kind].append(group)
        for kind, wanted in expected.items():
            assert sorted(found.groups(kind)) == sorted(wanted), trial


def test_messages(tmp_path, monkeypatch):
    web = opened(clean(tmp_path)[0])
    for baskets in ([], [web, web]):
        with pytest.raises(ValueError, match=r"baskets: expected at least one, with different names, got .*"):
            check_baskets(baskets, FORMAT)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r'reading images needs pillow: pip install "bbs-kernels\[train\]"'):
        check_baskets([web], FORMAT)
