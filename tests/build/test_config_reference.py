"""docs/train.md: the table of keys is what the config's models say, and its YAML and messages are real."""

import importlib.util
import re
from pathlib import Path

import pytest

from basket_softmax.training import ConfigError, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "train.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs the source tree")


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("config_reference", ROOT / "tools" / "config_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example(folder: Path, change: str = "") -> Path:
    file = folder / "run.yaml"
    text = re.search(r"```yaml\n(# run.yaml.+?)```", PAGE.read_text(), re.S).group(1)
    file.write_text(text.replace("lr: 0.1, head: {fused: true}", change) if change else text)
    return file


def test_the_table_is_up_to_date(tool):
    assert tool.put(PAGE.read_text()) == PAGE.read_text(), "run python tools/config_reference.py --write"


def test_every_key_has_a_line_and_an_explanation(tool):
    rows = [line for line in tool.reference().splitlines() if line.startswith("| `")]
    keys = rows[: next(i for i, row in enumerate(rows) if row.startswith("| `arcface`"))]
    assert len(keys) > 50
    assert all(re.fullmatch(r"\| `[^`]+` \|[^|]*\| [^|]*\w[^|]* \|", row) for row in keys), keys


def test_the_example_is_a_config(tmp_path):
    config = load_config(example(tmp_path))
    assert config.baskets["glint"].proportion == 2.0
    assert config.optimizer.head.fused


def test_the_message_is_what_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example(tmp_path, "lr: -0.1, head: {fusd: true}")
    with pytest.raises(ConfigError) as caught:
        load_config("run.yaml")
    assert f"Error: {caught.value}\n" in PAGE.read_text()
