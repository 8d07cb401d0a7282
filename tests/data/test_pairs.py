"""insightface's pair files: every way in which such lists are pickled, and nothing else."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from basket_softmax.data import UnreadableImage, read_pairs
from support.pair_files import write_pairs, write_python2_pairs
from support.pictures import encoded, pixels

IMAGES = [encoded(number) for number in range(6)]
SAME = [True, False, True]


def check(pairs, name="lfw"):
    assert pairs.images.name == name
    assert [pairs.images.read(i) for i in range(6)] == IMAGES
    assert np.array_equal(np.asarray(pairs.images.image(4)), pixels(4))
    assert pairs.same.dtype == bool
    assert pairs.same.tolist() == SAME


def read_only(image):
    return np.frombuffer(image, np.uint8)


def writable(image):
    """Its buffer is pickled as another type than a read-only one's."""
    return read_only(image).copy()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("answer", [bool, int, np.bool_])
@pytest.mark.parametrize("kind", [bytes, np.bytes_, read_only, writable])
def test_every_protocol_and_type(tmp_path, protocol, answer, kind):
    path = write_pairs(tmp_path / "lfw.bin", map(kind, IMAGES), map(answer, SAME), protocol)
    check(read_pairs(path))


def test_files_of_python_2_and_answers_in_one_array(tmp_path):
    check(read_pairs(write_python2_pairs(tmp_path / "lfw.bin", IMAGES, SAME)))
    (tmp_path / "a.bin").write_bytes(pickle.dumps([IMAGES, np.array(SAME)]))
    check(read_pairs(tmp_path / "a.bin", "b"), "b")


class _Runs:
    def __init__(self, call, *arguments):
        self.reduced = call, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_is_run(tmp_path, protocol):
    mark = tmp_path / "ran"
    for call, argument in ((os.mkdir, str(mark)), (eval, f"__import__('os').mkdir({str(mark)!r})")):
        path = write_pairs(tmp_path / "lfw.bin", [*IMAGES[:5], _Runs(call, argument)], SAME, protocol)
        with pytest.raises(ValueError, match=rf"lfw\.bin is no pair file: it names \w+\.{call.__name__}"):
            read_pairs(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no pair file: Ran out of input"),
        (b"no pickle", "is no pair file: "),
        (pickle.dumps((IMAGES, SAME))[:-200], "is no pair file: "),
        (pickle.dumps(IMAGES), r"expected a pair file, \(images, same\), got a list"),
        (pickle.dumps((IMAGES[:5], SAME)), "expected two images for each answer, got 5 images and 3 answers"),
        (pickle.dumps(([], [])), "expected two images for each answer, got 0 images and 0 answers"),
        (pickle.dumps((IMAGES, ["yes"] * 3)), "answer: expected True or False, got 'yes'"),
        (pickle.dumps((["a"] * 6, SAME)), "image: expected bytes or a uint8 array, got str"),
        (pickle.dumps(([np.zeros(3)] * 6, SAME)), "arrays: expected bytes, uint8 or bool, got dtype 'f8'"),
        (pickle.dumps(([np.zeros((2, 2), np.uint8)] * 6, SAME)), "an array that is not one row of bytes"),
        (pickle.dumps((np.array([b"a", None], object), SAME)), "arrays: expected bytes, uint8 or bool, got dtype 'O8'"),
        (pickle.dumps(([np.ndarray] * 6, SAME)), "image: expected bytes or a uint8 array, got Known"),
        (b"cnumpy\ndtype\n(N}S'__class__'\ncnumpy\nndarray\nstb.", "is no pair file: "),  # a state for a stand-in
        (b"cnumpy.core.multiarray\n_reconstruct\n(tR.", r"expected a pair file, \(images, same\), got a _Array"),
    ],
)  # fmt: skip
def test_other_files(tmp_path, data, message):
    path = tmp_path / "lfw.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as caught:
        read_pairs(path)
    assert str(caught.value).startswith(str(path))


def test_an_image_that_is_none_is_named(tmp_path):
    path = write_pairs(tmp_path / "lfw.bin", [*IMAGES[:4], b"none", IMAGES[5]], SAME)
    with pytest.raises(UnreadableImage, match=r"lfw\.bin image 4: the image cannot be read: no known image"):
        read_pairs(path)


def test_some_of_the_images(tmp_path):
    source = read_pairs(write_pairs(tmp_path / "lfw.bin", IMAGES, SAME)).images.source.take(np.array([5, 1]))
    assert [source.read(i) for i in range(len(source))] == [IMAGES[5], IMAGES[1]]
    assert source.where(0) == f"{tmp_path}/lfw.bin image 5"
