"""Wrote mxnet_train.rec and .idx beside this file, with MXNet itself: `python write_mxnet_train.py`.

MXNet 1.9.1 (`pip install mxnet==1.9.1 numpy==1.23.5 pillow`), which is why the tests do not run it. Records as
insightface's face2rec packs them: images, then record 0, then one per identity. Some hold the magic number.
"""

import struct
from pathlib import Path

MAGIC = struct.pack("<I", 0xCED7230A)
PEOPLE = [[b"aaaa" + MAGIC + b"b", 1], [b"odd"], [MAGIC, MAGIC * 2 + b"xyz", 2]]  # a number is a picture's


def main():
    import mxnet
    from pictures import encoded  # of tests/support, on PYTHONPATH

    pack, header = mxnet.recordio.pack, mxnet.recordio.IRHeader
    path = Path(__file__).with_name("mxnet_train.rec")
    records = mxnet.recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "w")
    key, ranges = 1, []
    for label, images in enumerate(PEOPLE):
        begin = key
        for image in images:
            data = encoded(image) if isinstance(image, int) else image
            records.write_idx(key, pack(header(0, [label, 1] if label == 1 else float(label), key, 0), data))
            key += 1
        ranges.append([float(begin), float(key)])
    records.write_idx(0, pack(header(2, [float(key), float(key + len(ranges))], 0, 0), b""))
    for i, of_identity in enumerate(ranges):
        records.write_idx(key + i, pack(header(2, of_identity, key + i, 0), b""))
    records.close()


if __name__ == "__main__":
    main()
