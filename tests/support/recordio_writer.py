"""A writer of MXNet's RecordIO and of insightface's training sets, for the reader's tests.

Written from the format: where the data holds the magic number at a multiple of four, the record is cut there.
"""

from __future__ import annotations

import struct

import numpy as np

MAGIC = struct.pack("<I", 0xCED7230A)


def frame(data):
    """The bytes of one record, its parts and padding."""
    cuts = [i for i in range(0, len(data) - 3, 4) if data[i : i + 4] == MAGIC]
    if not cuts:
        return part(0, data)
    begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    flags = [1, *[2] * (len(cuts) - 1), 3]
    return b"".join(part(f, data[b:e]) for f, b, e in zip(flags, begins, ends, strict=True))


def part(flag, data):
    """One part: magic number, flag and length, data, padding."""
    return MAGIC + struct.pack("<I", flag << 29 | len(data)) + data + b"\0" * (-len(data) % 4)


def image_record(label, payload, key=0):
    """Data of an image record: a number as label goes into the header, a list of them after it."""
    if isinstance(label, (int, float)):
        return struct.pack("<IfQQ", 0, label, key, 0) + payload
    return struct.pack("<IfQQ", len(label), 0.0, key, 0) + np.asarray(label, "<f4").tobytes() + payload


def write_records(path, records):
    """`path` and its index from {key: data}, in that order."""
    offset, index = 0, []
    with path.open("wb") as file:
        for key, data in records.items():
            framed = frame(data)
            file.write(framed)
            index.append(f"{key}\t{offset}\n")
            offset += len(framed)
    path.with_suffix(".idx").write_text("".join(index))
    return path


def training_set(identities, aligned=False):
    """{key: data} as insightface packs it, from one list of payloads per identity.

    Record 0 has the range of the identities' records, which follow the images and have the range of theirs.
    """
    images, ranges, key = {}, [], 1
    for label, payloads in enumerate(identities):
        begin = key
        for payload in payloads:
            images[key] = image_record([label, 1] if aligned else label, payload, key)
            key += 1
        ranges.append([begin, key])
    head = {0: image_record([key, key + len(ranges)], b"")}
    return head | images | {key + i: image_record(r, b"", key + i) for i, r in enumerate(ranges)}
