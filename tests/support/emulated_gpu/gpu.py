"""The emulated GPU as tests use it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from .library import ROOT, load

sys.path.insert(0, str(ROOT / "tools" / "ptxvm"))

import ptxvm

import bbs_kernels  # noqa: F401  (defines the ops)
from bbs_kernels.ops import placement

from . import images
from .driver import PROVIDER, EmulatedDriver, Launch, accelerator_table, driver_table
from .memory import HostMemory
from .watch import Watch

NAMESPACE = "bbs_emulated"
OPS = ("cos_lse", "margin_softmax", "cos_lse_backward", "target_cos")


class Machine(ctypes.Structure):
    """`Machine` of csrc/cuda/plan.h."""

    _fields_ = [
        (name, ctypes.c_int32)
        for name in ("multiprocessors", "shared_per_block", "shared_per_sm", "streaming", "sorts_rows")
    ]


@functools.cache
def library_of_ops() -> ctypes.CDLL:
    return load()


@functools.cache
def _machine() -> tuple[ptxvm.Device, HostMemory]:
    """One for the process: the op library keeps tables of a launch for ever."""
    device = ptxvm.Device()
    return device, HostMemory(device._win)


@functools.cache
def _namespace() -> Any:
    """The four ops and the report under a name of their own, and what keeps them there."""
    library = torch.library.Library(NAMESPACE, "DEF")
    for op in (*OPS, "check_labels"):
        schema = str(getattr(torch.ops.bbs_kernels, op).default._schema)
        library.define(schema.removeprefix("bbs_kernels::"))
    library_of_ops().bbs_test_register(NAMESPACE.encode(), b"CPU")
    library_of_ops().bbs_test_register_report(NAMESPACE.encode())
    return library, getattr(torch.ops, NAMESPACE)


def namespace() -> Any:
    return _namespace()[1]


class EmulatedGpu:
    """Devices of one architecture, the same ones for the same arguments; `fresh` makes others. `run` and `whole_stack`
    make tensors of the CPU stand for those of one of them.

    `arch` as in sm_80. A device tells of `multiprocessors`; `planned_for` changes that, and whether x is kept in shared
    memory, for what is run afterwards.
    """

    where = "cpu"  # its tensors

    _kept: ClassVar[dict[tuple, EmulatedGpu]] = {}
    _fresh: ClassVar[list[EmulatedGpu]] = []  # the op library knows their tables for ever

    def __new__(
        cls, arch: int = 80, multiprocessors: int = 2, devices: int = 2, library: ctypes.CDLL | None = None
    ):
        key = arch, multiprocessors, devices, id(library)
        if key not in cls._kept:
            cls._kept[key] = super().__new__(cls)
            cls._kept[key]._make(arch, multiprocessors, devices, library or library_of_ops())
        return cls._kept[key]

    @classmethod
    def fresh(cls, arch: int = 80, multiprocessors: int = 2, devices: int = 2) -> EmulatedGpu:
        """One that nobody else gets: no kernel has been loaded there, whatever ran before in this process."""
        made = super().__new__(cls)
        made._make(arch, multiprocessors, devices, library_of_ops())
        cls._fresh.append(made)
        return made

    def _make(self, arch: int, multiprocessors: int, devices: int, library: ctypes.CDLL) -> None:
        device, self.memory = _machine()
        self.library, self.arch = library, arch
        self.driver = EmulatedDriver(arch, multiprocessors, devices, self.memory, device)
        self.driver.image_of = lambda symbol, arch: (
            images.shipped_ptx(symbol, arch) or images.ptx_of(symbol, f"sm_{arch}")
        ).encode()
        names = library.bbs_test_driver_functions().decode().split()
        self._table = driver_table(self.driver, names)
        self._accelerators = [accelerator_table(self.driver, device) for device in range(devices)]
        self._provider = PROVIDER(self.driver.provide)

    @property
    def ops(self) -> Any:
        """The emulated ops, by name."""
        return namespace()

    @property
    def launches(self) -> list[Launch]:
        """What has been launched since the last `run` or `whole_stack` began."""
        return self.driver.launches

    def _raise_found(self) -> None:
        found, self.driver.found = self.driver.found, None
        if found is not None:
            raise found

    @contextlib.contextmanager
    def _in_use(self, ops: set[str], device: int) -> Iterator[Watch]:
        driver = self.driver
        watch = Watch(self.memory, ops, self._raise_found)
        self.called = watch.called  # ops of torch by the bodies
        driver.before_launch, driver.in_step = watch.drop_freed, lambda: watch.inside
        driver.calls, driver.launches = [], []
        address = [ctypes.addressof(t) for t in (self._table, self._accelerators[device])]
        self.library.bbs_test_use(*address, ctypes.cast(self._provider, ctypes.c_void_p))
        before = driver.current_device, driver.context()
        try:
            with watch:
                yield watch
            assert driver.current_device == before[0], "a call left another device current"
            assert driver.guards_left() == 0, "a call left a device guard"
            assert driver.context() == before[1], "a call left another context current"
        finally:
            self.library.bbs_test_use(None, None, None)
            self.library.bbs_test_use_machine(None)

    @contextlib.contextmanager
    def run(
        self, *, device: int = 0, seed: int = 0, checks: dict | None = None, streaming: bool = False,
        sorts_rows: bool = False, multiprocessors: int | None = None, mutated: dict[str, str] | None = None,
    ) -> Iterator[Any]:  # fmt: skip
        """Yields the ops, which run on tensors of the CPU as if these were on `device`.

        seed: 0 for warps in lockstep, else a random schedule. checks: of the PTX machine. streaming,
        sorts_rows, multiprocessors: what launches are planned for. mutated: PTX by symbol in place of the compiler's.
        """
        driver = self.driver
        driver.seed, driver.checks, driver.mutated = seed, checks, mutated or {}
        ops = self.ops
        with self._in_use({f"{NAMESPACE}::{op}" for op in OPS}, device):
            self._plan_for(streaming=streaming, sorts_rows=sorts_rows, multiprocessors=multiprocessors)
            yield ops

    def _plan_for(
        self, *, streaming: bool, sorts_rows: bool = False, multiprocessors: int | None = None
    ) -> None:
        own = self.driver.attributes
        self._told = Machine(multiprocessors or own[16], own[97], own[81], streaming, sorts_rows)
        self.library.bbs_test_use_machine(ctypes.addressof(self._told))

    @contextlib.contextmanager
    def whole_stack(
        self, *, device: int = 0, seed: int = 0, checks: dict | None = None, streaming: bool = False,
        multiprocessors: int | None = None,
    ) -> Iterator[Watch]:  # fmt: skip
        """Within it the ops of the package itself run so: losses, autograd and optimisers, unchanged."""
        self.driver.seed, self.driver.checks, self.driver.mutated = seed, checks, {}
        registered = [
            self.library.bbs_test_register(b"bbs_kernels", b"CPU"),
            self.library.bbs_test_register_report(b"bbs_kernels"),
        ]
        try:
            with self._in_use({f"bbs_kernels::{op}" for op in OPS}, device) as watch:
                self._plan_for(streaming=streaming, multiprocessors=multiprocessors)
                placement.EMULATED = True
                yield watch
        finally:
            placement.EMULATED = False
            for library in registered:
                self.library.bbs_test_take_back(library)

    def unwritten(self, *tensors: torch.Tensor) -> int:
        """How many bytes of these outputs no kernel has written."""
        return sum(self.memory.unwritten(t) for t in tensors)
