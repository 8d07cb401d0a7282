"""Beside a CUDA build of torch the package loads, with every symbol resolved, and the ops have both bodies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

OPS = ("cos_lse", "margin_softmax", "cos_lse_backward", "target_cos")
PROGRAM = f"""
import torch, bbs_kernels, bbs_kernels.info, basket_softmax as bs
print("imported")
for op in {OPS!r}:
    for key in ("CPU", "CUDA"):
        print(op, key, torch._C._dispatch_has_kernel_for_dispatch_key("bbs_kernels::" + op, key))
loss = bs.BasketSoftmaxLoss([30, 20], 16)
x = torch.randn(8, 16, requires_grad=True)
loss(x, torch.arange(8)).backward()
bs.check()
print("finite", bool(x.grad.isfinite().all()), "CUDA in use", torch.cuda.is_initialized())
"""

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of torch")


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[str]:
    """What a new process prints; LD_BIND_NOW makes the loader resolve every symbol of every library at once."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**os.environ, "LD_BIND_NOW": "1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


def test_import_resolves_every_symbol(lines):
    assert lines[0] == "imported"


def test_ops_have_a_body_for_each_device(lines):
    assert lines[1:-1] == [f"{op} {key} True" for op in OPS for key in ("CPU", "CUDA")]


def test_cpu_step_leaves_cuda_alone(lines):
    assert lines[-1] == "finite True CUDA in use False"
