"""Under what a case is timed: allocator and threads on the CPU, the dtype of the embeddings on a GPU.

The fields of a setting are columns of the result files. On the CPU each run of a setting is a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

# Fresh large blocks cost page faults, and freeing them gives the pages back. "default" is what people run; "tuned"
# keeps everything on the heap, which is kindest to code that allocates much.
ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "tuned": {
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(64 << 30),
        "MALLOC_TOP_PAD_": str(256 << 20),
    },
}
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class CpuSetting:
    """fp32 on `threads` threads."""

    device: ClassVar[str] = "cpu"
    dtype: ClassVar[str] = "float32"
    allocator: str
    threads: int

    def label(self) -> str:
        return f"{self.allocator} allocator, {self.threads} thread{'s' * (self.threads > 1)}"

    def environment(self) -> dict[str, str]:
        return ALLOCATORS[self.allocator]


@dataclass(frozen=True)
class CudaSetting:
    """Embeddings in `dtype` beside fp32 centres, as training with autocast has them."""

    device: ClassVar[str] = "cuda"
    dtype: str

    def label(self) -> str:
        return f"{self.dtype} embeddings"

    def environment(self) -> dict[str, str]:
        return {}


Setting = CpuSetting | CudaSetting
