"""The main loops and the copies into them meet no bank conflict: every access takes as many wavefronts as its bytes."""

from __future__ import annotations

import cases
import pytest
from executor import Forward

pytestmark = pytest.mark.ptx

ONCE_A_TILE = ("sweep_state.cuh", "sweep_epilogue.cuh", "topk_list.cuh")  # the state beside the tiles


@pytest.mark.parametrize("keep", ["resident", "streaming"])
@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize(("operand", "w_bytes"), [("bf16", 2), ("bf16", 4), ("tf32", 4), ("fp32", 4)])
def test_no_bank_conflicts(operand, w_bytes, layout, keep):
    check(operand, w_bytes=w_bytes, transposed=layout == "columns", streaming=keep == "streaming")


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("operand", ["tf32", "fp32"])
def test_no_bank_conflicts_word_by_word(operand, layout):
    """Rows of w that do not start on 16 bytes."""
    check(operand, transposed=layout == "columns", w_padding=1)


def check(operand, **options):
    p = cases.planted(operand, 128, 64, [256], rule="own")
    call = Forward(p, operand, multiprocessors=1, **options)
    call.run()
    sites = {
        f"{source}: {instruction}": (mean, ideal)
        for (_, instruction, source), (_, mean, ideal) in call.stats["cos_lse_sweep"].bank.items()
        if not any(name in (source or "") for name in ONCE_A_TILE)
    }
    assert len(sites) > 10
    assert not {site: v for site, v in sites.items() if v[0] > v[1]}
