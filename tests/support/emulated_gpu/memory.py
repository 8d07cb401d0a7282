"""Memory that torch allocated as memory of the PTX machine: a window for each allocation, and one for each array inside
a workspace, so that an access beyond the end of an array is seen although its neighbour begins there."""

from __future__ import annotations

import bisect
import ctypes

import numpy as np
import torch
from ptxvm import mem

WINDOW_BITS = 36  # a window's number is the upper part of its addresses
LOW = 511  # the low bits of an address are the real ones, and so is its alignment
FIRST_WINDOW = 1 << WINDOW_BITS


class HostBuffer(mem.Buffer):
    """A window of the machine onto memory of this process."""

    def __init__(self, address: int, nbytes: int, valid: bool | np.ndarray, name: str, divides: bool) -> None:
        super().__init__(0, name=name)
        self.nbytes, self.shape, self.address, self.divides = nbytes, (nbytes,), address, divides
        self.base = (self.win << WINDOW_BITS) + 0x200 + (address & LOW)
        self.data = np.frombuffer((ctypes.c_uint8 * nbytes).from_address(address), np.uint8)
        self.all_valid = valid is True
        self.valid = None if valid is True else np.zeros(nbytes, np.uint8) if valid is False else valid

    def shrink(self, nbytes: int) -> None:
        self.nbytes, self.shape = nbytes, (nbytes,)
        self.data, self.valid = self.data[:nbytes], self.valid[:nbytes]
        self._views, self._vviews, self.writer = {}, {}, None


class HostMemory:
    """Everything that kernels may reach, by address."""

    def __init__(self, windows: dict) -> None:
        self.windows = windows  # of the machine
        self.starts: list[int] = []
        self.buffers: dict[int, HostBuffer] = {}

    def _drop(self, start: int) -> None:
        self.starts.remove(start)
        buffer = self.buffers.pop(start)
        buffer.freed = True
        self.windows.pop(buffer.win, None)

    def _keep(self, buffer: HostBuffer) -> None:
        bisect.insort(self.starts, buffer.address)
        self.buffers[buffer.address] = buffer
        self.windows[buffer.win] = buffer

    def forget(self, address: int, nbytes: int) -> None:
        """Remove what lies in a range: it has been freed, or is allocated anew."""
        at = bisect.bisect_right(self.starts, address)
        if at and self.starts[at - 1] + self.buffers[self.starts[at - 1]].nbytes > address:
            at -= 1
        while at < len(self.starts) and self.starts[at] < address + nbytes:
            self._drop(self.starts[at])

    def register(self, address: int, nbytes: int, *, valid: bool, name: str, divides: bool = False) -> None:
        """`valid`: whether somebody has written it; `divides`: pointers into it are the beginnings of arrays."""
        if nbytes:
            self.forget(address, nbytes)
            self._keep(HostBuffer(address, nbytes, valid, name, divides))

    def add_tensor(self, t: torch.Tensor, *, valid: bool, name: str) -> None:
        storage = t.untyped_storage()
        divides = not valid and t.dtype == torch.uint8
        self.register(storage.data_ptr(), storage.nbytes(), valid=valid, name=name, divides=divides)

    def holds(self, t: torch.Tensor) -> bool:
        """Return whether the tensor's storage is known, whole or divided."""
        return self._before(t.untyped_storage().data_ptr()) is not None

    def written(self, t: torch.Tensor) -> None:
        """Note that the host has filled a tensor."""
        storage = t.untyped_storage()
        self.add_tensor(t, valid=True, name="filled by torch") if storage.nbytes() else None

    def unwritten(self, t: torch.Tensor) -> int:
        """How many bytes of a contiguous tensor no kernel has written."""
        buffer = self._before(t.data_ptr()) if t.numel() else None
        if buffer is None or buffer.all_valid:
            return 0
        first = t.data_ptr() - buffer.address
        return int((buffer.valid[first : first + t.numel() * t.element_size()] == 0).sum())

    def _before(self, address: int) -> HostBuffer | None:
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0:
            return None
        buffer = self.buffers[self.starts[at]]
        return buffer if address - buffer.address < buffer.nbytes else None

    def translate(self, word: int) -> int:
        """The machine's address for one of this process; anything else stays."""
        buffer = self._before(word)
        if buffer is None:
            return word
        if buffer.divides and word != buffer.address:
            buffer = self._divide(buffer, word)
        return buffer.base + word - buffer.address

    def _divide(self, buffer: HostBuffer, address: int) -> HostBuffer:
        """Cut a workspace in two where an array begins. The first part keeps its window, which a pointer may have."""
        first = address - buffer.address
        rest = HostBuffer(
            address, buffer.nbytes - first, buffer.valid[first:], "an array of a workspace", True
        )
        buffer.shrink(first)
        self._keep(rest)
        return rest

    def translated(self, parameters: bytes) -> bytes:
        """Parameter bytes whose pointers are the machine's."""
        raw = bytearray(parameters)
        for at in range(0, len(raw) - 7, 8):
            word = int.from_bytes(raw[at : at + 8], "little")
            if word > FIRST_WINDOW:
                raw[at : at + 8] = self.translate(word).to_bytes(8, "little")
        return bytes(raw)
