"""ImageBasket: its images by identity, selection, pickling, what a basket of many images costs, messages."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from basket_softmax.data import ImageBasket, UnreadableImage, open_basket
from basket_softmax.data.paths import ImagePaths
from support.pictures import encoded, write_tree


@pytest.fixture
def basket(tmp_path):
    """Picture 10 c + j is image j of identity c; identity c has c + 1 images."""
    return open_basket(
        write_tree(tmp_path / "web", {f"id{c}/{j}.png": 10 * c + j for c in range(4) for j in range(c + 1)})
    )


def numbered(count, labels, name="many"):
    """A basket of paths that need not exist."""
    text = b"".join(b"%09d/%07d.jpg" % (i, i) for i in range(count))
    start = np.arange(count) * 21
    identities = [f"{c:07d}" for c in range(int(labels.max()) + 1)]
    return ImageBasket(name, identities, labels, ImagePaths("/data", text, start, start + 21))


def test_images_of_an_identity(basket):
    assert basket.images_per_identity.tolist() == [1, 2, 3, 4]
    assert basket.images_of(2).tolist() == [3, 4, 5]
    assert [basket.read(i) for i in basket.images_of(3)] == [encoded(30 + j) for j in range(4)]
    shuffled = numbered(6, np.array([1, 0, 1, 2, 0, 1]))
    assert [shuffled.images_of(c).tolist() for c in range(3)] == [[1, 4], [0, 2, 5], [3]]


def test_select_relabels_in_the_order_given(basket):
    chosen = basket.select([3, 1])
    assert (chosen.name, chosen.identities) == ("web", ["id3", "id1"])
    assert chosen.labels.tolist() == [1, 1, 0, 0, 0, 0]
    assert [chosen.read(i) for i in chosen.images_of(1)] == [encoded(10), encoded(11)]
    assert chosen.where(0) == basket.where(1)
    again = chosen.select(np.array([0]))
    assert (again.identities, [again.read(i) for i in range(4)]) == (
        ["id3"],
        [encoded(30 + j) for j in range(4)],
    )
    assert len(basket.select([])) == 0


def test_a_pickled_basket_reads_the_same(basket):
    copy = pickle.loads(pickle.dumps(basket.select([2, 0])))
    assert [copy.read(i) for i in range(len(copy))] == [encoded(0), encoded(20), encoded(21), encoded(22)]


def test_many_images_cost_arrays_and_no_objects():
    count = 200_000
    basket = numbered(count, np.arange(count) // 100)
    source = basket.source
    arrays = basket.labels.nbytes + source.start.nbytes + source.stop.nbytes
    assert arrays == 24 * count
    assert sys.getsizeof(source.text) < 22 * count
    half = basket.select(np.arange(0, count // 100, 2))
    assert half.source.text is source.text
    assert half.where(100) == "/data/000000200/0000200.jpg"
    assert len(pickle.dumps(basket)) < 50 * count


def test_an_unreadable_image_says_where_it_is(tmp_path):
    good = encoded(1)
    tree = {"anna/cut.png": good[: len(good) // 2], "anna/empty.png": b"", "anna/text.jpg": b"not an image"}
    basket = open_basket(write_tree(tmp_path, tree | {"bert/gone.png": 2}))
    (tmp_path / "bert" / "gone.png").unlink()
    for i, name in enumerate(["anna/cut.png", "anna/empty.png", "anna/text.jpg", "bert/gone.png"]):
        with pytest.raises(UnreadableImage, match=f"{name}: the image cannot be read: "):
            basket.image(i)
    with pytest.raises(FileNotFoundError):
        basket.read(3)


def test_indices_out_of_range(basket):
    for i in (-1, 10):
        with pytest.raises(IndexError, match=rf"i: expected 0 to 9, got {i}"):
            basket.read(i)
        with pytest.raises(IndexError, match=rf"i: expected 0 to 9, got {i}"):
            basket.where(i)
    with pytest.raises(ValueError, match="identity: expected 0 to 3, got 4"):
        basket.images_of(4)
    with pytest.raises(TypeError, match="identity: expected an int, its label, got 'id1'"):
        basket.images_of("id1")
    with pytest.raises(ValueError, match="identities: expected 0 to 3, got 1 to 4"):
        basket.select([1, 4])
    with pytest.raises(ValueError, match="identities: expected different labels"):
        basket.select([1, 1])
    with pytest.raises(TypeError, match=r"identities: expected integers .*, got "):
        basket.select(["id1"])
    with pytest.raises(TypeError, match=r"identities: expected integers .*, got bool"):
        basket.select([True, False, True, True])


def test_parts_that_do_not_fit():
    source = ImagePaths("/data", b"ab", np.array([0, 1]), np.array([1, 2]))
    for labels, error, message in [
        ([0, 1], TypeError, "labels: expected an int64 array .*, got list"),
        (np.array([0, 1], np.int32), TypeError, r"labels: expected an int64 array \[N\], got int32 \(2,\)"),
        (np.array([0]), ValueError, "labels: expected one per image, 2, got 1"),
        (np.array([0, 2]), ValueError, "labels: expected 0 to 1, got 0 to 2"),
        (np.array([1, 1]), ValueError, "identity 'a' of basket 'x' has no image"),
    ]:
        with pytest.raises(error, match=message):
            ImageBasket("x", ["a", "b"], labels, source)
    with pytest.raises(ValueError, match="identities has 1 repeated names"):
        ImageBasket("x", ["a", "a"], np.array([0, 1]), source)
