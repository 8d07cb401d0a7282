"""Kernels compiled at first use, as far as a machine without a GPU goes: to machine code, and its cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bbs_kernels import _core
from bbs_kernels.ops import nvrtc

SYMBOL = "bbs_order_rows"  # small
ARCHS = [80, 86, 89, 90, 100, 120]
# One of each main loop and of what else depends on types.
KERNELS = [
    "bbs_cos_lse_sweep_bf16_fp32w_rows_resident_vectors",
    "bbs_cos_lse_sweep_fp32_columns_streaming_elements",
    "bbs_cos_lse_sweep_bf16_rows_subcenters_vectors",
    "bbs_coefficients_tf32_columns_streaming_elements",
    "bbs_coefficients_fp16_rows_subcenters_vectors",
    "bbs_gradient_classes_fp16_columns",
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BBS_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def compiler() -> None:
    pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="CuPy is not installed")


def only_file(cache: Path) -> Path:
    (path,) = cache.glob("*.cubin")
    return path


def test_without_cupy_it_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", None)
    nvrtc._nvrtc.cache_clear()
    try:
        with pytest.raises(
            ImportError, match=r"^compiling it .* `pip install bbs-kernels\[cupy\]`.*BBS_CUDA=1$"
        ):
            nvrtc.compile_kernel(SYMBOL, 80)
        assert nvrtc.version() is None
    finally:
        nvrtc._nvrtc.cache_clear()


def test_only_headers_of_the_package_are_needed() -> None:
    """NVRTC finds no header of the host and none of the CUDA runtime."""
    headers = [path for path in nvrtc.INCLUDE.parent.rglob("*.cuh")]
    assert len(headers) > 20
    for header in headers:
        lines = [line for line in header.read_text().splitlines() if line.startswith("#include")]
        assert all(line.split()[1].startswith('"') for line in lines), header.name


@pytest.mark.ptx
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("symbol", "arch"), [(KERNELS[n % len(KERNELS)], arch) for n, arch in enumerate(ARCHS)]
)
def test_kernels_compile(symbol: str, arch: int) -> None:
    code = nvrtc.compile_kernel(symbol, arch)
    assert code.startswith(b"\x7fELF")
    assert b"\0" + symbol.encode() + b"\0" in code


@pytest.mark.ptx
@pytest.mark.exhaustive
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("arch", [80, 90, 120])
@pytest.mark.parametrize("family", sorted({k["family"] for k in _core.cuda_kernels()}))
def test_every_kernel_compiles(family: str, arch: int) -> None:
    for kernel in _core.cuda_kernels():
        if kernel["family"] == family:
            assert nvrtc.compile_kernel(kernel["symbol"], arch).startswith(b"\x7fELF")


@pytest.mark.ptx
@pytest.mark.usefixtures("compiler")
def test_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = nvrtc.compile_kernel(SYMBOL, 90)
    path = only_file(cache)
    with monkeypatch.context() as patched:
        patched.delattr(nvrtc, "_compile")  # not needed again
        assert nvrtc.compile_kernel(SYMBOL, 90) == first
    nvrtc.compile_kernel(SYMBOL, 80)
    nvrtc.compile_kernel("bbs_row_scale", 90)
    names = sorted(p.name.rsplit(".", 2)[0] for p in cache.glob("*.cubin"))
    assert names == ["bbs_order_rows.sm_80", "bbs_order_rows.sm_90", "bbs_row_scale.sm_90"]
    assert path.exists()
    assert not [p for p in cache.iterdir() if p.suffix not in (".cubin", ".lock")]


@pytest.mark.ptx
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    "damage",
    [lambda c: b"", lambda c: c[:20], lambda c: c[:-1], lambda c: c[:100] + bytes([c[100] ^ 1]) + c[101:]],
    ids=["empty", "digest cut", "code cut", "a bit"],
)
def test_a_damaged_file_is_compiled_anew(cache: Path, damage) -> None:
    code = nvrtc.compile_kernel(SYMBOL, 90)
    path = only_file(cache)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert nvrtc.compile_kernel(SYMBOL, 90) == code
    assert path.read_bytes() == whole


@pytest.mark.ptx
@pytest.mark.usefixtures("compiler")
def test_processes_that_ask_at_once_compile_once(cache: Path) -> None:
    program = f"""
import sys
from bbs_kernels.ops import nvrtc
compile = nvrtc._compile
def counted(*arguments):
    print("compiled", flush=True)
    return compile(*arguments)
nvrtc._compile = counted
nvrtc._nvrtc()
print("ready", flush=True)
sys.stdin.readline()
print(len(nvrtc.compile_kernel({KERNELS[5]!r}, 90)))
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [child.communicate(timeout=300)[0].split() for child in children]
    assert sum("compiled" in lines for lines in told) == 1, told
    assert len({lines[-1] for lines in told}) == 1
    only_file(cache)


@pytest.mark.ptx
@pytest.mark.usefixtures("compiler")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BBS_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=r"compiled kernels are not kept.*set BBS_CACHE_DIR"):
        assert nvrtc.compile_kernel(SYMBOL, 90).startswith(b"\x7fELF")


@pytest.mark.ptx
@pytest.mark.usefixtures("compiler")
def test_a_kernel_that_does_not_compile_shows_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvrtc, "INCLUDE", tmp_path)  # without headers
    with pytest.raises(RuntimeError, match=r"cannot compile bbs_order_rows for sm_90:(.|\n)*order_rows\.cuh"):
        nvrtc.compile_kernel(SYMBOL, 90)
