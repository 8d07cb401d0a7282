"""The tables of the page: one function for each kind of item, from its data to Markdown.

`view` holds `device`, `data` of the item, and `peaks`. What the data lack is shown as not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .cells import NOTHING, code, escaped, milliseconds, number, rate, seconds, table
from .floors import Floors, backward_work, floors, forward_work
from .sizes import BY_DEVICE, MIB, PEAKS, Case, Sizes

SHOWN_KERNELS = 12
PEAK_NAMES = {
    "copy": "copy, GB/s read and written",
    "l2": "repeated reads of 24 MiB, GB/s",
    **{name: f"product of 8192³ in {name}, TFLOP/s" for name in PEAKS},
}
# Kernels that multiply, by a part of their names, and the share of the pass's flops that each computes.
PRODUCTS = {
    "sweep": ("forward", 1.0),
    "coefficients": ("backward", 1 / 3),
    "dense_probs": ("backward", 1 / 3),
    "gradient_rows": ("backward", 1 / 3),
    "gradient_classes": ("backward", 1 / 3),
}
View = dict[str, Any]


def facts(view: View) -> Iterator[str]:
    data = view["data"]
    names = [name for name in data if name != "peaks"] or ["GPU", "torch", "commit"]
    yield table("fact | value", "::", [(name, escaped(data.get(name, NOTHING))) for name in names])
    rows = [
        (PEAK_NAMES[name], rate(view["peaks"].get(name), 1e9 if name in ("copy", "l2") else 1e12))
        for name in PEAK_NAMES
    ]
    yield table("peak | measured", ":r", rows)


def build(view: View) -> Iterator[str]:
    attempts = [made for name, made in view["data"].items() if name.startswith("attempt ")]
    rows = [(f"`{made['command']}`", seconds(made["seconds"]), made["exit"]) for made in attempts]
    yield table("command | seconds | exit status", ":rr", rows or [(NOTHING,) * 3])
    installed = view["data"].get("installed")
    if installed:
        yield code("`python -m bbs_kernels.info`", installed["info"])
        sizes = [(f"`{name}`", f"{size / MIB:.1f}") for name, size in installed["libraries"].items()]
        yield table("library | MiB", ":r", sizes)


def tests(view: View) -> Iterator[str]:
    counts = view["data"].get("counts", {})
    rows = [tuple(counts.get(name, NOTHING) for name in ("passed", "failed", "skipped"))]
    yield table("passed | failed | skipped", "rrr", rows)


def steps(view: View) -> Iterator[str]:
    yield from _compared(view, _sizes(view).steps)


def large(view: View) -> Iterator[str]:
    yield (
        "Largest errors of a step against fp64 on the same device, beside what is allowed; gradients by their "
        "relative L2 norm. Each case runs with one run of classes and with many, whose dW must have the same bits."
    )
    yield from _compared(view, _sizes(view).large)


def _compared(view: View, cases: Iterable[Case]) -> Iterator[str]:
    names = {
        "cos_t": "cosine",
        "lse": "log-sum-exp",
        "loss, in units of its bound": "loss / bound",
        "dx": "dX",
        "dw": "dW",
    }
    rows = []
    for case in cases:
        found = view["data"].get(case.name, {})
        figures, plan = found.get("figures", {}), found.get("plan")
        cells = [_figure(figures.get(name)) for name in names]
        verdict = NOTHING if not found else "yes" if found["ok"] else "**no**"
        rows.append((case.name, keeps(plan), *cells, verdict))
    yield table(
        " | ".join(["case", "x", *names.values(), "within bounds"]), "::" + "r" * len(names) + ":", rows
    )


def _figure(pair: list[Any] | None) -> str:
    if pair is None:
        return NOTHING
    error, allowed = pair
    return " / ".join(
        f"{value:.2g}" if isinstance(value, float) else str(value) for value in (error, allowed)
    )


def kernels(view: View) -> Iterator[str]:
    sizes = _sizes(view)
    yield (
        "Times are medians by the device's events; TFLOP/s count the products that a pass cannot do without. Floors "
        "are **computed**, from the peaks above: the flops at the rate of a square product, W (and dW) at the rate of "
        "a copy, and what the tiles ask of L2 at the rate of repeated reads. GB/s: the bytes of the HBM floor over the "
        "time."
    )
    yield table(*_PASSES, [row for case in sizes.timed for row in _passes(view, case, case.name, case.name)])
    yield "### Kernels of a step"
    yield "By torch's profiler, of one step: launches, milliseconds, and TFLOP/s where a kernel multiplies."
    yield table(
        "case | kernel | launches | ms | TFLOP/s", "::rrr",
        [row for case in sizes.timed for row in _kernel_rows(view, case)],
    )  # fmt: skip
    yield "### Resident and streaming rows"
    yield "The launch plan keeps the rows in shared memory where they fit."
    rows = [row for case in sizes.widths for row in _passes(view, case, f"width: {case.name}", case.name)]
    yield table(*_PASSES, rows)
    yield "### Sizes of the workspace"
    rows = []
    for case, size in sizes.workspaces:
        shown = f"{case.name}, {size // MIB} MiB"
        rows += _passes(view, case, f"workspace {size // MIB} MiB: {case.name}", shown)[1:]
    yield table(*_PASSES, rows)


_PASSES = (
    "case | x | pass | ms | TFLOP/s | GB/s | tensor floor, ms | HBM floor, ms | L2 floor, ms", ":::rrrrrr",
)  # fmt: skip


def _passes(view: View, case: Case, key: str, shown: str) -> list[tuple[Any, ...]]:
    """A row for the forward and one for the backward, with their floors."""
    found = view["data"].get(key, {})
    rows = []
    for name, work in (("forward", forward_work(case)), ("backward", backward_work(case))):
        took = found.get(name)
        floor: Floors = floors(work, case.kind, view["peaks"])
        rows.append(
            (
                shown, keeps(found.get("plan")), name, milliseconds(took), rate(_per(work.flops, took), 1e12),
                rate(_per(work.hbm_bytes, took), 1e9), *map(milliseconds, floor),
            )
        )  # fmt: skip
    return rows


def _kernel_rows(view: View, case: Case) -> list[tuple[Any, ...]]:
    found = view["data"].get(case.name, {}).get("kernels") or [{"name": NOTHING, "launches": NOTHING}]
    flops = {"forward": forward_work(case).flops, "backward": backward_work(case).flops}
    rows = []
    for kernel in found[:SHOWN_KERNELS]:
        took = kernel.get("seconds")
        product = next((of for part, of in PRODUCTS.items() if part in kernel["name"]), None)
        speed = "–" if product is None else rate(_per(flops[product[0]] * product[1], took), 1e12)
        rows.append((case.name, escaped(kernel["name"]), kernel["launches"], milliseconds(took), speed))
    return rows


def peers(view: View) -> Iterator[str]:
    yield (
        "Forward and backward of one step, interleaved in one process. × ours: the median over the rounds of a "
        "provider's time over that of bbs-kernels. Extra MiB: the peak beside inputs and gradients."
    )
    rows = []
    for name, dtype in _sizes(view).peers:
        found = view["data"].get(f"{name}, {dtype}", {})
        shown = f"{name}, {dtype}"
        for row in found.get("timings", [{"provider": NOTHING}]):
            spread = " – ".join(milliseconds(row.get(key)) for key in ("lower_quartile", "upper_quartile"))
            rows.append(
                (
                    shown, row["provider"], milliseconds(row.get("median")),
                    NOTHING if row.get("median") is None else spread,
                    number(row.get("ratio"), ".2f"), number(row.get("extra_mib"), ".0f"),
                )
            )  # fmt: skip
        rows += [
            (shown, provider, escaped(reason), "", "", "") for provider, reason in found.get("left_out", [])
        ]
    yield table("case | provider | median, ms | quartiles, ms | × ours | extra MiB", "::rrrr", rows)


def most_classes(view: View) -> Iterator[str]:
    rows = [row for case in _sizes(view).most_classes for row in _passes(view, case, case.name, case.name)]
    yield table(*_PASSES, rows)


def sanitizer(view: View) -> Iterator[str]:
    found = view["data"] or {tool: {} for tool in ("memcheck", "racecheck")}
    rows = [
        (tool, made.get("exit", NOTHING), escaped("; ".join(made.get("summary", [])) or NOTHING))
        for tool, made in found.items()
    ]
    yield table("tool | exit status | summary", ":r:", rows)


def graphs(view: View) -> Iterator[str]:
    graph = view["data"].get("graph", {})
    same = graph.get("same") if graph.get("replayed") else None
    row = (
        NOTHING if same is None else "yes" if same else "**no**",
        milliseconds(graph.get("eager")),
        milliseconds(graph.get("replay")),
    )
    yield table("replay has the step's bits | eager step, ms | replay, ms", ":rr", [row])


def compiled(view: View) -> Iterator[str]:
    yield f"Compiled and run: {escaped(view['data'].get('result', NOTHING))}."
    if view["data"].get("told"):
        yield code("What torch says about graphs", view["data"]["told"])


def train(view: View) -> Iterator[str]:
    rows = []
    for key, shown in (("loop", "a loop under autocast"), ("command", "`bbs train`")):
        found = view["data"].get(key, {})
        losses = found.get("losses") or (None, None)
        rows.append((shown, found.get("steps", NOTHING), *(number(loss, ".4g") for loss in losses)))
    yield table("training | steps | first loss | last loss", ":rrr", rows)


def keeps(plan: dict[str, Any] | None) -> str:
    return NOTHING if plan is None else "resident" if plan["resident"] else "streaming"


def _sizes(view: View) -> Sizes:
    return BY_DEVICE[view["device"]]


def _per(amount: float, took: float | None) -> float | None:
    return amount / took if took else None
