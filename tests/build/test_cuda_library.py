"""The CUDA op library without a GPU: it links, registers the CUDA ops, and packs what the NVRTC path packs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bbs_kernels._load import CPU_LIBRARY, CUDA_LIBRARY

pytestmark = pytest.mark.skipif(not CUDA_LIBRARY.exists(), reason="built without CUDA")

OPS = ["cos_lse", "margin_softmax", "cos_lse_backward", "target_cos"]
# In a process of its own: the package would register the ops of the NVRTC path. Under a CPU build of torch one symbol
# is missing, the current stream; nothing calls it here.
LOAD = f"""
import ctypes, os, torch
torch.ops.load_library({str(CPU_LIBRARY)!r})
ctypes.CDLL({str(CUDA_LIBRARY)!r}, mode=os.RTLD_LAZY)
"""
REGISTERED = f"""
for op in {OPS!r}:
    print(op, torch._C._dispatch_has_kernel_for_dispatch_key("bbs_kernels::" + op, "CUDA"))
print("take_bad_label", torch.ops.bbs_kernels.take_bad_label().tolist())
"""
SAME_BYTES = """
import importlib.util, sys, types
package = types.ModuleType("bbs_kernels")
package.__path__ = [FOLDER]
sys.modules["bbs_kernels"] = package  # its __init__ would register the ops
from bbs_kernels import _core
from bbs_kernels.nvrtc import calls

offsets = torch.tensor([0, 60, 60, 100])
labels, aliases, guard = torch.zeros(8, dtype=torch.int64), torch.arange(100), torch.zeros(8)
machine = _core.machine_of(90, 132)
memory = dict.fromkeys(
    ("offsets", "tile_begin", "bad_label", "lse", "cos_target", "mined_idx", "mined_cos", "workspace", "loss",
     "grad_lse", "grad_cos_t"), 0
)
RULES = ((0, 0, 0, 0, None, None), (3, 5, 1, 2, None, aliases), (2, 0, 0, 3, guard, None))
for dtype, tf32 in ((torch.float32, False), (torch.float32, True), (torch.float16, False), (torch.bfloat16, False)):
    for w in (torch.randn(100, 63), torch.randn(100, 64), torch.randn(64, 104)[:, :100].t()):
        for rule, k, skip, kind, g, a in RULES:
            numbers = dict(scale=64.0, rule=rule, k=k, skip=skip, guard_kind=kind, guard_value=0.25, ignore_index=-1)
            x = torch.randn(8, w.shape[1]).to(dtype)
            got = calls.forward_call(x, w, labels, offsets, g, a, **numbers, allow_tf32=tf32)
            packed = _core.pack_forward(got, offsets.tolist(), machine, memory)
            want = torch.ops.bbs_kernels.forward_parameters(
                x, w, labels, offsets, g, a, *numbers.values(), tf32
            )
            assert packed == bytes(want.tolist()), (dtype, w.stride(), rule)
            shard = dict(row_basket=torch.zeros_like(labels), row_alias=torch.ones_like(labels), mined_in_lse=False)
            part = calls.forward_call(x, w, labels, offsets, g, a, **numbers, allow_tf32=tf32, **shard)
            packed = _core.pack_forward(part, offsets.tolist(), machine, memory)
            want = torch.ops.bbs_kernels.forward_parameters(
                x, w, labels, offsets, g, a, *numbers.values(), tf32, *shard.values()
            )
            assert packed == bytes(want.tolist()), (dtype, w.stride(), rule)
            some = torch.tensor([0, 30, 30, 50])
            few = None if a is None else a[:50]
            two = calls.forward_call(x, w, labels, some, g, few, **numbers, allow_tf32=tf32, subcenters=2)
            packed = _core.pack_forward(two, calls.centre_offsets(some, 2), machine, memory)
            want = torch.ops.bbs_kernels.forward_parameters(
                x, w, labels, some, g, few, *numbers.values(), tf32, subcenters=2
            )
            assert packed == bytes(want.tolist()), (dtype, w.stride(), rule)
            margin = (1.1, 0.3, 0.1, 1, 1)
            packed = _core.pack_forward(got, offsets.tolist(), machine, memory, margin=margin)
            want = torch.ops.bbs_kernels.margin_parameters(
                x, w, labels, offsets, g, a, *numbers.values(), *margin, tf32
            )
            assert packed == bytes(want.tolist()), (dtype, w.stride(), rule)
print("same")
"""


def run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", LOAD + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_ops_are_registered_for_cuda() -> None:
    assert run(REGISTERED) == [*(f"{op} True" for op in OPS), f"take_bad_label [{2**63 - 1}, 0]"]


def test_nvrtc_launches_with_the_same_bytes() -> None:
    assert run(f"FOLDER = {str(CUDA_LIBRARY.parent)!r}" + SAME_BYTES) == ["same"]
