"""The static report without its tools: reading machine code, the kernel table, the gate, the roofline, the pages."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bbs_kernels import _core
from bbs_static import command, gate, grids, images, page, sass, tools
from bbs_static import kernels as table
from bbs_static.binary import measure_loop
from bbs_static.kernels import BASELINE, KERNELS
from bbs_static.plan import Problem, dense_launch_of, launch_of
from bbs_static.results import Row, compare
from bbs_static.roofline import roofline
from bbs_static.traffic import product_traffic, sweep_traffic
from bbs_static.work import PRODUCTS, Dense, Sweep

SAMPLE = Path(__file__).with_name("sample.sass").read_text(encoding="utf-8")
NO_NORMS = "sweep bf16, W by rows, resident, no norms"
CONVERTED = "sweep bf16, fp32 W by rows, resident"
PRODUCT = "gradient_classes bf16, fp32 W by rows"


def row(kernel: str, **changes) -> Row:
    fields = {
        "registers": 200, "spilled_bytes": 0, "shared_bytes": 0, "width": None, "blocks_per_multiprocessor": 1,
        "occupancy_percent": 6.0, "occupancy_limit": "registers", "cycles_per_iteration": 400, "multiplies": 64,
        "cycles_per_multiply": 6.0, "bank_conflicts": 0, "uncoalesced": 0, "mix": {"HMMA": 64, "LDSM": 16},
    }  # fmt: skip
    return Row(kernel, "sm_90", **{**fields, **changes})


def missed(rows: list[Row]) -> list[gate.Finding]:
    compare(rows, BASELINE, KERNELS)
    return [finding for finding in gate.check(rows, KERNELS) if not finding.holds]


def test_functions_and_control_codes():
    functions = sass.parse(SAMPLE)
    assert list(functions) == ["_Z5sweepv", "_Z5emptyv"]
    assert functions["_Z5emptyv"] == [sass.Instruction(0, "EXIT", 5)]
    ldsm, uniform, hmma, forward = functions["_Z5sweepv"][4:8]
    assert (ldsm.opcode, ldsm.stall) == ("LDSM", 1)
    assert (uniform.opcode, uniform.stall, uniform.cycles) == ("UIADD3", 0, 1)  # an issue takes a cycle
    assert (hmma.address, hmma.stall, hmma.target) == (0x60, 3, None)
    assert (forward.opcode, forward.target) == ("BRA", 0x90)


def test_main_loop_is_the_innermost_that_holds_most():
    loop = sass.main_loop(sass.parse(SAMPLE)["_Z5sweepv"], "HMMA")
    assert (loop.start, loop.end) == (0x40, 0xA0)
    assert loop.cycles == 1 + 1 + 3 + 2 + 1 + 8 + 5
    assert (loop.count("HMMA"), loop.cycles_of("HMMA")) == (2, 11)
    assert loop.mix() == {"HMMA": 2, "BRA": 2, "LDSM": 1, "UIADD3": 1, "FFMA": 1}
    assert 0x40 in loop
    assert 0x30 not in loop


def test_no_main_loop_without_the_instruction():
    functions = sass.parse(SAMPLE)
    assert sass.main_loop(functions["_Z5sweepv"], "DMMA") is None
    assert sass.main_loop(functions["_Z5emptyv"], "HMMA") is None


def test_cycles_of_a_loop():
    cycles = measure_loop(sass.main_loop(sass.parse(SAMPLE)["_Z5sweepv"], "HMMA"), "HMMA")
    assert cycles.per_iteration == 21
    assert cycles.k_steps == 2 / 32
    assert cycles.per_multiply == 10.5
    assert cycles.multiply_share == 11 / 21
    assert cycles.flops_per_cycle == 2 * (2 * 16 * 8 * 16) / 21


def test_every_instantiation_is_a_row_of_its_own():
    entries = {entry["symbol"]: entry for entry in _core.cuda_kernels()}
    rows = {kernel.symbol: kernel for kernel in KERNELS.values()}
    assert (
        len(rows) == len(KERNELS) == len(entries) + 2 * 2 * 2 + 1
    )  # without norms: types, layouts, residences
    assert set(entries) <= set(rows)
    for symbol, entry in entries.items():
        assert (rows[symbol].family, rows[symbol].threads) == (entry["family"], entry["threads"])


def test_sweeps_and_products_are_what_the_launcher_can_ask_for():
    sweeps = {kernel.work for kernel in KERNELS.values() if isinstance(kernel.work, Sweep)}
    launched = {s for s in sweeps if s.norms}
    assert len(launched) == 6 * 2 * 5  # types, layouts, ways to load
    assert {s.w_bytes for s in sweeps - launched} == {2}
    dense = [kernel.work for kernel in KERNELS.values() if isinstance(kernel.work, Dense)]
    counts = {name: sum(d.kernel == name for d in dense) for name in {d.kernel for d in dense}}
    assert counts == {"gradient_rows": 4, "gradient_classes": 12, "coefficients": 48, "normalize_classes": 12}


@pytest.mark.parametrize("kernel", sorted({entry["kernel"] for entry in _core.cuda_kernels()}))
def test_every_kernel_has_a_place_in_the_report(kernel):
    assert kernel in (*table.FORWARD, *table.BACKWARD)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("bbs_cos_lse_sweep_bf16_rows_resident_vectors", "sweep bf16, W by rows, resident"),
        ("bbs_cos_lse_sweep_fp16_fp32w_columns_streaming_elements", "sweep fp16, fp32 W by columns, any stride"),
        ("bbs_cos_lse_sweep_bf16_rows_subcenters_vectors", "sweep bf16, W by rows, sub-centres, streaming"),
        ("no_norms_bf16_rows_resident", NO_NORMS),
        ("bbs_prepare_rows_tf32_columns", "row preparation tf32, W by columns"),
        ("bbs_merge_margin", "merge with losses"),
        ("bbs_gradient_rows_tf32", "gradient_rows tf32"),
        ("bbs_gradient_classes_bf16_fp32w_rows", PRODUCT),
        ("bbs_coefficients_bf16_rows_streaming_elements", "coefficients bf16, W by rows, any stride"),
        ("bbs_coefficients_bf16_rows_subcenters_elements", "coefficients bf16, W by rows, sub-centres, any stride"),
        ("bbs_backward_pairs_fp32_columns_16", "backward_pairs fp32, W by columns, 16 values a lane"),
        ("bbs_finish_rows_fp32", "finish_rows fp32"),
        ("cutlass_gemm_bf16", BASELINE),
    ],
)  # fmt: skip
def test_symbol_has_its_row(symbol, name):
    assert KERNELS[name].symbol == symbol


def test_names_are_those_of_the_page():
    """So that a report can be compared with the committed one."""
    text = (Path(__file__).parents[2] / "docs" / "static-report.md").read_text(encoding="utf-8")
    rows = {line.strip().split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "| " in line}
    assert set(KERNELS) <= rows


def test_sources_of_the_report_define_its_symbols():
    for kernel in KERNELS.values():
        source = images.HERE / "sources" / f"{kernel.family}.cu"
        if not kernel.symbol.startswith("bbs_"):
            assert f" {kernel.symbol}(" in source.read_text(encoding="utf-8"), kernel.name


def test_headers_that_changed_since_the_package_was_built_are_named(tmp_path):
    csrc, installed = tmp_path / "csrc", tmp_path / "include"
    for folder in (csrc, installed):
        (folder / "cuda" / "plan").mkdir(parents=True)
        (folder / "common").mkdir()
        (folder / "common" / "rule.h").write_text("same")
        (folder / "cuda" / "sweep.cuh").write_text("same")
    assert images.changed_headers(csrc, installed) == []
    (csrc / "cuda" / "sweep.cuh").write_text("newer")
    (csrc / "cuda" / "plan" / "new.h").write_text("new")
    assert images.changed_headers(csrc, installed) == [Path("cuda/plan/new.h"), Path("cuda/sweep.cuh")]


def test_images_of_the_package_are_read_before_any_is_compiled(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(images, "FOLDER", tmp_path)
    monkeypatch.setattr(images, "changed_headers", list)
    monkeypatch.setattr(images, "compile_images", lambda paths, *_: compiled.extend(paths))
    shipped = tmp_path / "common.sm_90.cubin"
    shipped.touch()
    found = images.provide(["common", "no_norms_bf16"], ["sm_80", "sm_90"], None, 1)
    assert found.pop(("common", "sm_90")) == shipped
    assert sorted(found.values()) == sorted(compiled)
    assert {path.name for path in compiled} == {
        "common.sm_80.cubin", "no_norms_bf16.sm_80.cubin", "no_norms_bf16.sm_90.cubin",
    }  # fmt: skip
    monkeypatch.setattr(images, "changed_headers", lambda: [Path("cuda/sweep.cuh")])
    with pytest.raises(click.ClickException, match="install the package again"):
        images.provide(["common"], ["sm_90"], None, 1)


def test_gate_holds_at_the_bounds():
    assert not missed(
        [
            row(BASELINE),
            row(NO_NORMS, cycles_per_multiply=6.59),
            row(NO_NORMS.removesuffix(", no norms"), cycles_per_multiply=7.79),
            row(CONVERTED, cycles_per_multiply=8.99),
            row("sweep tf32, W by rows, resident", cycles_per_multiply=30.0),
            row(PRODUCT, cycles_per_multiply=6.59),
            row("coefficients bf16, W by rows", multiplies=None, cycles_per_multiply=None),
        ]
    )


@pytest.mark.parametrize(
    ("kernel", "changes", "what"),
    [
        (NO_NORMS, {"cycles_per_multiply": 6.7}, "issue cycles per HMMA / CUTLASS's"),
        (CONVERTED, {"cycles_per_multiply": 9.1}, "issue cycles per HMMA / CUTLASS's"),
        (PRODUCT, {"cycles_per_multiply": 6.7}, "issue cycles per HMMA / CUTLASS's"),
        (PRODUCT, {"uncoalesced": 1}, "uncoalesced accesses, traced"),
        ("coefficients bf16, W by rows", {"spilled_bytes": 8}, "spilled bytes"),
        (CONVERTED, {"bank_conflicts": 1}, "bank conflicts, traced"),
        (NO_NORMS, {"executed_wavefronts": 9.0, "ideal_wavefronts": 8.0, "executed_sectors": 4.0,
                    "ideal_sectors": 4.0}, "wavefronts, executed"),
        (NO_NORMS, {"executed_wavefronts": 8.0, "ideal_wavefronts": 8.0, "executed_sectors": 5.0,
                    "ideal_sectors": 4.0}, "sectors of operand loads, executed"),
        (NO_NORMS, {"multiplies": None, "cycles_per_multiply": None}, "main loop found"),
        ("row order", {"spilled_bytes": 4}, "spilled bytes"),
    ],
)  # fmt: skip
def test_gate_names_what_is_missed(kernel, changes, what):
    assert [f.what for f in missed([row(BASELINE), row(kernel, **changes)])] == [what]


def test_more_sectors_are_missed_and_explained_where_tiles_hold_whole_classes():
    executed = {
        "executed_wavefronts": 10.0,
        "ideal_wavefronts": 10.0,
        "executed_sectors": 103.0,
        "ideal_sectors": 100.0,
    }
    (several,) = missed([row("sweep bf16, W by columns, sub-centres, streaming", **executed)])
    assert several.what == "sectors of operand loads, executed"
    assert "whole classes" in several.reason
    assert "64 HMMA" in several.reason
    (single,) = missed([row("sweep bf16, W by columns, streaming", **executed)])
    assert not single.reason


def test_missed_ratio_says_which_instructions_are_more():
    theirs, ours = (
        row(BASELINE),
        row(NO_NORMS, cycles_per_multiply=9.0, mix={"HMMA": 64, "LDSM": 24, "PRMT": 3}),
    )
    (finding,) = missed([theirs, ours])
    assert finding.reason.endswith("beyond CUTLASS's: 8 LDSM, 3 PRMT")


def test_launches_of_classes_with_several_centres():
    """Tiles of whole classes, here of two centres; by columns a tile begins at any of the elements of 16 bytes."""
    for sweep in (k.work for k in KERNELS.values() if isinstance(k.work, Sweep) and k.work.several):
        launch = launch_of(sweep, Problem(128, 100_000), "sm_90", 132)
        columns = {True: {2: 120, 4: 124}[sweep.w_bytes], False: 128}[sweep.transposed]
        assert (launch.resident, launch.tiles) == (False, -(-100_000 // columns)), sweep.name


def test_resident_launch_falls_to_a_width_that_fits():
    sweep = Sweep("bf16", 2, transposed=False, resident=True)
    problem = Problem(1024, 100_000)
    assert launch_of(sweep, problem, "sm_90", 132).problem.dim == 512
    narrow = launch_of(sweep, problem, "sm_89", 128)
    assert narrow.resident
    assert narrow.problem.dim < 512
    assert launch_of(replace(sweep, resident=False), problem, "sm_89", 128).problem.dim == 512


def test_traffic_of_one_row_block_asks_for_the_minimum_of_w():
    sweep = Sweep("bf16", 2, transposed=False, resident=True)
    moved = sweep_traffic(sweep, launch_of(sweep, Problem(128, 100_000), "sm_90", 132))
    assert moved.flops == 2 * 128 * 100_000 * 512
    assert moved.minimum == 100_000 * 1024 + 128 * 1024 + 128 * 16
    assert moved.asked["w"] == 100_000 * 1024
    assert moved.asked["x"] == 132 * 128 * 1024


def test_traffic_of_one_block_of_a_product_asks_for_the_minimum():
    for kernel in PRODUCTS:
        product = Dense("bf16", 4, False, kernel)
        launch = dense_launch_of(product, Problem(128, 128, 128), "sm_90", 132)
        assert (launch.runs, launch.splits, launch.row_blocks) == (1, 1, 1)
        moved = product_traffic(product, launch)
        assert moved.flops == 2 * 128**3
        # 16-bit operands, then partial sums in fp32, or w read and dw written in fp32
        assert moved.minimum == moved.requested == 128**2 * (4 + (4 if kernel == "gradient_rows" else 8))


def test_traffic_of_runs_and_blocks():
    rows, classes = (Dense("bf16", 2, False, kernel) for kernel in PRODUCTS)
    problem = Problem(1024, 100_000)
    launch = dense_launch_of(rows, problem, "sm_90", 132)
    assert launch.grid == (8, 4, launch.splits)
    asked = product_traffic(rows, launch).asked
    assert asked["p"] == 4 * 1024 * 100_000 * 2
    assert asked["other"] == 8 * 100_000 * 1024
    assert asked["out"] == 1024 * 512 * 4 * launch.splits * (2 * launch.runs - 1)
    asked = product_traffic(classes, dense_launch_of(classes, problem, "sm_90", 132)).asked
    assert asked == {"p": 4 * 1024 * 100_000 * 2, "other": 782 * 1024 * 1024, "out": 2 * 100_000 * 1024}


def test_roofline_turns_from_memory_to_tensor_cores():
    points = roofline({("sweep bf16, W by rows, resident", "sm_90"): 600.0})
    assert len(points) == 3 * 2 * 3 * 3
    h100 = {
        p.problem.rows: p for p in points if (p.gpu.arch, p.w_bytes, p.problem.classes) == ("sm_90", 2, 10**6)
    }
    assert [h100[rows].bound for rows in (128, 1024, 4096)] == ["DRAM", "issue", "issue"]
    assert h100[128].memory_ms == pytest.approx(1e6 * 1024 / 3352e6, rel=0.01)
    assert h100[4096].issue_ms == pytest.approx(32 * h100[128].issue_ms, rel=0.05)
    a100 = next(p for p in points if (p.gpu.arch, p.w_bytes, p.problem.rows) == ("sm_80", 2, 4096))
    assert (a100.bound, a100.issue_ms) == ("tensor cores", 0.0)


def test_runs_of_the_backward_are_whole_waves_where_one_fits():
    """27 tiles by 4 blocks of columns are the 108 multiprocessors of an A100; 33 tiles of an H100 do not fit 64 MiB."""
    fills = {(f.gpu.arch, f.rows): f for f in grids.grid_fills()}
    assert [fills["sm_80", rows].run_tiles for rows in (1024, 4096)] == [81, 27]
    assert min(fills["sm_80", 4096].shares[k] for k in ("coefficients", "gradient_classes")) > 0.99
    assert fills["sm_80", 4096].shares["gradient_rows"] == pytest.approx(128 / 216)
    assert [fills["sm_90", rows].run_tiles for rows in (1024, 4096)] == [99, 29]
    assert fills["sm_90", 4096].shares["gradient_classes"] == pytest.approx(116 / 132, rel=0.01)


def test_pages():
    rows = [row(BASELINE), row(NO_NORMS, cycles_per_multiply=9.0)]
    for r in rows:
        r.cycles_per_k_step, r.multiply_share, r.flops_per_cycle, r.shared_accesses = 200.0, 0.5, 600.0, 20
    missed(rows)
    text = page.report_page(rows, gate.check(rows, KERNELS), {"nvcc": "13.0"})
    assert "1 missed" in text
    assert f"| {NO_NORMS} | sm_90 | issue cycles per HMMA / CUTLASS's | 1.500 | ≤ 1.1 |" in text
    begin, end = page.ROOFLINE_MARKS
    assert page.put_roofline(f"a\n{begin}\nold\n{end}\nb", []).startswith(f"a\n{begin}\n\n| GPU |")
    with pytest.raises(ValueError, match="lacks the lines"):
        page.put_roofline("a page", [])
    begin, end = page.GRID_MARKS
    written = page.put_grids(f"{begin}\n{end}", grids.grid_fills()[:1])
    assert "| A100 SXM 80 GB | 1024 | 81 | 100% | 89% | 100% |" in written


@pytest.mark.parametrize(("cycles", "code"), [(6.5, 0), (9.0, 1)])
def test_check_exits_with_1_and_shows_what_is_missed(cycles, code, monkeypatch, tmp_path):
    rows = [row(BASELINE), row(NO_NORMS, cycles_per_multiply=cycles)]
    compare(rows, BASELINE, KERNELS)
    monkeypatch.setattr(command, "collect", lambda *_: rows)
    monkeypatch.setattr(command, "find_tools", lambda: tools.Tools(*[Path("/bin/true")] * 4))
    monkeypatch.setattr(tools.Tools, "versions", lambda _: {"nvcc": "13.0"})
    done = CliRunner().invoke(command.main, ["--check", "--output", str(tmp_path)])
    assert done.exit_code == code
    assert ("issue cycles per HMMA / CUTLASS's 1.500, bound 1.1" in done.output) == bool(code)
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [f["kernel"] for f in document["missed"]] == [NO_NORMS] * code
    assert (tmp_path / "report.csv").read_text(encoding="utf-8").count("\n") == 3


def test_missing_tools_are_named_with_their_packages(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(tools.sys, "path", [])
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    with pytest.raises(
        click.ClickException, match=r"nvcc.*requirements-cuda.txt.*nvidia-cuda-nvdisasm.*cuxray"
    ):
        tools.find_tools()
