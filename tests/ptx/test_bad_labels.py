"""A label out of range makes its row NaN and is told later: by `check_labels`, or by the next call."""

from __future__ import annotations

import re

import cases
import numpy as np
import pytest
import torch
from executor import ARCH, ON_DEVICE, Forward, label_report
from oracle import Problem

from bbs_kernels import _core
from support.emulated_gpu.images import ptx_of, shipped_ptx

pytestmark = pytest.mark.ptx

MESSAGE = "labels of an earlier call: expected 0 to 69 or ignore_index, got {}; the loss of its row was NaN"


def problem(*labels: int) -> Problem:
    p = cases.planted("fp32", 5, 16, [30, 40], rule="own")
    p.labels = np.array([*labels, 5, 40, 69, 29, 0][:5], np.int64)
    return p


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (70, "70"),
        (-7, "-7"),
        (2**31, "2147483648"),
        (2**32 - 3, "4294967293"),
        (2**32 - 2, "4294967294 or more"),  # what 33 bits hold
        (2**32, "4294967294 or more"),
        (2**63 - 1, "4294967294 or more"),
        (1 - 2**32, "-4294967295"),
        (-(2**32), "-4294967296 or less"),
        (-(2**63), "-4294967296 or less"),
    ],
)
def test_check_labels_tells_the_label(label: int, told: str) -> None:
    call = Forward(problem(label), "fp32")
    out = call.run()
    assert call.report == MESSAGE.format(told)
    assert np.isnan(out.lse).tolist() == np.isnan(out.cos_t).tolist() == [True, False, False, False, False]


def test_one_of_several_is_told_and_then_forgotten() -> None:
    call = Forward(problem(-9, 70, 2**40), "fp32")
    call.run()
    assert call.report in [MESSAGE.format(told) for told in ("-9", "70", "4294967294 or more")]
    with call.gpu.run() as ops:
        assert label_report(ops) is None


def test_the_next_call_tells_it_before_it_does_anything() -> None:
    """And needs not wait for that: the label is in memory of the host."""
    bad, good = (Forward(p, "fp32").arguments() for p in (problem(70), problem()))
    names = ("x", "w", "labels", "offsets", "ignore_index")
    gpu = Forward(problem(), "fp32").gpu
    with gpu.run() as ops:
        ops.target_cos(**{name: bad[name] for name in names})
        if ON_DEVICE:
            torch.cuda.synchronize()
        launched = len(gpu.launches)
        with pytest.raises(RuntimeError, match=re.escape(MESSAGE.format(70))):
            ops.target_cos(**{name: good[name] for name in names})
        assert len(gpu.launches) == launched == 1
        assert ops.target_cos(**{name: good[name] for name in names}).isfinite().all()
        assert label_report(ops) is None


@pytest.mark.skipif(ON_DEVICE, reason="looks at the PTX")
def test_the_word_is_written_by_one_store() -> None:
    """Two stores, of a label and of a count, could be read between them: a label of one call, a count of another."""
    for kernel in _core.cuda_kernels():
        if kernel["kernel"] != "prepare_rows" or kernel["operand"] != "fp32":
            continue
        text = shipped_ptx(kernel["symbol"], ARCH) or ptx_of(kernel["symbol"], f"sm_{ARCH}")
        volatile = re.findall(r"\bst\.volatile\.\S+", text)
        assert volatile, kernel["symbol"]
        assert {re.search(r"\d+$", store)[0] for store in volatile} == {"64"}, volatile
