"""Compiles the loss with mode="reduce-overhead" and runs it a few times; torch's logs say what became of CUDA graphs.

python -m bbs_gpu.compiled DEVICE
"""

from __future__ import annotations

import sys

import torch

from support.large_cases import losses_of, make_problem, rule_of

from .device import Device

RUNS = 4  # graphs are recorded in the second one


def main(name: str) -> None:
    device = Device(name)
    case = device.sizes.graph
    forward, leaves = losses_of(make_problem(case, name), rule_of(case))
    want = torch.autograd.grad(forward().sum(), leaves)
    function = torch.compile(forward, mode="reduce-overhead")
    for _ in range(RUNS):
        got = torch.autograd.grad(function().sum(), leaves)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)
    seconds = device.seconds(lambda: torch.autograd.grad(function().sum(), leaves), device.sizes.repeats)
    print("compiled: the same gradients" + ("" if seconds is None else f", {1e3 * seconds:.3f} ms a step"))


if __name__ == "__main__":
    main(sys.argv[1])
