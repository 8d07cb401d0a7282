"""insightface's pair files (lfw.bin, cfp_fp.bin, …): a pickle of (images, same), read without running any of it.

images is a list of 2 P encoded images, as bytes or as uint8 arrays of NumPy; same is a list of P bools. A pickle may
name any function to be called. Here every name but those that such lists consist of is refused, and the few that are
known stand for objects of this module that only keep the bytes: neither NumPy nor anything else is called.
"""

from __future__ import annotations

import math
import os
import pickle
import re
from typing import Any

_ITEM_BYTES = {"u1": 1, "b1": 1}  # dtypes; besides these S<n>, bytes


def read_pair_file(path: str | os.PathLike[str]) -> tuple[list[bytes], list[bool]]:
    """(2 P encoded images, P times whether the pair is one person).

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such pickle, names anything else, or has not two images for each answer.
    """
    with open(path, "rb") as file:
        try:
            found = _Unpickler(file, encoding="bytes").load()  # strings of Python 2 are bytes
        except OSError:
            raise
        except Exception as error:  # a damaged pickle raises anything
            raise ValueError(f"{path} is no pair file: {error or type(error).__name__}") from None
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise ValueError(f"{path}: expected a pair file, (images, same), got a {type(found).__name__}")
    images, same = map(_items, found)
    try:
        pairs = [_bytes(image) for image in images], [_bool(answer) for answer in same]
    except ValueError as error:
        raise ValueError(f"{path} is no pair file: {error}") from None
    if not pairs[1] or len(pairs[0]) != 2 * len(pairs[1]):
        raise ValueError(
            f"{path}: expected two images for each answer, got {len(pairs[0]):,} images and {len(pairs[1]):,} answers"
        )
    return pairs


class _Dtype:
    """What is left of a NumPy dtype: its name."""

    __slots__ = ("name",)

    def __init__(self, name: Any) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(self.name, str) or not re.fullmatch(r"u1|b1|S\d{1,9}", self.name):
            raise pickle.UnpicklingError(f"arrays: expected bytes, uint8 or bool, got dtype {name!r}")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment, which bytes do not have."""

    @property
    def size(self) -> int:
        return _ITEM_BYTES.get(self.name) or int(self.name[1:])


class _Array:
    """What is left of a NumPy array with one dimension: its dtype and its bytes."""

    __slots__ = ("data", "dtype")

    def __init__(self) -> None:
        self.data, self.dtype = b"", _Dtype("u1")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, data = state
        self.fill(data, dtype, shape)

    def fill(self, data: Any, dtype: Any, shape: Any) -> _Array:
        whole = isinstance(dtype, _Dtype) and isinstance(data, (bytes, bytearray)) and len(shape) <= 1
        if not whole or len(data) != math.prod(shape) * dtype.size:
            raise pickle.UnpicklingError("an array that is not one row of bytes")
        self.data, self.dtype = bytes(data), dtype
        return self


class _Known:
    """A name that a pair file may hold. An instance has no attribute that a pickle could set."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> Any:
        raise pickle.UnpicklingError("a type where a value belongs")


class _MakeDtype(_Known):
    """numpy.dtype"""

    __slots__ = ()

    def __call__(self, name: Any, *_: Any) -> _Dtype:
        return _Dtype(name)


class _MakeArray(_Known):
    """numpy.core.multiarray._reconstruct: an empty array, filled by its state."""

    __slots__ = ()

    def __call__(self, *_: Any) -> _Array:
        return _Array()


class _FromBuffer(_Known):
    """numpy.core.numeric._frombuffer: an array, in pickles of protocol 5."""

    __slots__ = ()

    def __call__(self, data: Any, dtype: Any, shape: Any, *_: Any) -> _Array:
        return _Array().fill(data, dtype, shape)


class _Scalar(_Known):
    """numpy.core.multiarray.scalar"""

    __slots__ = ()

    def __call__(self, dtype: Any, data: Any) -> _Array:
        return _Array().fill(data, dtype, ())


class _Encode(_Known):
    """_codecs.encode: how Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"text: expected latin1, got {encoding!r}")
        return text.encode("latin1")


class _Empty(_Known):
    """bytes, called without arguments: how Python 3 writes b"" for Python 2."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> bytes:
        if arguments:
            raise pickle.UnpicklingError("bytes of something")
        return b""


_KNOWN: dict[tuple[str, str], type[_Known]] = {
    ("numpy", "dtype"): _MakeDtype,
    ("numpy", "ndarray"): _Known,
    ("_codecs", "encode"): _Encode,
    ("__builtin__", "bytes"): _Empty,
    ("builtins", "bytes"): _Empty,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # before and since NumPy 2
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _MakeArray),
            ("multiarray", "scalar", _Scalar),
            ("numeric", "_frombuffer", _FromBuffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not of an image or an answer")
        return known()


def _items(found: Any) -> list[Any]:
    """The list, or the values of an array of bools."""
    if isinstance(found, _Array) and found.dtype.name == "b1":
        return [bool(value) for value in found.data]
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _bytes(image: Any) -> bytes:
    if isinstance(image, _Array) and image.dtype.name != "b1":
        return image.data
    if isinstance(image, bytes):
        return image
    raise ValueError(f"image: expected bytes or a uint8 array, got {type(image).__name__.strip('_')}")


def _bool(answer: Any) -> bool:
    if isinstance(answer, _Array) and answer.dtype.name == "b1" and len(answer.data) == 1:
        return answer.data != b"\0"
    if isinstance(answer, int) and answer in (0, 1):
        return bool(answer)
    raise ValueError(f"answer: expected True or False, got {answer!r:.50}")
