"""A driver whose devices are the PTX machine: libcuda's functions, as many as the op library uses. Every call is
recorded; what a driver would refuse is refused, with its number."""

from __future__ import annotations

import ctypes as c
import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import ptxvm

from .memory import HostMemory

SUCCESS, INVALID_VALUE, INVALID_CONTEXT, NOT_FOUND, CAPTURE_UNSUPPORTED, FAILED = 0, 1, 201, 500, 900, 719
CAPTURE_IMPLICIT = 906
MULTIPROCESSORS, MAJOR, MINOR, SHARED_PER_MULTIPROCESSOR, SHARED_PER_BLOCK = 16, 75, 76, 81, 97
UNASKED_SHARED = 48 * 1024
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class LaunchConfig(c.Structure):
    _fields_ = [
        *((name, c.c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")),
        ("stream", c.c_void_p),
        ("attributes", c.c_void_p),
        ("attribute_count", c.c_uint),
    ]


P, I, U = c.c_void_p, c.c_int, c.c_uint  # noqa: E741  (as in the signatures below)
POINTERS = c.POINTER(P)
SIGNATURES = {
    "cuInit": (U,),
    "cuDriverGetVersion": (c.POINTER(I),),
    "cuDeviceGet": (c.POINTER(I), I),
    "cuDeviceGetAttribute": (c.POINTER(I), I, I),
    "cuDevicePrimaryCtxRetain": (POINTERS, I),
    "cuCtxGetCurrent": (POINTERS,),
    "cuCtxSetCurrent": (P,),
    "cuCtxSynchronize": (),
    "cuLibraryLoadData": (POINTERS, P, P, P, U, P, P, U),
    "cuLibraryGetKernel": (POINTERS, P, c.c_char_p),
    "cuKernelSetAttribute": (I, I, P, I),
    "cuLaunchKernelEx": (c.POINTER(LaunchConfig), P, POINTERS, POINTERS),
    "cuStreamIsCapturing": (P, c.POINTER(I)),
    "cuMemHostAlloc": (POINTERS, c.c_size_t, U),
    "cuGetErrorString": (I, POINTERS),
}
ACCELERATOR = {
    "current_stream": (c.c_int32, POINTERS),
    "create_device_guard": (c.c_int32, POINTERS),
    "delete_device_guard": (P,),
}
PROVIDER = c.CFUNCTYPE(I, c.c_char_p, I, POINTERS, P, c.c_size_t)


class Launch(NamedTuple):
    """One launch as it arrived."""

    symbol: str
    grid: tuple[int, int, int]
    block: int
    shared: int
    device: int
    stream: int
    stats: Any


class Refused(Exception):
    """What a call is answered with: a number of CUresult and its text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@functools.lru_cache(maxsize=4)
def mutant(text: str) -> Any:
    """Used for a few calls, and there are many."""
    return ptxvm.Module.from_ptx(text)


class EmulatedDriver:
    """The functions of the two tables. Addresses are of this process; kernels see them through `memory`."""

    def __init__(
        self, arch: int, multiprocessors: int, devices: int, memory: HostMemory, machine: Any
    ) -> None:
        by_arch = {80: (163, 164), 90: (227, 228), 100: (227, 228)}
        per_block, per_multiprocessor = by_arch.get(arch, (99, 100))
        self.attributes = {
            MULTIPROCESSORS: multiprocessors,
            MAJOR: arch // 10,
            MINOR: arch % 10,
            SHARED_PER_BLOCK: per_block * 1024,
            SHARED_PER_MULTIPROCESSOR: per_multiprocessor * 1024,
        }
        self.arch, self.devices, self.memory, self.machine = arch, devices, memory, machine
        self.image_of: Callable[[str, int], bytes] = lambda symbol, arch: b""
        self.before_launch: Callable[[], None] = lambda: None
        self.in_step: Callable[[], bool] = lambda: False  # whether an op is running
        self.mutated: dict[str, str] = {}  # symbol: PTX in place of the image's
        self.seed, self.checks = 0, None
        self.streams = {device: 0x5000 + device for device in range(devices)}  # torch's current ones
        self.capturing: set[int] = set()
        self.current_device = 0
        self.calls: list[str] = []
        self.launches: list[Launch] = []
        self.found: BaseException | None = None  # the first that a callback could not raise
        self._contexts: dict[int, int] = {}  # of threads
        self._guards: dict[int, int] = {}
        self._modules: list[Any] = []
        self._images: dict[bytes, int] = {}
        self._kernels: list[Any] = []
        self._granted: dict[tuple[int, int], int] = {}
        self._pinned: list[Any] = []
        self._buffers: dict[bytes, Any] = {}
        self._text = c.create_string_buffer(4000)
        self._parsed: dict[str, Any] = {}

    # --- devices and contexts
    def cuInit(self, flags: int) -> None:
        pass

    def cuDriverGetVersion(self, version: Any) -> None:
        version[0] = 13000

    def cuDeviceGet(self, device: Any, ordinal: int) -> None:
        if not 0 <= ordinal < self.devices:
            raise Refused(101, "invalid device ordinal")
        device[0] = ordinal

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> None:
        value[0] = self.attributes[attribute]

    def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:
        context[0] = self._context_of(device)

    def cuCtxGetCurrent(self, context: Any) -> None:
        context[0] = self._contexts.get(threading.get_ident())

    def cuCtxSetCurrent(self, context: int) -> None:
        self._contexts[threading.get_ident()] = context

    def cuCtxSynchronize(self) -> None:
        self._current()
        assert not self.in_step(), "a step waited for the device"

    @staticmethod
    def _context_of(device: int) -> int:
        return 0xC000 + device

    def _current(self) -> int:
        """The device whose context is current."""
        context = self._contexts.get(threading.get_ident())
        if context is None:
            raise Refused(INVALID_CONTEXT, "no context is current to the calling thread")
        return context - 0xC000

    # --- images
    def cuLibraryLoadData(self, library: Any, image: int, *options: Any) -> None:
        if self.capturing:
            raise Refused(CAPTURE_UNSUPPORTED, "an image was loaded while a stream is captured")
        text = c.string_at(image)
        if not text.startswith(b"//"):
            raise Refused(200, "device kernel image is invalid")
        if text in self._images:
            raise AssertionError("an image was loaded twice")
        self._modules.append(self._parse(text.decode()))
        library[0] = self._images[text] = len(self._modules)

    def _parse(self, text: str) -> Any:
        if text not in self._parsed:
            self._parsed[text] = ptxvm.Module.from_ptx(text)
        return self._parsed[text]

    def cuLibraryGetKernel(self, kernel: Any, library: int, symbol: bytes) -> None:
        module = self._modules[library - 1]
        if symbol.decode() not in module.kernels():
            raise Refused(NOT_FOUND, "named symbol not found")
        self._kernels.append(module.kernel(symbol.decode()))
        kernel[0] = len(self._kernels)

    def cuKernelSetAttribute(self, attribute: int, value: int, kernel: int, device: int) -> None:
        static = self._kernels[kernel - 1].lk.shared_static
        if attribute != MAX_DYNAMIC_SHARED or value + static > self.attributes[SHARED_PER_BLOCK]:
            raise Refused(INVALID_VALUE, f"{value} + {static} bytes of shared memory cannot be had")
        self._granted[kernel, device] = value

    # --- work
    def cuLaunchKernelEx(self, config: Any, kernel: int, parameters: Any, extra: Any) -> None:
        shape, found, device = config[0], self._kernels[kernel - 1], self._current()
        stream = shape.stream or 0
        if stream != self.streams[device]:
            raise AssertionError(
                f"{found.name} went to stream {stream}, torch's current one of cuda:{device} is "
                f"{self.streams[device]}"
            )
        if device != self.current_device:
            raise AssertionError(
                f"{found.name} ran on cuda:{device}, torch's current is cuda:{self.current_device}"
            )
        if shape.shared > max(UNASKED_SHARED, self._granted.get((kernel, device), 0)):
            raise Refused(INVALID_VALUE, f"{shape.shared} bytes of shared memory were not asked for")
        self.before_launch()
        if found.name in self.mutated:
            found = mutant(self.mutated[found.name]).kernel(found.name)
        raw = c.string_at(parameters[0], found.lk.param_size)
        grid = (shape.gx, shape.gy, shape.gz)
        stats = self.machine.launch(
            found, grid, (shape.bx, shape.by, shape.bz), [self.memory.translated(raw)], shared=shape.shared,
            seed=self.seed, checks=self.checks,
        )  # fmt: skip
        self.launches.append(Launch(found.name, grid, shape.bx, shape.shared, device, stream, stats))

    def cuStreamIsCapturing(self, stream: int, status: Any) -> None:
        if not stream and self.capturing:
            raise Refused(CAPTURE_IMPLICIT, "the default stream was asked while another is captured")
        status[0] = int((stream or 0) in self.capturing)

    def cuMemHostAlloc(self, memory: Any, nbytes: int, flags: int) -> None:
        if self.capturing:
            raise Refused(CAPTURE_UNSUPPORTED, "pinned memory was allocated while a stream is captured")
        if self._pinned:
            raise AssertionError("pinned memory was allocated twice")
        block = np.zeros(nbytes + 64, np.uint8)
        address = (block.ctypes.data + 63) & ~63
        self._pinned.append(block)
        self.memory.register(address, nbytes, valid=True, name="pinned memory")
        memory[0] = address

    def cuGetErrorString(self, status: int, text: Any) -> None:
        text[0] = c.addressof(self._text)

    # --- torch's side
    def current_stream(self, device: int, stream: Any) -> None:
        stream[0] = self.streams[device]

    def create_device_guard(self, device: int, guard: Any) -> None:
        handle = 0x6000 + len(self._guards)
        self._guards[handle] = self.current_device
        self.current_device = device
        guard[0] = handle

    def delete_device_guard(self, guard: int) -> None:
        self.current_device = self._guards.pop(guard)

    def guards_left(self) -> int:
        return len(self._guards)

    def context(self) -> int | None:
        """The one that is current to this thread."""
        return self._contexts.get(threading.get_ident())

    def forget_contexts(self) -> None:
        """As in a thread that CUDA has not seen."""
        self._contexts.clear()

    # --- as C sees it
    def provide(self, symbol: bytes, arch: int, image: Any, error: int, error_bytes: int) -> int:
        try:
            text = self.image_of(symbol.decode(), arch)
            buffer = self._buffers.setdefault(text, c.create_string_buffer(text))
            image[0] = c.addressof(buffer)
        except BaseException as failure:
            self.found = self.found or failure
            c.memmove(error, b"no image\0", 9)
            return 1
        return 0

    def answered(self, name: str) -> Callable[..., int]:
        """The method as a C function: its exception becomes a status, and is kept."""
        method = getattr(self, name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            try:
                method(*arguments)
            except Refused as refusal:
                self._text.value = str(refusal).encode()[:3990]
                return refusal.status
            except BaseException as failure:
                self.found = self.found or failure
                self._text.value = f"{type(failure).__name__}: {failure}".encode()[:3990]
                return FAILED
            return SUCCESS

        return call


def driver_table(driver: EmulatedDriver, names: list[str]) -> c.Structure:
    """`Driver` of csrc/cuda/runtime/driver.h, whose members are `names`."""
    assert set(names) == set(SIGNATURES), "the table has other functions than this driver"
    kinds = {name: c.CFUNCTYPE(I, *SIGNATURES[name]) for name in names}
    table = type("Driver", (c.Structure,), {"_fields_": list(kinds.items())})
    return table(*(kind(driver.answered(name)) for name, kind in kinds.items()))


def accelerator_table(driver: EmulatedDriver, device: int) -> c.Structure:
    """`Accelerator` of csrc/torch/accelerator.h: tensors of the CPU stand for those of `device`."""
    kinds = {name: c.CFUNCTYPE(I, *types) for name, types in ACCELERATOR.items()}
    table = type("Accelerator", (c.Structure,), {"_fields_": [*kinds.items(), ("host_memory", I)]})
    return table(*(kind(driver.answered(name)) for name, kind in kinds.items()), device + 1)
