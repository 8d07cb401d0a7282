"""What the documentation build adds to the Markdown: plots drawn by the library, MathML, the demo's tables.

Everything is made at build time and by the installed package, so a page cannot show what the code does not
do, and a reader's browser needs no script and no other host.
"""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), *(str(DOCS.parent / folder) for folder in ("tools", "bench"))]

import bench_aims  # noqa: E402  (needs the path above)
import bench_table  # noqa: E402
import demo_table  # noqa: E402
import parallel_table  # noqa: E402
import plots  # noqa: E402
import ranks_table  # noqa: E402

from bbs_gpu.page import body as gpu_report  # noqa: E402

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
DEMO_TABLE = re.compile(r"<!-- demo-table: (many|style) -->")
GPU_REPORT = "<!-- gpu-report -->"
PARALLEL_TABLE, RANKS_TABLE = "<!-- parallel-table -->", "<!-- ranks-table -->"
BENCH_TABLE = re.compile(r"<!-- bench-table: (main|sizes|rules) ([\w-]+) -->")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the plots as generated files under `plots/`."""
    for name, content in plots.draw_all().items():
        files.append(File.generated(config, f"plots/{name}", content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts the tables of the demo, of the benchmarks and of a GPU's report in the places of their marks."""

    def fill(match: re.Match[str]) -> str:
        try:
            return demo_table.table(demo_table.read_rows(DOCS / "results" / match[1]))
        except FileNotFoundError as error:
            raise PluginError(str(error)) from None

    if GPU_REPORT in markdown:
        report = (DOCS / "results" / "gpu" / "report.json").read_text(encoding="utf-8")
        markdown = markdown.replace(GPU_REPORT, gpu_report(json.loads(report)))
    if PARALLEL_TABLE in markdown:
        found = parallel_table.read(DOCS / "results" / "parallel")
        markdown = markdown.replace(PARALLEL_TABLE, parallel_table.table(found))
    if RANKS_TABLE in markdown:
        rows = (demo_table.read_rows(DOCS / "results" / name) for name in ("many", "ranks"))
        markdown = markdown.replace(RANKS_TABLE, ranks_table.table(*rows))
    return BENCH_TABLE.sub(_bench_table, DEMO_TABLE.sub(fill, markdown))


def _bench_table(mark: re.Match[str]) -> str:
    suite, kind = mark.groups()
    results = DOCS / "results" / "bench"
    document = bench_table.read(results if suite == "main" else results / suite)
    if kind == "all":
        return bench_table.table(document)
    if kind == "memory":
        return bench_table.memory(document)
    if kind == "aims":
        return bench_aims.aims_table(document)
    if kind == "breakdown":
        return bench_aims.breakdown_table(document)
    if kind not in bench_table.TABLES:
        raise PluginError(
            f"{mark[0]}: expected the table all, memory, aims, breakdown or one of "
            f"{', '.join(bench_table.TABLES)}, got {kind}"
        )
    return bench_table.table(document, bench_table.TABLES[kind])


def on_page_content(content: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """LaTeX to MathML, which browsers set by themselves."""
    content = BLOCK.sub(lambda m: f'<div class="formula">{_mathml(m[1], "block", page)}</div>', content)
    return INLINE.sub(lambda m: _mathml(m[1], "inline", page), content)


def _mathml(latex: str, display: str, page: Page) -> str:
    try:
        return convert(html.unescape(latex).strip(), display=display)
    except Exception as error:  # the converter's errors have no common class
        raise PluginError(
            f"{page.file.src_uri}: {latex.strip()!r} is not LaTeX that can be set: {error}"
        ) from error
