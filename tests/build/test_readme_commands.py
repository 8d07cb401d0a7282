"""tools/readme_commands.py: CI runs the README's own lines, so extracting them must not lose one."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "tools").is_dir(), reason="needs the source tree")

PAGE = """# Title
<!-- ci: install -->
```bash
pip install torch
pip install --no-build-isolation .
```
text
```bash
rm -rf /
```
<!-- ci: example -->
```python
import basket_softmax

print(1)
```
"""


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("readme_commands", ROOT / "tools" / "readme_commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_only_tagged_blocks(tool):
    assert tool.tagged_blocks(PAGE) == [
        ("install", "pip install torch\npip install --no-build-isolation .\n"),
        ("example", "import basket_softmax\n\nprint(1)\n"),
    ]


def test_torch_requirement(tool):
    body = "pip install torch\npip install torchmetrics\n"
    assert tool.with_torch(body, None) == body
    assert tool.with_torch(body, "torch==2.13.0") == 'pip install "torch==2.13.0"\npip install torchmetrics\n'


def test_the_readme_has_what_ci_runs(tool):
    blocks = dict(tool.tagged_blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    assert blocks["test"] == "make test\n"
    assert "make demo" in blocks["demo"]
    assert "bbs demo --quick" in blocks["demo-quick"]
    assert blocks["install"] == "pip install torch\npip install --no-build-isolation .\n"
    assert "basket_softmax" in blocks["example"]
