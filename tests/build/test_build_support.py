"""What the build says when something is missing: one line each, with what to do. Nothing is compiled here."""

import importlib.util
import sys
import sysconfig
import types
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="needs the source tree")


@pytest.fixture
def support():
    spec = importlib.util.spec_from_file_location("build_support", TOOLS / "build_support.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def path_with(tmp_path, monkeypatch):
    """PATH reduced to the named programs, which are empty executable files, and no packages in the environment."""

    def reduce(*programs):
        for name in programs:
            program = tmp_path / name
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "packages"))
        return tmp_path

    return reduce


def message(call, *arguments):
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    text = str(stopped.value)
    assert text.startswith("bbs-kernels: ")
    assert "\n" not in text
    return text


def fake_torch(version, cuda=None):
    return types.SimpleNamespace(__version__=version, version=types.SimpleNamespace(cuda=cuda))


def test_missing_torch_names_both_commands(support, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` fail
    text = message(support.find_torch)
    assert "pip install torch" in text
    assert "--no-build-isolation" in text


@pytest.mark.parametrize("version", ["1.13.1", "2.9.1+cu128"])
def test_old_torch_is_named(support, monkeypatch, version):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(version))
    text = message(support.find_torch)
    assert version in text
    assert "2.10" in text


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0a0+git123"])
def test_new_torch_is_taken(support, monkeypatch, version):
    torch = fake_torch(version)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert support.find_torch() is torch


def test_missing_compiler(support, monkeypatch, path_with):
    monkeypatch.delenv("CXX", raising=False)
    path_with()
    text = message(support.find_compiler)
    assert "no C++ compiler" in text
    assert "apt-get install g++" in text


def test_wrong_cxx_is_named(support, monkeypatch, path_with):
    path_with("g++")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no-such-compiler" in message(support.find_compiler)


def test_compiler_from_path(support, monkeypatch, path_with):
    monkeypatch.delenv("CXX", raising=False)
    path_with("clang++")
    assert support.find_compiler() == "clang++"


@pytest.mark.parametrize("value", ["yes", "2", "", "ON"])
def test_unknown_bbs_cuda_value(support, monkeypatch, value):
    monkeypatch.setenv("BBS_CUDA", value)
    text = message(support.want_cuda, fake_torch("2.13.0", cuda="13.0"))
    assert repr(value) in text
    assert "auto, 0, 1" in text


@pytest.mark.parametrize(
    ("choice", "nvcc", "cuda_torch", "expected"),
    [
        (None, True, True, True),
        ("auto", True, True, True),
        ("auto", False, True, False),
        ("auto", True, False, False),
        ("0", True, True, False),
        ("1", True, False, True),
    ],
)
def test_bbs_cuda(support, monkeypatch, path_with, choice, nvcc, cuda_torch, expected):
    path_with(*(["nvcc"] if nvcc else []))
    if choice is None:
        monkeypatch.delenv("BBS_CUDA", raising=False)
    else:
        monkeypatch.setenv("BBS_CUDA", choice)
    torch = fake_torch("2.13.0", cuda="13.0" if cuda_torch else None)
    assert support.want_cuda(torch) is expected


def test_forced_cuda_without_nvcc(support, monkeypatch, path_with):
    path_with()
    monkeypatch.setenv("BBS_CUDA", "1")
    text = message(support.want_cuda, fake_torch("2.13.0", cuda="13.0"))
    assert "nvcc" in text


def test_nvcc_of_the_environment(support, monkeypatch, path_with, tmp_path):
    path_with()
    assert support.find_nvcc() is None
    nvcc = tmp_path / "packages" / "nvidia" / "cu13" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch()
    assert support.find_nvcc() == str(nvcc)
    path_with("nvcc")
    assert support.find_nvcc() != str(nvcc)


@pytest.mark.parametrize(
    ("text", "archs"),
    [
        ("80;90", "80;90"),
        ("80 90", "80;90"),
        ("80,90", "80;90"),
        ("90;80;90", "90;80"),  # named twice: CMake would refuse two rules for one file
        ("80;90a", "80;90a"),
        ("100f", "100f"),
    ],
)
def test_cuda_targets(support, monkeypatch, text, archs):
    monkeypatch.setenv("BBS_CUDA_ARCHS", text)
    assert support.cuda_archs() == archs


def test_no_cuda_targets_chosen(support, monkeypatch):
    monkeypatch.delenv("BBS_CUDA_ARCHS", raising=False)
    assert support.cuda_archs() is None


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("sm_80", "sm_80"), ("75", "75"), ("80;all", "all"), ("90;70a", "70a"), ("90aa", "90aa"), ("80;a", "a")],
)
def test_unknown_cuda_target_is_named(support, monkeypatch, text, wrong):
    monkeypatch.setenv("BBS_CUDA_ARCHS", text)
    said = message(support.cuda_archs)
    assert repr(text) in said
    assert repr(wrong) in said


def test_no_target_in_the_text(support, monkeypatch):
    monkeypatch.setenv("BBS_CUDA_ARCHS", " ; ")
    assert "got none in" in message(support.cuda_archs)


def test_tool_beside_python_is_found(support, monkeypatch, path_with, tmp_path):
    path_with()
    environment = tmp_path / "environment"
    environment.mkdir()
    (environment / "ninja").touch()
    monkeypatch.setattr(sys, "executable", str(environment / "python"))
    assert support.find_tool("ninja", tmp_path / "build") == str(environment / "ninja")


def test_tool_that_cannot_be_installed(support, monkeypatch, path_with, tmp_path):
    path_with()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(support.subprocess, "run", lambda *_: types.SimpleNamespace(returncode=1))
    assert "pip install ninja" in message(support.find_tool, "ninja", tmp_path / "build")
