"""RecordIO's framing and headers: files that the writer of tests/support makes, damage, processes, threads."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from threading import Barrier

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basket_softmax.data import recordio
from basket_softmax.data.record_headers import read_headers
from basket_softmax.data.recordio import RecordFile, read_index, unpack
from support.recordio_writer import MAGIC, frame, image_record, write_records

WORD = st.one_of(st.just(MAGIC), st.binary(min_size=1, max_size=5))
DATA = st.lists(WORD, max_size=8).map(b"".join)


def test_the_bytes_of_a_record_cut_at_the_magic_number():
    data = b"abcd" + MAGIC + b"e" + MAGIC + b"xyz" + MAGIC  # the second magic stands at 9: no cut there
    first, last = MAGIC + struct.pack("<I", 1 << 29 | 4), MAGIC + struct.pack("<I", 3 << 29 | 0)
    middle = MAGIC + struct.pack("<I", 2 << 29 | 8)
    assert frame(data[:16]) == first + b"abcd" + MAGIC + struct.pack("<I", 3 << 29 | 8) + data[8:16]
    assert frame(data) == first + b"abcd" + middle + data[8:16] + last
    assert frame(b"abcde") == MAGIC + struct.pack("<I", 5) + b"abcde\0\0\0"


@given(records=st.lists(DATA, min_size=1, max_size=6))
def test_any_records_come_back(tmp_path_factory, records):
    path = write_records(tmp_path_factory.mktemp("rec") / "a.rec", dict(enumerate(records)))
    keys, offsets = read_index(path.with_suffix(".idx"))
    file = RecordFile(path)
    assert keys.tolist() == list(range(len(records)))
    assert [file.record(int(offset)) for offset in offsets] == records


@given(
    records=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 1 << 24), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
            st.one_of(st.just(b""), DATA),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_headers_at_once_are_those_of_single_records(tmp_path_factory, records):
    packed = {key: image_record(*record, key) for key, record in enumerate(records)}
    path = write_records(tmp_path_factory.mktemp("rec") / "a.rec", packed)
    keys, offsets = read_index(path.with_suffix(".idx"))
    file = RecordFile(path)
    headers = read_headers(file, keys, offsets)
    single = [unpack(file.record(int(offset))) for offset in offsets]
    assert headers.label.tolist() == [record.label for record in single]
    assert headers.has_payload.tolist() == [bool(record.payload) for record in single]
    for record, (label, payload) in zip(single, records, strict=True):
        assert record.payload == payload
        assert record.label == (label if isinstance(label, int) else label[0])
        assert record.labels == (() if isinstance(label, int) else tuple(label))


def test_a_magic_number_inside_the_header(tmp_path):
    magic = struct.unpack("<I", MAGIC)[0]
    records = {3: image_record(7, b"image", key=magic), 4: image_record([magic_float(), 2], b"x", 4)}
    path = write_records(tmp_path / "a.rec", records)
    headers = read_headers(RecordFile(path), *read_index(path.with_suffix(".idx")))
    assert headers.label.tolist() == [7.0, magic_float()]
    assert headers.has_payload.tolist() == [True, True]


def magic_float():
    return struct.unpack("<f", MAGIC)[0]


def test_the_index_is_ordered_by_key(tmp_path):
    path = write_records(tmp_path / "a.rec", {7: b"seven", 2: b"two", 10: b"ten"})
    keys, offsets = read_index(path.with_suffix(".idx"))
    assert keys.tolist() == [2, 7, 10]
    assert [RecordFile(path).record(int(o)) for o in offsets] == [b"two", b"seven", b"ten"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.idx: expected lines .*, got 0 numbers"),
        ("0\t0\n1\n", "a.idx: expected lines .*, got 3 numbers"),
        ("0\t0\nimage.jpg\t8\n", "a.idx: expected lines .*, got another line"),
        ("0\t0\n1\t8.5\n", "a.idx: expected lines .*, got another line"),
        ("0\t0\n1\t8\n1\t16\n", "a.idx has the key 1 twice"),
    ],
)
def test_a_damaged_index(tmp_path, text, message):
    path = tmp_path / "a.idx"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_index(path)


def test_a_damaged_file(tmp_path):
    path = write_records(tmp_path / "a.rec", {0: image_record(0, b"first"), 1: image_record(1, b"second")})
    keys, offsets = read_index(path.with_suffix(".idx"))
    file = RecordFile(path)
    for wrong in (offsets + 4, offsets + 1, offsets - 4, offsets + (1 << 40)):
        with pytest.raises(
            ValueError, match=r"no image record at byte -?\d+, where its index has the key [01]"
        ):
            read_headers(file, keys, wrong)
    with pytest.raises(OSError, match="no record at byte 4: the file is damaged or the index another's"):
        file.record(4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with pytest.raises(OSError, match=f"the file ends inside the record at byte {offsets[1] + 8}"):
        RecordFile(path).record(int(offsets[1]))
    path.write_bytes(frame(image_record([1, 2], b"")[:-4]))
    with pytest.raises(ValueError, match="no image record at byte 0"):
        read_headers(RecordFile(path), keys[:1], offsets[:1])
    with pytest.raises(ValueError, match="header announces 2 labels"):
        unpack(RecordFile(path).record(0))
    path.write_bytes(frame(b"x" * 4 + MAGIC + b"y")[:12] + frame(b"another"))
    with pytest.raises(OSError, match="no record at byte 12"):  # a first part without its last
        RecordFile(path).record(0)


def read_all(file, offsets, queue):
    queue.put([file.record(offset) for offset in offsets])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_opens_its_own_handle(tmp_path):
    records = {key: bytes([key]) * 5000 for key in range(50)}
    path = write_records(tmp_path / "a.rec", records)
    offsets = read_index(path.with_suffix(".idx"))[1].tolist()
    file = RecordFile(path)
    assert file.record(offsets[3]) == records[3]
    handle = file._opened
    context = multiprocessing.get_context("fork")
    queues = [context.SimpleQueue() for _ in range(2)]
    processes = [context.Process(target=read_all, args=(file, offsets, queue)) for queue in queues]
    for process in processes:
        process.start()
    here = [file.record(offset) for offset in offsets]
    assert [queue.get() for queue in queues] == [list(records.values())] * 2 == [here] * 2
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert file._opened is handle
    copy = pickle.loads(pickle.dumps(file))
    assert copy._opened is None
    assert copy.record(offsets[9]) == records[9]


def test_threads_read_the_same_file(tmp_path):
    records = {key: os.urandom(3000 + key) for key in range(100)}
    path = write_records(tmp_path / "a.rec", records)
    file, offsets = RecordFile(path), read_index(path.with_suffix(".idx"))[1].tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(file.record, offsets * 3)) == list(records.values()) * 3


def test_first_read_by_several_threads_closes_no_file(tmp_path, monkeypatch):
    """Threads that open the file at once must not close the one that another is reading from."""
    together = Barrier(4, timeout=60)

    class Opened(FileIO):
        def __init__(self, path: str) -> None:
            super().__init__(path)
            together.wait()

    monkeypatch.setattr(recordio, "FileIO", Opened)
    records = {key: os.urandom(300) for key in range(4)}
    path = write_records(tmp_path / "a.rec", records)
    offsets = read_index(path.with_suffix(".idx"))[1].tolist()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            assert list(pool.map(RecordFile(path).record, offsets)) == list(records.values())


def test_a_big_index_and_its_headers(tmp_path):
    count = 50_000
    path = write_records(
        tmp_path / "a.rec", {k: image_record(k // 7, b"jpeg" * (k % 5)) for k in range(count)}
    )
    headers = read_headers(RecordFile(path), *read_index(path.with_suffix(".idx")))
    assert np.array_equal(headers.label, np.arange(count) // 7)
    assert np.array_equal(headers.has_payload, np.arange(count) % 5 > 0)
