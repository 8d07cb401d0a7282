"""The main loops and the copies into them meet no bank conflict: every access takes as many wavefronts as its bytes."""

from __future__ import annotations

import cases
import pytest
from executor import Forward
from test_forward import TYPES

from support.chosen import each, pairwise
from support.emulated_gpu.images import ptx_of

pytestmark = pytest.mark.ptx

ONCE_A_TILE = ("sweep_state.cuh", "sweep_epilogue.cuh", "topk_list.cuh")  # the state beside the tiles


@pairwise(of=["bf16", "bf16-w32", "tf32", "fp32"], layout=["rows", "columns"], keep=["resident", "streaming"])
def test_no_bank_conflicts(of, layout, keep):
    operand, w_bytes = TYPES[of]
    check(operand, w_bytes=w_bytes, transposed=layout == "columns", streaming=keep == "streaming")


@each(operand=["tf32", "fp32"], layout=["rows", "columns"])
def test_no_bank_conflicts_word_by_word(operand, layout):
    """Rows of w that do not start on 16 bytes."""
    check(operand, transposed=layout == "columns", w_padding=1)


def check(operand, **options):
    p = cases.planted(operand, 128, 64, [256], rule="own")
    call = Forward(p, operand, multiprocessors=1, **options)
    call.run()
    symbol = call.launched("cos_lse_sweep")[0].symbol
    call.run(mutated={symbol: ptx_of(symbol, f"sm_{call.gpu.arch}")})  # with lines of the sources
    sites = {
        f"{source}: {instruction}": (mean, ideal)
        for (_, instruction, source), (_, mean, ideal) in call.launched("cos_lse_sweep")[0].stats.bank.items()
        if not any(name in (source or "") for name in ONCE_A_TILE)
    }
    assert len(sites) > 10
    assert not {site: v for site, v in sites.items() if v[0] > v[1]}
