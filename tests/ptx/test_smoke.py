"""A few whole steps of the CUDA kernels, for every run of the tests where nvcc is; `make test-ptx` has the rest."""

from __future__ import annotations

import pytest
from test_backward import agree as gradients_agree
from test_backward import planted
from test_forward import check
from test_step import chain


@pytest.mark.parametrize(("kind", "rule"), [("bf16-w32", "topk"), ("fp32", "own")])
def test_step(kind, rule):
    p = planted(kind, 20, 40, [140, 33], rule)
    check(p, kind)
    gradients_agree(chain(p, kind))
