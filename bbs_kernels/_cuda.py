"""Registers CUDA bodies of the ops that compile their kernels at first use, where the build brought none."""

from ._load import has_cuda_library
from .nvrtc.ops import register

if not has_cuda_library():
    register()
