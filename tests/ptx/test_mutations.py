"""Each barrier and each wait of the sweep is needed, and the tests would notice its loss: every one is taken out of the
compiler's PTX in turn, and the machine must object, or the result must be wrong."""

from __future__ import annotations

import functools
import re

import cases
import ptxvm
import pytest
from executor import Forward, ptx
from test_forward import TYPES, agree

pytestmark = [pytest.mark.ptx, pytest.mark.slow]

SYNC = re.compile(r"^\s*(@%p\d+ )?(bar(rier)?\.(sync|cta\.sync|red|cta\.red)\S*|cp\.async\.wait_\w+)")
RED = re.compile(r"(?:bar|barrier)\S*red\S*\.pred\s+(%p\d+), \d+, (?:\d+, )?(%p\d+);")
VARIANTS = {
    "bf16-resident": ("bf16", False),
    "bf16-streaming": ("bf16", True),
    "bf16-w32-streaming": ("bf16-w32", True),
    "fp32-streaming": ("fp32", True),
}


@functools.cache
def call(variant: str) -> Forward:
    kind, streaming = VARIANTS[variant]
    operand, w_bytes = TYPES[kind]
    dim = 160 if operand == "bf16" else 80  # five k-tiles: more than stages
    p = cases.with_aliases(cases.planted(operand, 30, dim, [140, 33, 300], rule="topk", k=5, skip=1), 40)
    return Forward(p, operand, w_bytes=w_bytes, streaming=streaming, multiprocessors=1)


@functools.cache
def sweep_lines(variant: str) -> tuple[list[str], list[int]]:
    """The PTX, and the lines of the sweep that synchronise."""
    made = call(variant)
    lines = ptx(made.source, made.arch).splitlines()
    start = next(i for i, line in enumerate(lines) if ".entry" in line and "cos_lse_sweep" in line)
    end = next(i for i in range(start, len(lines)) if lines[i] == "}")
    return lines, [i for i in range(start, end) if SYNC.match(lines[i])]


def without(lines: list[str], at: int) -> str:
    red = RED.search(lines[at])
    # A barrier that also reduces leaves each thread with its own predicate.
    replacement = "" if red is None else f"mov.pred {red[1]}, {red[2]};"
    return "\n".join([*lines[:at], replacement, *lines[at + 1 :]])


def sites() -> list:
    found = []
    for variant in VARIANTS:
        try:
            lines, where = sweep_lines(variant)
        except (FileNotFoundError, OSError):  # no compiler: the tests are skipped anyway
            continue
        found += [
            pytest.param(variant, n, id=f"{variant}-{n}-{lines[i].split()[0].rstrip(';')}")
            for n, i in enumerate(where)
        ]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_unchanged(variant, seed):
    made = call(variant)
    agree(made.p, made.run(seed=seed))


@pytest.mark.parametrize(("variant", "site"), sites())
def test_every_barrier_and_wait_is_needed(variant, site):
    lines, where = sweep_lines(variant)
    made = call(variant)
    text = without(lines, where[site])
    for seed in (0, 1, 2, 3):
        try:
            got = made.run(seed=seed, sweep_text=text)
            agree(made.p, got)
        except (ptxvm.PTXError, AssertionError):
            return
    pytest.fail(f"nothing notices that line {where[site] + 1} is gone: {lines[where[site]].strip()}")
