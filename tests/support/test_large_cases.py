"""The comparison of large cases, small and on the CPU: every kind passes, and what is wrong is found."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

import basket_softmax as bs
from support import large_cases
from support.large_cases import KINDS, compare, make_problem, rounded_to_tf32, run_step


@dataclass(frozen=True)
class Small:
    kind: str = "fp32"
    rows: int = 43
    width: int = 61
    classes: int = 240
    baskets: int = 4


@pytest.mark.parametrize("baskets", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_passes(kind, baskets) -> None:
    outcome = compare(Small(kind, baskets=baskets), "cpu")
    assert not outcome.failures
    expected = {"cos_t", "lse", "loss, in units of its bound", "dx", "dw", "several runs: dx"}
    expected |= {"mined_cos", "mined, against the best"} if baskets > 1 else set()
    assert expected <= outcome.figures.keys()
    assert all(0 <= figure.error <= figure.allowed for figure in outcome.figures.values())


def wrong(field, change):
    """`run_step` with one of its results changed."""

    def run(p, rule, workspace_bytes):
        result = run_step(p, rule, workspace_bytes)
        return result._replace(**{field: change(getattr(result, field).clone())})

    return run


def second(values):
    values.view(-1)[values.numel() // 2] += 1e-2
    return values


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("cos_t", second, "cos_t: error"),
        ("lse", second, "lse: error"),
        ("losses", second, "loss, in units of its bound"),
        ("mined_cos", second, "mined_cos: error"),
        ("mined_idx", lambda idx: idx.flip(2), "mined_cos: error"),
        ("mined_idx", lambda idx: idx.fill_(-1), "other places are filled"),
        ("dx", lambda v: 1.001 * v, "dx: "),
        ("dw", lambda v: 0.999 * v, "dw: "),
        ("dw", lambda v: v * torch.nan, "dw: "),
    ],
)
def test_a_wrong_result_is_found(monkeypatch, field, change, message) -> None:
    monkeypatch.setattr(large_cases, "run_step", wrong(field, change))
    assert any(line.startswith(message) or message in line for line in compare(Small(), "cpu").failures)


def test_a_better_class_that_was_left_is_found(monkeypatch) -> None:
    """Self-consistent, but of a smaller list: the best class was dropped and the next one took its place."""

    def run(p, rule, workspace_bytes):
        return run_step(p, bs.TopK(k=large_cases.MINED, skip=2), workspace_bytes)

    monkeypatch.setattr(large_cases, "run_step", run)
    failures = compare(Small(), "cpu").failures
    assert failures[0].startswith("mined, against the best: error")


def test_problems_have_what_the_rules_look_for() -> None:
    p = make_problem(Small(), "cpu")
    assert (p.labels == -1).any()
    assert len({int(b) for b in p.home()[p.labels >= 0]}) == 4
    w = torch.nn.functional.normalize(p.w.double())
    assert (w[0] @ w[60]) > 0.9
    cos = (torch.nn.functional.normalize(p.x.double()) * w[p.labels.clamp_min(0)]).sum(1)[p.labels >= 0]
    assert cos.min() > 0.1
    assert cos.max() < 0.9  # beyond it the bound on the margin's slope does not hold


def test_tf32_is_rounded_to_nearest() -> None:
    one = 1.0
    step = 2.0**-10
    values = torch.tensor([one + 0.49 * step, one + 0.51 * step, -one - 0.75 * step, 3.5])
    assert rounded_to_tf32(values).tolist() == [one, one + step, -one - step, 3.5]
