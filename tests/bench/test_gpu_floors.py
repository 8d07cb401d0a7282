"""Floors of a GPU's report against figures computed by hand, and what the report reads from a profiler's trace."""

from __future__ import annotations

import pytest
import torch

from bbs_gpu.device import Device
from bbs_gpu.floors import backward_work, floors, forward_work
from bbs_gpu.sizes import GPU, REHEARSAL, Case
from bbs_gpu.tables import kernels
from bbs_gpu.timing import kernels_of, short_name, summarise

PEAKS = {"copy": 4.3e12, "l2": 5.5e12, "bf16": 788e12}


@pytest.mark.parametrize(
    ("kind", "rows", "baskets", "forward", "backward"),
    [
        ("bf16, fp32 W", 1024, 1, (1.33, 0.48, 2.98), (3.99, 0.95, 11.2)),
        ("bf16", 1024, 1, (1.33, 0.24, 1.49), (3.99, 0.48, 9.7)),
        ("bf16, fp32 W", 1024, 4, (1.33, 0.48, 2.98), (1.00, 0.95, 2.8)),
        ("bf16, fp32 W", 4096, 1, (5.32, 0.48, 11.9), (16.0, 0.95, 44.7)),
    ],
)
def test_floors(kind, rows, baskets, forward, backward):
    """Milliseconds at D = 512 and a million classes, each from the shapes alone."""
    case = Case(kind, rows, 512, 1_000_000, baskets)
    for work, want in ((forward_work(case), forward), (backward_work(case), backward)):
        got = [1e3 * value for value in floors(work, kind, PEAKS)]
        assert got == pytest.approx(want, rel=0.01)


def test_a_floor_without_its_peak_is_none():
    case = Case("fp32", 8, 512, 1000, 1)
    assert floors(forward_work(case), case.kind, PEAKS)[0] is None
    assert floors(forward_work(case), case.kind, {}) == (None, None, None)


def test_a_trace_is_summed_by_kernel():
    event = {"ph": "X", "cat": "kernel", "name": "void bbs::cuda::coefficients<A<1>, 2>(Params)", "dur": 1500}
    events = [
        event,
        event,
        {**event, "cat": "cpu_op"},
        {**event, "ph": "i"},
        {**event, "name": "order_rows", "dur": 1},
    ]
    assert summarise(events, Device("cuda")) == [
        {"name": "coefficients", "launches": 2, "seconds": pytest.approx(3e-3)},
        {"name": "order_rows", "launches": 1, "seconds": pytest.approx(1e-6)},
    ]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (
            "void bbs::cuda::cos_lse_sweep<bbs::cuda::SweepTypes<T<Bf16, 4, false>, true, true>>(P)",
            "cos_lse_sweep",
        ),
        ("gradient_rows_bf16", "gradient_rows_bf16"),
        (
            "void at::native::vectorized_elementwise_kernel<4, (lambda)#1>(int)",
            "vectorized_elementwise_kernel",
        ),
        ("Memcpy HtoD (Pageable -> Device)", "Memcpy HtoD"),
    ],
)
def test_names_of_kernels(name, short):
    assert short_name(name) == short


def test_a_rehearsal_counts_launches_and_times_nothing():
    found = kernels_of(lambda: torch.ones(3).add(1).add(1), Device("cpu"))
    adds = next(entry for entry in found if entry["name"] == "add")
    assert adds == {"name": "add", "launches": 2, "seconds": None}
    assert Device("cpu").seconds(lambda: None, 3) is None


def test_the_page_computes_rates_from_the_report():
    case = GPU.timed[0]
    flops = 2 * case.rows * case.classes * case.width
    timed = {
        "forward": 1e-3, "backward": 2e-3, "plan": {"resident": True, "blocks": 132},
        "kernels": [{"name": "cos_lse_sweep", "launches": 1, "seconds": 5e-4}],
    }  # fmt: skip
    view = {"device": "cuda", "peaks": PEAKS, "data": {case.name: timed}}
    text = "\n".join(kernels(view))
    assert f"| {case.name} | resident | forward | 1.000 | {flops / 1e9:.1f} |" in text
    assert f"| {case.name} | cos_lse_sweep | 1 | 0.500 | {flops / 5e-4 / 1e12:.1f} |" in text
    assert f"{1e3 * flops / 788e12:.3f}" in text  # the tensor floor


def test_both_devices_have_the_same_kinds_of_cases():
    for name in ("steps", "large", "timed"):
        real, small = ({case.kind for case in getattr(sizes, name)} for sizes in (GPU, REHEARSAL))
        assert real == small
