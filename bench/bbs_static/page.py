"""The generated parts of the documentation: docs/static-report.md, and two tables inside docs/cuda.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .gate import Finding
from .grids import KERNELS, Fill
from .kernels import BASELINE
from .results import REFERENCE, Row
from .roofline import Point

COMMAND = "python bench/static_report.py --docs"
ROOFLINE_MARKS = ("<!-- roofline: begin, written by bench/static_report.py -->", "<!-- roofline: end -->")
GRID_MARKS = ("<!-- grids: begin, written by bench/static_report.py -->", "<!-- grids: end -->")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; every column but the first is aligned right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _rate(part: float | None, whole: float | None) -> str:
    return "–" if part is None or whole is None else "0" if part == whole else f"{part - whole:g}"


def report_page(rows: list[Row], findings: list[Finding], versions: dict[str, str]) -> str:
    arches = list(dict.fromkeys(row.arch for row in rows))
    tools = ", ".join(f"{name} {version}" for name, version in versions.items())
    missed = [f for f in findings if not f.holds]
    parts = [
        "# Static report of the CUDA kernels\n",
        f"Written by `{COMMAND}`; do not edit. {tools}.\n",
        "Nothing on this page was timed: it is read from the machine code that nvcc made, without a GPU. Issue "
        "cycles are what one warp needs for an iteration of its main loop by the schedule that the compiler "
        "encoded, if every operand is there in time; cuxray has checked that encoding against hardware up to "
        "sm_90, so the figures for sm_100 and sm_120 rest on it being unchanged. "
        "[The CUDA kernels](cuda.md) explains the design.\n",
        "## Gate\n",
        f"{len(findings)} bounds, {len(missed)} missed.\n",
    ]
    if missed:
        parts.append(
            table(
                ("kernel", "arch", "what", "value", "bound", "reason"),
                [(f.kernel, f.arch, f.what, f.value, f"≤ {f.bound}", f.reason) for f in missed],
            )
        )
    parts += [
        "Per arch, the worst issue cycles per HMMA against CUTLASS's 128×128×32 bf16 GEMM (four stages, the same "
        "tile and warps), compiled in the same run:\n",
        _worst_ratios(rows, arches),
        "## Main loops\n",
        "A k-step is 32 bytes of each operand: 32 HMMA of a warp, or 1024 FFMA. The sweeps are the forward, "
        "gradient_rows and gradient_classes the products of the backward. *MMA share*: of the issue cycles, "
        "those of HMMA (FFMA for fp32). *Flops/cycle*: of one warp; the rate of the tensor cores bounds what "
        "several warps reach together. *Conflicts*: shared accesses of the loop that cuxray finds in conflict, "
        "of those it can trace; and wavefronts beyond the fewest, executed. *Sectors*: 32-byte sectors of operand "
        "loads beyond the fewest, executed in the PTX machine, where the addresses are known.\n",
    ]
    for arch in arches:
        parts += [f'=== "{arch}"\n', _indent(_loops([r for r in rows if r.arch == arch]))]
    parts += [
        "## Registers, shared memory, occupancy\n",
        f"Shared memory and blocks per multiprocessor are those of a launch at D = {REFERENCE.dim}; where a "
        "resident x does not fit, at the width D that does (the launch plan then streams x at 512).\n",
    ]
    for arch in arches:
        parts += [f'=== "{arch}"\n', _indent(_resources([r for r in rows if r.arch == arch]))]
    parts += [
        "## Bytes, computed\n",
        f"From the launch plan for B = {REFERENCE.rows}, C = {REFERENCE.classes:,}, one basket: one sweep, or one "
        "product of a backward over all its runs. *Asked for*: by the blocks, of L2. *Minimum*: operands and outputs "
        "once. Every block of 128 rows reads w; every 128 columns of D of a product read the coefficients; blocks that "
        "walk the same tiles at the same time are answered by L2, which is not counted here.\n",
        _bytes([r for r in rows if r.arch == "sm_90" or "sm_90" not in arches]),
    ]
    return "\n".join(parts)


def _indent(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def _worst_ratios(rows: list[Row], arches: list[str]) -> str:
    groups = (
        ("16-bit W, no norms", 1.1, lambda n: "no norms" in n),
        ("16-bit W", 1.3, lambda n: n.startswith("sweep") and "fp32 W" not in n and "no norms" not in n),
        ("fp32 W, converted", 1.5, lambda n: n.startswith("sweep") and "fp32 W" in n),
        ("products of the backward", 1.1, lambda n: n.startswith("gradient_")),
    )
    lines: list[Sequence[object]] = []
    for arch in arches:
        base = next(r for r in rows if r.arch == arch and r.kernel == BASELINE)
        found = [(r.kernel, r.ratio_to_cutlass) for r in rows if r.arch == arch and r.ratio_to_cutlass]
        worst = [max((v for n, v in found if chosen(n)), default=None) for _, _, chosen in groups]
        lines.append(
            (arch, base.cycles_per_iteration, _number(base.cycles_per_multiply), *map(_number, worst))
        )
    head = ("arch", "CUTLASS cycles per iteration", "per HMMA", *(f"{n} (≤ {b})" for n, b, _ in groups))
    return table(head, lines)


def _loops(rows: list[Row]) -> str:
    head = (
        "kernel",
        "cycles/k-step",
        "MMA share",
        "flops/cycle",
        "cycles/MMA",
        "÷ CUTLASS",
        "conflicts",
        "sectors",
    )
    return table(
        head,
        [
            (
                r.kernel,
                _number(r.cycles_per_k_step, 1),
                f"{r.multiply_share:.0%}" if r.multiply_share is not None else "–",
                _number(r.flops_per_cycle, 0),
                _number(r.cycles_per_multiply),
                _number(r.ratio_to_cutlass),
                _conflicts(r),
                _rate(r.executed_sectors, r.ideal_sectors),
            )
            for r in rows
            if r.cycles_per_iteration is not None
        ],
    )


def _conflicts(row: Row) -> str:
    if row.bank_conflicts is None:
        return "–"
    return (
        f"{row.bank_conflicts}/{row.shared_accesses}, {_rate(row.executed_wavefronts, row.ideal_wavefronts)}"
    )


def _resources(rows: list[Row]) -> str:
    head = ("kernel", "registers", "spilled bytes", "shared bytes", "D", "blocks", "occupancy", "limited by")
    return table(
        head,
        [
            (
                r.kernel,
                r.registers,
                r.spilled_bytes,
                r.shared_bytes,
                r.width or "–",
                r.blocks_per_multiprocessor,
                f"{r.occupancy_percent:.0f} %",
                r.occupancy_limit,
            )
            for r in rows
        ],
    )


def _bytes(rows: list[Row]) -> str:
    return table(
        ("kernel", "arch", "D", "Gflop", "asked for, GB", "minimum, GB", "ratio"),
        [
            (
                r.kernel,
                r.arch,
                r.width,
                f"{r.flops / 1e9:.0f}",
                f"{r.requested_bytes / 1e9:.2f}",
                f"{r.minimum_bytes / 1e9:.2f}",
                f"{r.requested_bytes / r.minimum_bytes:.1f}",
            )
            for r in rows
            if r.flops and r.requested_bytes and r.minimum_bytes
        ],
    )


def roofline_table(points: list[Point]) -> str:
    rows = [
        (
            f"{p.gpu.name}, {'bf16' if p.w_bytes == 2 else 'fp32'} W",
            p.problem.rows,
            f"{p.problem.classes:,}",
            "resident" if p.resident else "streaming",
            f"{p.blocks}/{p.blocks_at_once}",
            f"{p.flops / 1e9:,.0f}",
            f"{p.minimum_bytes / 1e9:.2f}",
            f"{p.requested_bytes / 1e9:.2f}",
            f"{p.intensity:.0f}",
            f"{p.memory_ms:.3f}",
            f"{p.tensor_ms:.3f}",
            f"{p.issue_ms:.3f}" if p.issue_ms else "–",
            p.bound,
        )
        for p in points
    ]
    head = ("GPU", "B", "C", "x", "blocks/at once", "Gflop", "min GB", "asked GB", "flop/byte")
    return table((*head, "DRAM ms", "tensor ms", "issue ms", "bound"), rows)


def put_roofline(page: str, points: list[Point]) -> str:
    return _put(page, ROOFLINE_MARKS, roofline_table(points))


def put_grids(page: str, fills: list[Fill]) -> str:
    head = ("GPU", "B", "tiles of a run", *(f"`{kernel}`" for kernel in KERNELS))
    rows = [
        (f.gpu.name, f.rows, f.run_tiles, *(f"{f.shares[kernel]:.0%}" for kernel in KERNELS)) for f in fills
    ]
    return _put(page, GRID_MARKS, table(head, rows))


def _put(page: str, marks: tuple[str, str], text: str) -> str:
    """`page` with a new table between the marks."""
    begin, end = marks
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page lacks the lines {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{text}\n{end}{after}"
