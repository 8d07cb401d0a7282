"""Large cases beside fp64 on the GPU: those of the report, with the same code and bounds."""

from __future__ import annotations

import pytest

from bbs_gpu.sizes import GPU, Case
from support.large_cases import compare


@pytest.mark.parametrize("case", GPU.large, ids=lambda case: case.name)
def test_a_step_agrees_with_fp64(case: Case) -> None:
    assert not compare(case, "cuda").failures
