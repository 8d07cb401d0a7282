"""Data sheet figures of one GPU per compute capability: dense tensor flops with fp32 accumulation, DRAM bandwidth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    name: str
    arch: str
    multiprocessors: int
    bf16_tflops: float  # at the boost clock
    dram_gb_s: float
    boost_ghz: float


GPUS = (
    Gpu("A100 SXM 80 GB", "sm_80", 108, 312.0, 2039.0, 1.410),
    Gpu("RTX 3090", "sm_86", 82, 71.2, 936.0, 1.695),
    Gpu("RTX 4090", "sm_89", 128, 165.2, 1008.0, 2.520),
    Gpu("H100 SXM", "sm_90", 132, 989.4, 3352.0, 1.830),
    Gpu("B200", "sm_100", 148, 2250.0, 7700.0, 1.850),
    Gpu("RTX 5090", "sm_120", 170, 209.5, 1792.0, 2.407),
)
BY_ARCH = {gpu.arch: gpu for gpu in GPUS}
