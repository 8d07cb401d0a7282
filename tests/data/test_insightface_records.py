"""insightface's training sets as baskets: the records of identities, aligned ones, gaps, huge ones, workers."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from basket_softmax.data import ImageFormat, MixedBaskets, open_basket
from support.pictures import encoded, pixels
from support.recordio_writer import image_record, training_set, write_records

PEOPLE = [[encoded(10 * c + j) for j in range(c % 4 + 1)] for c in range(12)]  # 12 people, 1 to 4 images each


def quiet(path):
    """A file that leaves nothing out says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_basket(path)


@pytest.mark.parametrize("aligned", [False, True])
def test_a_training_set(tmp_path, aligned):
    basket = quiet(write_records(tmp_path / "train.rec", training_set(PEOPLE, aligned)))
    assert basket.name == "train"
    assert basket.identities == [str(c) for c in range(12)]
    assert basket.images_per_identity.tolist() == [len(images) for images in PEOPLE]
    for c, images in enumerate(PEOPLE):
        assert [basket.read(i) for i in basket.images_of(c)] == images
    assert basket.where(1) == f"{tmp_path}/train.rec record 2"
    assert np.array_equal(np.asarray(basket.image(0)), pixels(0))
    chosen = basket.select([11, 2])
    assert [chosen.read(i) for i in chosen.images_of(0)] == PEOPLE[11]
    assert chosen.where(0) == basket.where(int(basket.images_of(2)[0]))


def test_a_file_that_mxnet_wrote():
    """By write_mxnet_train.py, beside this file, with MXNet 1.9.1: cut records, one and two labels, record 0."""
    basket = quiet(Path(__file__).with_name("mxnet_train.rec"))
    magic = struct.pack("<I", 0xCED7230A)
    assert basket.labels.tolist() == [0, 0, 1, 2, 2, 2]
    assert [basket.read(i) for i in (0, 2, 3, 4)] == [
        b"aaaa" + magic + b"b",
        b"odd",
        magic,
        magic * 2 + b"xyz",
    ]
    for i, number in ((1, 1), (5, 2)):
        assert np.array_equal(np.asarray(basket.image(i)), pixels(number))


def test_records_without_record_0_are_all_images(tmp_path):
    records = {5 - k: image_record(k % 2, encoded(k)) for k in range(6)}  # im2rec: any keys, 0 among them
    basket = quiet(write_records(tmp_path / "list.rec", records))
    assert basket.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert [basket.read(i) for i in range(6)] == [encoded(5 - i) for i in range(6)]


def test_labels_with_gaps_keep_their_number_as_name(tmp_path):
    records = {k: image_record(label, b"x") for k, label in enumerate([10, 2, 2, 7])}
    with pytest.warns(UserWarning, match=r"identities without an image: 8 \(0, 1, 3, 4, 5 and 3 more\)"):
        basket = open_basket(write_records(tmp_path / "a.rec", records))
    assert basket.identities == ["2", "7", "10"]
    assert basket.labels.tolist() == [2, 0, 0, 1]


def test_empty_records_and_records_past_the_end_are_named(tmp_path):
    records = training_set([[b"a", b"b"], [b"c"]])
    records[2] = image_record(0, b"")
    records[9] = image_record(0, b"late")
    with pytest.warns(
        UserWarning, match=r"records without an image: 1 \(record 2\); images past .*: 1 \(record 9\)"
    ):
        basket = open_basket(write_records(tmp_path / "a.rec", records))
    assert [basket.read(i) for i in range(len(basket))] == [b"a", b"c"]


@pytest.mark.parametrize("end", [2**24 + 1, 2**24 + 3])  # float32 makes them 2^24 and 2^24 + 4
def test_more_images_than_float32_can_count(tmp_path, end):
    assert int(np.float32(end)) != end
    records = {0: image_record([end, end + 1], b"")}
    records |= {end - 3 + k: image_record(k % 2, b"image", end - 3 + k) for k in range(3)}
    records |= {end: image_record([1, end], b"", end)}
    basket = quiet(write_records(tmp_path / "a.rec", records))
    assert basket.where(2) == f"{tmp_path}/a.rec record {end - 1}"
    assert basket.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("label", [-1, 0.5, float("nan"), float("inf"), 2.0**24])
def test_a_label_that_is_no_identity(tmp_path, label):
    path = write_records(tmp_path / "a.rec", {1: image_record(0, b"x"), 4: image_record(label, b"x")})
    with pytest.raises(
        ValueError, match=r"expected labels that are integers from 0 to 16777215, got .* in record 4"
    ):
        open_basket(path)


def test_a_damaged_record_0(tmp_path):
    records = {0: image_record([float("nan"), 3], b""), 1: image_record(0, b"x")}
    with pytest.raises(ValueError, match=r"expected .* as the end of the images in record 0, got nan"):
        open_basket(write_records(tmp_path / "a.rec", records))


def test_no_index_and_no_image(tmp_path):
    path = write_records(tmp_path / "train.rec", training_set([[b""]]))
    with pytest.raises(
        ValueError, match=r"train\.rec has no image, it has records without an image: 1 \(record 1\)"
    ):
        open_basket(path)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs its index train\.idx beside it"):
        open_basket(path)
    with pytest.raises(ValueError, match=r"image_column and identity_column are .* is not a table"):
        open_basket(path, identity_column="who")


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_records(tmp_path, start):
    basket = open_basket(write_records(tmp_path / "a.rec", training_set(PEOPLE)))
    mixed = MixedBaskets([basket], ImageFormat((9, 7)))
    expected = torch.stack([mixed[i][0] for i in range(len(mixed))])  # the parent has the file open
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = DataLoader(mixed, 5, num_workers=2, multiprocessing_context=start)
        assert torch.equal(torch.cat([images for images, _, _ in loader]), expected)
