"""merge_margin in the PTX machine: the outputs of merge_splits bit for bit, and the rows' losses with derivatives."""

from __future__ import annotations

import cases
import numpy as np
import pytest
import torch
from executor import Forward
from oracle import Problem
from test_forward import GUARDED, RULES, TYPES, agree, guarded

from bbs_kernels.margins import BOUNDARIES, TARGET_GRADS, CombinedMargin, family_arguments
from support.chosen import each, pairwise
from support.row_losses import FAMILIES, assert_rows

pytestmark = pytest.mark.ptx


def check(p: Problem, kind: str, margin: CombinedMargin, seed: int = 0, **options) -> Forward:
    operand, w_bytes = TYPES[kind]
    call = Forward(p, operand, w_bytes=w_bytes, margin=tuple(family_arguments(margin)), **options)
    got = call.run(seed=seed)
    agree(p, got)
    rows = (torch.from_numpy(np.asarray(v)) for v in (*call.losses, got.lse, got.cos_t))
    assert_rows(*rows, margin, p.scale)
    plain = Forward(p, operand, w_bytes=w_bytes, **options).run(seed=seed)
    for name in ("lse", "cos_t", "mined_idx", "mined_cos"):
        np.testing.assert_array_equal(getattr(got, name), getattr(plain, name))
    return call


@each(kind=TYPES, rule=RULES)
def test_types_and_rules(kind, rule):
    """Three splits, partial tiles, an empty basket, cosines of 1 and -1."""
    p = cases.planted(TYPES[kind][0], 20, 48, [130, 0, 25, 61], **RULES[rule])
    check(p, kind, CombinedMargin(1.0, 0.5, 0.0))


@pairwise(family=FAMILIES, boundary=BOUNDARIES, target_grad=TARGET_GRADS)
def test_the_family(family, boundary, target_grad):
    p = cases.planted("fp32", 24, 16, [40, 31], rule="topk", k=3, skip=1)
    check(p, "fp32", CombinedMargin(*family, boundary, target_grad))


@pytest.mark.parametrize("rule", GUARDED)
def test_guards(rule):
    check(
        guarded(cases.planted("bf16", 12, 40, [60, 35, 50], **GUARDED[rule])),
        "bf16",
        CombinedMargin(1.1, 0.3, 0.1),
    )


@each(build=cases.TROUBLED, rule=RULES, family=[(1.0, 0.5, 0.0), (1.35, 0.0, 0.0)])
def test_troubled_rows(build, rule, family):
    check(build("bf16", **RULES[rule]), "bf16", CombinedMargin(*family))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_large_and_small_losses(scale):
    """From saturated rows to perfect ones, whose loss is 0 in fp32."""
    p = cases.planted("fp32", 40, 16, [60, 41], rule="own", scale=scale)
    call = check(p, "fp32", CombinedMargin(1.0, 0.5, 0.0))
    if scale == 1000.0:
        assert max(call.losses[0]) > 1000.0


def test_rows_without_negatives_and_ignored_rows():
    p = cases.planted("fp32", 6, 16, [1, 1, 1], rule="own")
    p.labels[3] = -1
    call = check(p, "fp32", CombinedMargin(1.0, 0.5, 0.0))
    assert not any(values.any() for values in call.losses)


@pytest.mark.parametrize("seed", [1, 2])
def test_schedules(seed):
    p = cases.planted("bf16", 12, 40, [60, 35, 50], rule="topk", k=5, skip=1)
    check(p, "bf16", CombinedMargin(4.0, 0.0, 0.0), seed=seed, multiprocessors=6)


@pytest.mark.parametrize("arch", [80, pytest.param(90, marks=pytest.mark.exhaustive), 120])
def test_architectures(arch):
    p = cases.planted("fp32", 9, 16, [40, 33], rule="topk", k=5, skip=1)
    check(p, "fp32", CombinedMargin(1.35, 0.0, 0.0), arch=arch)
