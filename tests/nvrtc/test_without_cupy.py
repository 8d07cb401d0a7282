"""Without CuPy the compiler says what to install."""

from __future__ import annotations

import sys

import pytest

from bbs_kernels.nvrtc import compiler


def test_missing_cupy_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", None)
    compiler._nvrtc.cache_clear()
    try:
        with pytest.raises(ImportError, match=r"pip install bbs-kernels\[cupy\].*BBS_CUDA=1"):
            compiler.compile_kernels("", [], 80)
    finally:
        compiler._nvrtc.cache_clear()
