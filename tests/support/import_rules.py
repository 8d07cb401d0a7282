"""The places of the packages and of csrc/cuda, and which of them may import which.

A place may import itself and the places named beside it, directly. Modules that are not yet in the folder of their
place are named one by one. `import_exceptions.txt` lists the imports that break a rule today; it may only shrink.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """modules: names, or folders as "name.*", without the package. imports: places of the package that it may see."""

    modules: tuple[str, ...]
    imports: tuple[str, ...] = ()


KERNELS = {
    "rules": Place(
        (
            "rules", "ema", "sharding", "validate", "normalize", "recompute", "checkpoint_regions",
            "transforms", "_not_built",
        )
    ),
    "margins": Place(
        ("margins", "margins.*", "_old_names"),
        ("rules",),
    ),
    "ops": Place(
        (
            "ops", "ops.*", "checks", "workspace",
        ),
        ("rules", "margins"),
    ),
    "functional": Place(
        ("functional", "fused_sgd", "info", "reference"), ("rules", "margins", "ops")
    ),
    "mapped": Place(
        ("mapped", "mapped.*"),
        ("rules", "margins", "ops", "functional"),
    ),
    "class_parallel": Place(("class_parallel", "class_parallel.*"), ("rules", "margins", "ops", "functional")),
    "resharding": Place(("resharding", "resharding.*"), ("rules",)),
    "public": Place(("",), ("rules", "margins", "ops", "functional", "mapped", "class_parallel", "resharding")),
}  # fmt: skip

FILES = ("files",)  # locks and atomic writes: what every place may use
LOSSES = ("placement", "centres", "engines", "loss", "heads", "losses")
LOSS = {
    "placement": Place(
        ("losses.protocols", "losses.fsdp", "losses.placement", "losses.replicated"), ("baskets",)
    ),
    "centres": Place(
        ("losses.arguments", "losses.centres", "losses.class_means", "losses.resize_parameter"),
        ("baskets", "placement"),
    ),
    "engines": Place(
        (
            "functional", "losses.graph_numbers", "losses.parallel", "losses.sampled_gradient", "losses.sampling",
            "losses.statistics",
        ),
        ("baskets", "placement", "centres"),
    ),
    "loss": Place(("losses.basket",), ("baskets", "linking", "placement", "centres", "engines")),
    "heads": Place(
        ("losses.one_dataset", "losses.single", "losses.single_adaptive"),
        ("baskets", "placement", "centres", "engines", "loss"),
    ),
    "losses": Place(("losses",), ("placement", "centres", "engines", "loss", "heads")),
}  # fmt: skip
ABOVE = (
    "public", "baskets", "matching", "linking", *LOSSES, "optim", "data", "evaluation", "overlaps", "checkpoint",
    *FILES,
)  # fmt: skip
SOFTMAX = {
    "files": Place(("file_lock", "replacing", "atomic_write")),
    "baskets": Place(("baskets", "layout")),
    "matching": Place(("matching", "matching.*"), ("baskets",)),
    "linking": Place(("linking", "linking.*"), ("baskets", "matching")),
    **LOSS,
    "optim": Place(("optim",), ("baskets", *LOSSES)),
    "data": Place(("data", "data.*"), ("baskets", *FILES)),
    "evaluation": Place(("evaluation", "evaluation.*"), ("baskets", *FILES)),
    "overlaps": Place(("overlaps", "overlaps.*"), ("baskets", "matching", *LOSSES, "data", *FILES)),
    "checkpoint": Place(("checkpoint", "checkpoint.*"), ("baskets", *LOSSES, "optim", *FILES)),
    "compat": Place(("compat", "compat.*"), ("baskets", *LOSSES, "optim")),
    "embedding": Place(
        ("embedding", "embedding.*"), ("baskets", *LOSSES, "data", "evaluation", "checkpoint", *FILES)
    ),
    "public": Place(("",), ("baskets", "linking", *LOSSES, "optim")),
    "demo": Place(("demo", "demo.*"), ABOVE),
    "training": Place(("training", "training.*"), ABOVE),
    "cli": Place(("cli", "cli.*", "__main__"), (*ABOVE, "compat", "embedding", "demo", "training")),
}  # fmt: skip

# Of csrc/cuda, from each folder the folders that it may include; common is open to all.
CUDA = {
    "abi": (),
    "gemm": ("abi",),
    "forward": ("abi", "gemm"),
    "backward": ("abi", "gemm"),
    "plan": ("abi",),
    "runtime": ("abi", "plan"),
}
CUDA_FILES = {  # of the files that do not stand in a folder yet: the folder where they belong
    "abi": (
        "params.h", "margin_params.h", "backward_params.h", "dense_params.h", "sort_params.h", "tile_shape.h",
        "sweep_shared.h", "backward_rows_plan.h",
    ),
    "gemm": (
        "tile_layout.cuh", "tile_load.cuh", "tile_staging.cuh", "mma_loop.cuh", "simt_loop.cuh", "gemm_range.cuh",
        "operand.cuh", "ptx.cuh", "elements.cuh", "lane_row.cuh", "block_scan.cuh", "last_not_after.cuh",
    ),
    "forward": (
        "cos_lse_sweep.cuh", "sweep_epilogue.cuh", "sweep_state.cuh", "nearest_centres.cuh", "topk_list.cuh",
        "prepare_rows.cuh", "order_rows.cuh", "merge_splits.cuh", "merge_margin.cuh",
    ),
    "backward": (
        "backward_pairs.cuh", "coefficients.cuh", "dense_tiles.cuh", "finish_rows.cuh", "gradient_classes.cuh",
        "gradient_rows.cuh", "normalize_classes.cuh", "row_gradient.cuh", "sort_pairs.cuh",
    ),
    "plan": (
        "plan.h", "backward_plan.h", "sort_plan.h", "forward_call.h", "backward_call.h", "check_call.h",
    ),
}  # fmt: skip
