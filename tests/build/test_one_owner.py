"""What has one owner: the ops' argument lists are spelled in bbs_kernels/ops/call.py and in no other Python source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWNER = ROOT / "bbs_kernels" / "ops" / "call.py"
LONG = {"cos_lse", "margin_softmax", "cos_lse_backward", "cos_lse_backward_sgd", "target_cos"}
SOURCES = ("bbs_kernels", "python", "bench", "examples", "tools")

pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the source tree")


def calls_of_ops(text):
    """Names of the long ops that a source calls through `OPS` or `torch.ops.bbs_kernels`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LONG:
            owner = ast.unparse(node.func.value)
            if owner == "OPS" or owner.endswith("ops.bbs_kernels"):
                yield node.func.attr


def test_one_file_calls_the_ops():
    assert set(calls_of_ops(OWNER.read_text(encoding="utf-8"))) == LONG
    others = [
        f"{path.relative_to(ROOT)} calls {name}"
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != OWNER
        for name in calls_of_ops(path.read_text(encoding="utf-8"))
    ]
    assert not others, "\n".join(others)
