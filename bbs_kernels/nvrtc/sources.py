"""Which headers and template instantiations the kernels of a plan need. The names are those of csrc/cuda."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INCLUDE = Path(__file__).resolve().parent.parent / "include" / "cuda"  # installed from csrc by the build
OPERANDS = {0: "Bf16", 1: "Fp16", 2: "Tf32", 3: "Fp32"}  # Operand of csrc/cuda/plan.h

FORWARD = """\
#include "cos_lse_sweep.cuh"
#include "merge_margin.cuh"
#include "merge_splits.cuh"
#include "order_rows.cuh"
#include "prepare_rows.cuh"
"""

BACKWARD = """\
#include "backward_pairs.cuh"
#include "coefficients.cuh"
#include "finish_rows.cuh"
#include "gradient_classes.cuh"
#include "gradient_rows.cuh"
#include "normalize_classes.cuh"
#include "order_rows.cuh"
#include "prepare_rows.cuh"
#include "sort_pairs.cuh"
"""
UNTYPED = (
    "order_rows",
    "row_scale",
    "count_digits",
    "scan_digits",
    "scatter_digits",
    "gather_pairs",
    "find_baskets",
)


def tile_types(operand: int, w_bytes: int, w_transposed: bool) -> str:
    """The C++ type that says what a main loop multiplies."""
    flag = str(w_transposed).lower()
    return f"bbs::cuda::TileTypes<bbs::cuda::{OPERANDS[operand]}, {w_bytes}, {flag}>"


def sweep_types(types: str, plan: dict[str, Any]) -> str:
    """The C++ type that says how a plan's tiles are loaded and reduced. A backward plan has no resident rows."""
    resident, vectors = (str(plan.get(name, False)).lower() for name in ("resident", "vectors"))
    if plan["several"]:
        return f"bbs::cuda::SubcenterTypes<{types}, {vectors}>"
    return f"bbs::cuda::SweepTypes<{types}, {resident}, {vectors}>"


def forward_kernels(operand: int, w_bytes: int, plan: dict[str, Any]) -> dict[str, str]:
    """Short name to C++ name, for each kernel of a forward `plan` (`_core.plan_forward`), in launch order.

    The last two are alternatives in one program, so that a loss with and one without the fused margin share it.
    """
    types = tile_types(operand, w_bytes, plan["w_transposed"])
    return {
        "prepare_rows": f"bbs::cuda::prepare_rows<{types}>",
        "order_rows": "bbs::cuda::order_rows",
        "cos_lse_sweep": f"bbs::cuda::cos_lse_sweep<{sweep_types(types, plan)}>",
        "merge_splits": "bbs::cuda::merge_splits",
        "merge_margin": "bbs::cuda::merge_margin",
    }


def backward_kernels(operand: int, w_bytes: int, plan: dict[str, Any]) -> dict[str, str]:
    """Short name to C++ name, for each kernel that a backward `plan` (`_core.plan_backward`) launches."""
    types = tile_types(operand, w_bytes, plan["w_transposed"])
    op = f"bbs::cuda::{OPERANDS[operand]}"
    return {
        **{name: f"bbs::cuda::{name}" for name in UNTYPED},
        "prepare_rows": f"bbs::cuda::prepare_rows<{types}>",
        "backward_pairs": f"bbs::cuda::backward_pairs<{types}, {plan['lane_values']}>",
        "coefficients": f"bbs::cuda::coefficients<{sweep_types(types, plan)}>",
        "normalize_classes": f"bbs::cuda::normalize_classes<{types}>",
        "gradient_rows": f"bbs::cuda::gradient_rows<bbs::cuda::GemmTypes<{op}>>",
        "gradient_classes": f"bbs::cuda::gradient_classes<{types}>",
        "finish_rows": f"bbs::cuda::finish_rows<{op}>",
    }
