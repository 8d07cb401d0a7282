"""What tests/ptx passes to the ops with BBS_EXECUTOR=device, on the CPU ops, which take the same arguments."""

from __future__ import annotations

import cases
import device
import pytest
from backward_executor import Backward
from executor import Forward
from test_backward import agree as gradients_agree
from test_backward import upstream
from test_forward import RULES, TYPES, agree

pytestmark = pytest.mark.ptx


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("kind", "layout", "subcenters"),
    [("fp32", "rows", 1), ("fp32", "columns", 2), ("bf16-w32", "rows", 3), ("bf16", "columns", 2)],
)
def test_offsets_of_sub_centres_are_those_of_classes(monkeypatch, kind, layout, subcenters, rule) -> None:
    """They came multiplied, as the kernels take them: every case of several centres was refused by the op."""
    operand, w_bytes = TYPES[kind]
    p = cases.planted(operand, 20, 48, [47, 0, 13], subcenters=subcenters, **RULES[rule])
    cases.with_aliases(p, 20)
    options = {"w_bytes": w_bytes, "transposed": layout == "columns", "w_padding": 3}
    agree(p, device.run_forward(Forward(p, operand, **options), "cpu"))
    call = Backward(p, operand, *upstream(20), **options)
    monkeypatch.setattr(call, "run", lambda seed: device.run_backward(call, "cpu"))
    gradients_agree(call)


def test_losses_of_sub_centres() -> None:
    p = cases.planted("fp32", 20, 48, [47, 13], subcenters=2, **RULES["topk"])
    call = Forward(p, "fp32", margin=(1.0, 0.5, 0.1, 0, 0))
    agree(p, device.run_forward(call, "cpu"))
    assert [len(t) for t in call.losses] == [20, 20, 20]
