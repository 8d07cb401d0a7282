"""What the emulated GPU refuses: each rule fails on a step that breaks it. The steps are ops whose bodies are written
here, on the same tables of functions that the C++ bodies call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.dlpack import to_dlpack

FILL = """// writes 0 to the first words of an array: a thread each
.version 8.0
.target sm_80
.address_size 64
.visible .entry fill(.param .align 8 .b8 fill_param_0[24])
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<5>;
  ld.param.u64 %rd1, [fill_param_0];
  ld.param.u32 %r1, [fill_param_0+8];
  cvta.to.global.u64 %rd2, %rd1;
  mov.u32 %r2, %tid.x;
  setp.ge.u32 %p1, %r2, %r1;
  @%p1 bra DONE;
  mul.wide.u32 %rd3, %r2, 4;
  add.s64 %rd4, %rd2, %rd3;
  mov.u32 %r3, 0;
  st.global.u32 [%rd4], %r3;
DONE:
  ret;
}
"""
WORDS = 64
OPS = torch.library.Library("bbs_rules", "DEF")
OPS.define("step(Tensor x) -> Tensor")
BODY: list[Callable[[Tensor], Tensor]] = []
OPS.impl("step", lambda x: BODY[-1](x), "CPU")


class Parameters(ctypes.Structure):
    _fields_ = (("array", ctypes.c_uint64), ("words", ctypes.c_uint32), ("other", ctypes.c_uint64))


class Device:
    """The functions as an op body calls them; a status that is none of success raises."""

    def __init__(self, gpu: Any) -> None:
        self.gpu, self.driver, self.table = gpu, gpu.driver, gpu._table
        self.accelerator = gpu._accelerators[0]
        self.kernel: int | None = None

    def ok(self, status: int) -> None:
        if status != 0:
            text = ctypes.c_void_p()
            self.table.cuGetErrorString(status, ctypes.byref(text))
            raise RuntimeError(f"{ctypes.string_at(text.value).decode()} ({status})")

    def enter(self, device: int = 0) -> None:
        self.ok(self.table.cuCtxSetCurrent(0xC000 + device))

    def load(self, image: str = FILL) -> int:
        library, self.buffer = ctypes.c_void_p(), ctypes.create_string_buffer(image.encode())
        self.ok(
            self.table.cuLibraryLoadData(library, ctypes.addressof(self.buffer), None, None, 0, None, None, 0)
        )
        return library.value

    def kernel_of(self, library: int, symbol: bytes = b"fill") -> int:
        kernel = ctypes.c_void_p()
        self.ok(self.table.cuLibraryGetKernel(kernel, library, symbol))
        return kernel.value

    def fill(
        self, array: int, words: int = WORDS, other: int = 0, stream: int | None = None, shared: int = 0,
    ) -> None:  # fmt: skip
        from support.emulated_gpu.driver import LaunchConfig

        if self.kernel is None:
            self.kernel = self.kernel_of(self.load())
        stream = self.driver.streams[0] if stream is None else stream
        config = LaunchConfig(1, 1, 1, 96, 1, 1, shared, stream, None, 0)
        given = Parameters(array, words, other)
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(given))
        self.ok(self.table.cuLaunchKernelEx(ctypes.byref(config), self.kernel, parameters, None))

    def run(self, body: Callable[[Tensor], Tensor]) -> Tensor:
        BODY.append(body)
        try:
            with self.gpu._in_use({"bbs_rules::step"}, 0):
                return torch.ops.bbs_rules.step(torch.ones(WORDS))
        finally:
            BODY.pop()


def allocated(x: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Any]:
    """A new tensor, and what holds it as a handle of C++ does: Python's own reference alone would count as none."""
    t = x.new_empty(shape, dtype=dtype)
    return t, to_dlpack(t)


@pytest.fixture
def device(gpu) -> Device:
    """A device of its own for each test: what is loaded once is loaded here."""
    from support.emulated_gpu import EmulatedGpu

    made = Device(EmulatedGpu.fresh(80))
    made.driver.forget_contexts()
    made.enter()
    return made


def well_behaved(device: Device) -> Callable[[Tensor], Tensor]:
    def body(x: Tensor) -> Tensor:
        out, held = allocated(x, WORDS)
        device.fill(out.data_ptr())
        del held
        return out

    return body


def test_a_step_that_keeps_every_rule(device: Device) -> None:
    assert device.run(well_behaved(device)).eq(0).all()
    assert [launch.symbol for launch in device.gpu.launches] == ["fill"]


@pytest.mark.parametrize(
    "wait",
    [
        lambda d, x: d.ok(d.table.cuCtxSynchronize()),
        lambda d, x: x.sum().item(),
        lambda d, x: x.nonzero(),
        lambda d, x: x.masked_select(x > 0),
        lambda d, x: bool(x.any()),
    ],
    ids=["synchronize", "item", "nonzero", "masked_select", "bool"],
)
def test_it_may_not_wait(wait: Callable[[Device, Tensor], Any], device: Device) -> None:
    def body(x: Tensor) -> Tensor:
        wait(device, x)
        return well_behaved(device)(x)

    with pytest.raises(AssertionError, match="wait"):
        device.run(body)


def test_pinned_memory_is_allocated_once(device: Device) -> None:
    def pin() -> None:
        memory = ctypes.c_void_p()
        device.ok(device.table.cuMemHostAlloc(memory, 64, 3))

    def body(x: Tensor) -> Tensor:
        pin()
        return well_behaved(device)(x)

    device.run(body)
    with pytest.raises(AssertionError, match="pinned memory was allocated twice"):
        device.run(body)


def test_an_image_is_loaded_once(device: Device) -> None:
    def body(x: Tensor) -> Tensor:
        device.load()
        return well_behaved(device)(x)

    with pytest.raises(AssertionError, match="an image was loaded twice"):
        device.run(body)


@pytest.mark.parametrize(
    ("image", "symbol", "told"),
    [("no PTX", b"fill", r"device kernel image is invalid \(200\)"), (FILL, b"other", r"not found \(500\)")],
)
def test_images_that_do_not_fit(image: str, symbol: bytes, told: str, device: Device) -> None:
    def body(x: Tensor) -> Tensor:
        device.kernel_of(device.load(image), symbol)
        return x.clone()

    with pytest.raises(RuntimeError, match=told):
        device.run(body)


def test_nothing_is_made_while_a_graph_is_captured(device: Device) -> None:
    device.driver.capturing.add(device.driver.streams[0])

    def pinned(x: Tensor) -> Tensor:
        device.ok(device.table.cuMemHostAlloc(ctypes.c_void_p(), 64, 3))
        return x.clone()

    for body in (well_behaved(device), pinned):  # the first loads its image
        with pytest.raises(RuntimeError, match=r"captured \(900\)"):
            device.run(body)


def test_torchs_current_device_is_left_as_it_was(device: Device) -> None:
    guard = ctypes.c_void_p()

    def body(x: Tensor) -> Tensor:
        out = well_behaved(device)(x)
        device.ok(device.accelerator.create_device_guard(1, guard))
        return out

    with pytest.raises(AssertionError, match="left another device current"):
        device.run(body)
    device.accelerator.delete_device_guard(guard)

    def same_device(x: Tensor) -> Tensor:
        device.ok(device.accelerator.create_device_guard(0, guard))
        return well_behaved(device)(x)

    with pytest.raises(AssertionError, match="left a device guard"):
        device.run(same_device)
    device.accelerator.delete_device_guard(guard)


def test_the_current_context_is_left_as_it_was(device: Device) -> None:
    def body(x: Tensor) -> Tensor:
        out = well_behaved(device)(x)
        device.enter(1)
        return out

    with pytest.raises(AssertionError, match="left another context current"):
        device.run(body)


def test_a_launch_needs_a_context(device: Device) -> None:
    device.driver.forget_contexts()
    with pytest.raises(RuntimeError, match=r"no context is current to the calling thread \(201\)"):
        device.run(well_behaved(device))


def test_a_launch_goes_to_the_current_device_and_stream(device: Device) -> None:
    def elsewhere(x: Tensor) -> Tensor:
        out, held = allocated(x, WORDS)
        device.fill(out.data_ptr(), stream=0x77)
        del held
        return out

    with pytest.raises(AssertionError, match="fill went to stream 119, torch's current one of cuda:0 is"):
        device.run(elsewhere)

    def of_another_device(x: Tensor) -> Tensor:
        device.enter(1)
        out, held = allocated(x, WORDS)
        device.fill(out.data_ptr(), stream=device.driver.streams[1])
        del held
        return out

    with pytest.raises(AssertionError, match="fill ran on cuda:1, torch's current is cuda:0"):
        device.run(of_another_device)


def test_shared_memory_is_asked_for(device: Device) -> None:
    asked = 60 * 1024

    def body(x: Tensor) -> Tensor:
        out, held = allocated(x, WORDS)
        device.fill(out.data_ptr(), shared=asked)
        del held
        return out

    with pytest.raises(RuntimeError, match=f"{asked} bytes of shared memory were not asked for"):
        device.run(body)
    device.ok(device.table.cuKernelSetAttribute(8, asked, device.kernel, 0))
    device.run(body)
    with pytest.raises(RuntimeError, match="cannot be had"):
        device.ok(device.table.cuKernelSetAttribute(8, 164 * 1024, device.kernel, 0))


def test_memory_that_was_freed_is_not_used(device: Device) -> None:
    import ptxvm

    def body(x: Tensor, keep: bool) -> Tensor:
        t, held = allocated(x, WORDS)
        address = t.data_ptr()
        if not keep:
            del t, held
        device.fill(address)
        return well_behaved(device)(x)

    device.run(lambda x: body(x, True))
    with pytest.raises(ptxvm.PTXError):
        device.run(lambda x: body(x, False))


def test_memory_that_only_a_view_holds_is_used(device: Device) -> None:
    """As a gradient in columns, the transpose of what was allocated."""

    def body(x: Tensor) -> Tensor:
        base = x.new_empty((WORDS,))
        address, held = base.data_ptr(), to_dlpack(base.view(8, -1))
        del base
        device.fill(address)
        del held
        return well_behaved(device)(x)

    device.run(body)


def test_outputs_are_written(device: Device) -> None:
    def body(x: Tensor) -> Tensor:
        out, held = allocated(x, WORDS)
        device.fill(out.data_ptr(), WORDS - 3)
        del held
        return out

    with pytest.raises(AssertionError, match=r"left bytes of its outputs unwritten: \[12\]"):
        device.run(body)


def test_an_array_inside_a_workspace_has_an_end(device: Device) -> None:
    import ptxvm

    def body(x: Tensor, words: int) -> Tensor:
        workspace, held = allocated(x, 512, dtype=torch.uint8)
        first = workspace.data_ptr()
        device.fill(first, words, first + 256)
        del held
        return well_behaved(device)(x)

    device.run(lambda x: body(x, WORDS))
    with pytest.raises(ptxvm.PTXError):
        device.run(lambda x: body(x, WORDS + 1))
