"""Kernels compiled by NVRTC, as far as a machine without a GPU can go: to machine code, with its symbols."""

from __future__ import annotations

import pytest

from bbs_kernels.nvrtc import compiler, sources

pytestmark = pytest.mark.ptx
pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")

ARCHS = [80, 86, 89, 90, 100, 120]
PLAN = {"w_transposed": False, "resident": True, "vectors": True, "several": False}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BBS_CACHE_DIR", str(tmp_path))


def test_only_device_headers_are_needed():
    """No header of the host or of the CUDA runtime is found by NVRTC, so none may be included."""
    for header in sources.INCLUDE.glob("*.cuh"):
        lines = [line for line in header.read_text().splitlines() if line.startswith("#include")]
        assert all(line.split()[1].startswith('"') for line in lines), header.name


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("operand", ["bf16 with fp32 centres", "fp32"])
def test_forward_compiles(operand, arch):
    number = {"bf16 with fp32 centres": 0, "fp32": 3}[operand]
    kernels = sources.forward_kernels(number, 4, PLAN)
    built = compiler.compile_kernels(sources.FORWARD, list(kernels.values()), arch)
    assert built.path.read_bytes()[:4] == b"\x7fELF"
    assert set(built.symbols) == set(kernels.values())
    assert all(symbol.startswith("_Z") for symbol in built.symbols.values())


def test_compiled_once(tmp_path):
    source = '#include "order_rows.cuh"\n'
    first = compiler.compile_kernels(source, ["bbs::cuda::order_rows"], 90)
    written = first.path.stat().st_mtime_ns
    again = compiler.compile_kernels(source, ["bbs::cuda::order_rows"], 90)
    assert again == first
    assert again.path.stat().st_mtime_ns == written
    assert compiler.compile_kernels(source, ["bbs::cuda::order_rows"], 80).path != first.path
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".cubin", ".cubin", ".json", ".json"]


def test_a_kernel_that_does_not_compile_shows_the_log():
    with pytest.raises(RuntimeError, match=r"sm_90:(.|\n)*no_such_header"):
        compiler.compile_kernels('#include "no_such_header.cuh"\n', [], 90)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("operand", ["fp16", "tf32"])
def test_backward_compiles(operand, arch):
    number, w_bytes = {"fp16": (1, 2), "tf32": (2, 4)}[operand]
    plan = {"w_transposed": True, "vectors": False, "several": False, "lane_values": 16}
    kernels = sources.backward_kernels(number, w_bytes, plan)
    built = compiler.compile_kernels(sources.BACKWARD, list(kernels.values()), arch)
    assert set(built.symbols) == set(kernels.values())


@pytest.mark.parametrize("arch", [80, 90])
def test_classes_of_several_centres_compile(arch):
    plan = {"w_transposed": False, "resident": False, "vectors": True, "several": True, "lane_values": 16}
    for source, kernels in (
        (sources.FORWARD, sources.forward_kernels(0, 2, plan)),
        (sources.BACKWARD, sources.backward_kernels(0, 2, plan)),
    ):
        assert any("SubcenterTypes" in name for name in kernels.values())
        built = compiler.compile_kernels(source, list(kernels.values()), arch)
        assert set(built.symbols) == set(kernels.values())
