"""Prints the folder of the nvcc that the build takes, for PATH, or one line that says what to install."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_support import find_nvcc

nvcc = find_nvcc()
if nvcc is None:
    sys.exit(
        "bbs-kernels: nvcc not found: `pip install -r requirements-cuda.txt`, or install the CUDA toolkit"
    )
print(Path(nvcc).parent)
