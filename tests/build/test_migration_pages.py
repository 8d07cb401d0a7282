"""The code of the migration pages and of docs/margins.md runs as printed, and "before" and "after" give one loss.

A "before" block needs the other library: where it is not installed (insightface's scripts never are) the block is left
out, and the rest of its page still runs.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import torch

import basket_softmax as bs

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCE = re.compile(r"^( *)```python\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
PAGES = ["migrate-pml.md", "migrate-insightface.md", "migrate-fastreid.md", "margins.md"]

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="needs the source tree")


def blocks(page: str) -> list[str]:
    return [textwrap.dedent(code) for _, code in FENCE.findall((DOCS / page).read_text(encoding="utf-8"))]


def surroundings() -> dict:
    """What a page takes for granted: a batch, and the imports at the top of a training script."""
    torch.manual_seed(0)
    return {
        "torch": torch,
        "bs": bs,
        "embeddings": torch.randn(4, 512, requires_grad=True),
        "features": torch.randn(4, 2048, 2, 2, requires_grad=True),
        "labels": torch.tensor([3, 700, 0, 3]),
        "targets": torch.tensor([3, 700, 0, 3]),
    }


def run(code: str, names: dict) -> bool:
    """Whether the block ran; False when it needs a library that is not there."""
    if "from partial_fc_v2" in code:  # scripts of a checkout of insightface, not a package
        return False
    try:
        exec(compile(code, "block", "exec"), names)
    except ModuleNotFoundError as error:
        if error.name in ("pytorch_metric_learning", "fastreid"):
            return False
        raise
    return True


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(page: str) -> None:
    names = surroundings()
    for code in blocks(page):
        run(code, names)
    if "value" in names:
        names["value"].backward()


@pytest.mark.parametrize(
    ("page", "of_both"),
    [
        ("migrate-pml.md", lambda names: names["loss"]),
        ("migrate-fastreid.md", lambda names: names["head"]),
    ],
)
def test_before_and_after_give_one_loss(page: str, of_both) -> None:
    before, after = blocks(page)[:2]
    there, here = surroundings(), surroundings()
    if not run(before, there):
        pytest.skip("the other library is not installed")
    torch.manual_seed(1)
    run(after, here)
    with torch.no_grad():
        for parameter in of_both(there).parameters():
            if parameter.dim() == 2:
                parameter.normal_()
    of_both(here).load_state_dict(of_both(there).state_dict())
    last = [line for line in before.splitlines() if not line.startswith(("from", "import"))]
    call = "\n".join(last[-2:]) if "outputs" in before else last[-1]
    run(call, there)
    last = after.splitlines()
    run("\n".join(last[-2:]) if "outputs" in after else last[-1], here)
    assert here["value"].item() == pytest.approx(there["value"].item(), rel=2e-5)


def test_blocks_are_found() -> None:
    assert all("=== " not in code for page in PAGES for code in blocks(page))
    assert sum("before" not in code for code in blocks("migrate-pml.md")) == 7
