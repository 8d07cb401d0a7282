"""Folders as baskets: order, what counts as an image, what is left out and how that is said."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

from basket_softmax.data import open_basket
from support.pictures import encoded, pixels, write_tree


def quiet(path, name=None):
    """A folder that leaves nothing out says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_basket(path, name)


def test_a_sub_folder_is_an_identity_in_natural_order(tmp_path):
    tree = {"n10/1.png": 0, "n2/b10.png": 1, "n2/b9.png": 2, "Zoe/x.png": 3, "n02/x.png": 4}
    basket = quiet(write_tree(tmp_path / "web.v2", tree))
    assert basket.name == "web.v2"
    assert basket.identities == ["Zoe", "n02", "n2", "n10"]
    assert basket.labels.tolist() == [0, 1, 2, 2, 3]
    assert basket.labels.dtype == np.int64
    assert [os.path.relpath(basket.where(i), tmp_path / "web.v2") for i in range(len(basket))] == [
        "Zoe/x.png",
        "n02/x.png",
        "n2/b9.png",
        "n2/b10.png",
        "n10/1.png",
    ]
    for i, number in enumerate([3, 4, 2, 1, 0]):
        assert basket.read(i) == encoded(number)
        assert np.array_equal(np.asarray(basket.image(i)), pixels(number))
    assert repr(basket) == "ImageBasket('web.v2': 5 images of 4 identities)"
    assert not basket.skipped


def test_extensions_in_any_case_and_images_at_any_depth(tmp_path):
    tree = {"anna/video 1/0001.PNG": 0, "anna/video 1/deep/2.Jpeg": 1, "anna/top.png": 2, "bert/ü ñ.TIFF": 3}
    basket = quiet(write_tree(tmp_path, tree), "faces")
    assert (basket.name, basket.labels.tolist()) == ("faces", [0, 0, 0, 1])
    assert [basket.read(i) for i in range(4)] == [encoded(2), encoded(0), encoded(1), encoded(3)]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    tree = {"anna/1.png": 0, "anna/._1.png": b"fork", ".cache/1.png": 1, ".DS_Store": b"", "anna/.x/1.png": 2}
    assert len(quiet(write_tree(tmp_path, tree))) == 1


def test_what_is_left_out_is_named_and_counted(tmp_path):
    tree = {
        "anna/1.png": 0,
        "anna/Thumbs.db": b"x",
        "bert/readme.txt": b"x",
        "loose.jpg": 1,
        "list.lst": b"x",
    }
    write_tree(tmp_path, tree | {f"anna/{i}.npy": b"" for i in range(40)})
    (tmp_path / "carl").mkdir()
    with pytest.warns(
        UserWarning, match=r"leaves out .*files that are not images: 43 \(list\.lst, .* 38 more\)"
    ) as got:
        basket = open_basket(tmp_path, "web")
    assert basket.identities == ["anna"]
    assert basket.skipped.counts == {
        "files that are not images": 43,
        "images outside the identities' folders": 1,
        "identities without an image": 2,
    }
    assert basket.skipped.examples["identities without an image"] == ["bert", "carl"]
    assert basket.skipped.examples["images outside the identities' folders"] == ["loose.jpg"]
    message = str(got[0].message)
    assert "basket 'web'" in message
    assert "identities without an image: 2 (bert, carl)" in message
    assert got[0].filename == __file__


def test_links_are_followed_and_loops_end(tmp_path):
    write_tree(tmp_path, {"store/1.png": 0, "store/2.png": 1, "web/anna/3.png": 2})
    (tmp_path / "web" / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "web" / "anna" / "one.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "web" / "anna" / "again").symlink_to(tmp_path / "web" / "anna")
    with pytest.warns(UserWarning, match=r"links to a folder above them: 1 \(anna/again\)"):
        basket = open_basket(tmp_path / "web")
    assert basket.identities == ["anna", "linked"]
    assert [basket.read(i) for i in range(4)] == [encoded(2), encoded(0), encoded(0), encoded(1)]


def test_a_link_to_itself_does_not_refuse_the_basket(tmp_path):
    write_tree(tmp_path, {"web/anna/3.png": 2, "web/bert/in/4.png": 3})
    for link in ("self", "anna/self", "bert/in/self.png"):
        (tmp_path / "web" / link).symlink_to(tmp_path / "web" / link)
    with pytest.warns(UserWarning, match=r"links to themselves: 3 \(self, anna/self, bert/in/self.png\)"):
        basket = open_basket(tmp_path / "web")
    assert basket.identities == ["anna", "bert"]
    assert [basket.read(i) for i in range(2)] == [encoded(2), encoded(3)]


def test_names_that_are_not_utf8(tmp_path):
    folder = os.fsencode(tmp_path) + b"/web/caf\xe9"
    os.makedirs(folder)
    with open(folder + b"/\xff.png", "wb") as file:
        file.write(encoded(5))
    basket = quiet(tmp_path / "web")
    assert basket.identities == ["caf\\xe9"]
    assert basket.where(0).endswith("web/caf\\xe9/\\xff.png")
    assert basket.read(0) == encoded(5)


def test_nothing_to_open(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"path: expected a folder .*, got .*nowhere, which does not exist"
    ):
        open_basket(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected a sub-folder with images \(.*\.jpg.*It is empty"):
        open_basket(tmp_path / "empty")
    write_tree(tmp_path / "rec", {"train.rec": b"", "train.idx": b""})
    with pytest.raises(ValueError, match=r"To open train\.rec, name the file itself"):
        open_basket(tmp_path / "rec")
    write_tree(tmp_path / "flat", {"1.png": 1, "anna/x.txt": b""})
    with pytest.raises(
        ValueError, match=r"It has .*images outside .*: 1 \(1\.png\).*without an image: 1 \(anna\)"
    ):
        open_basket(tmp_path / "flat")
    (tmp_path / "list.txt").write_text("x")
    with pytest.raises(ValueError, match=r"path: expected a folder .*, got .*list\.txt"):
        open_basket(tmp_path / "list.txt")


@pytest.mark.parametrize("link", ["a/up", "a/deep/up", "c"])
@pytest.mark.parametrize("target", ["web", "."])  # the root itself, and the folder above it
def test_a_link_to_the_root_does_not_make_other_people_images_of_an_identity(tmp_path, link, target):
    write_tree(tmp_path / "web", {"a/deep/1.png": 0, "b/1.png": 1})
    write_tree(tmp_path, {"elsewhere/1.png": 2})
    (tmp_path / "web" / link).symlink_to(tmp_path / target)
    with pytest.warns(UserWarning, match="links to a folder above them"):
        basket = open_basket(tmp_path / "web")
    assert basket.identities == ["a", "b"]
    assert [basket.read(i) for i in range(len(basket))] == [encoded(0), encoded(1)]
    assert basket.skipped.examples["links to a folder above them"] == [link]
