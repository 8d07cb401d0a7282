"""The command line: what each command hands on, and the one line it prints when something is missing."""

import importlib.util
import os
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from basket_softmax.cli import Commands, main
from basket_softmax.cli.extras import need


def run(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def demo_calls(monkeypatch):
    """Replaces the demo by a function that notes its arguments."""
    calls = []
    module = types.ModuleType("basket_softmax.demo")
    module.run_demo = lambda **options: calls.append(options)
    monkeypatch.setitem(sys.modules, "basket_softmax.demo", module)
    return calls


def test_help_lists_the_commands():
    result = run("--help")
    assert result.exit_code == 0
    for command in ("bench", "demo", "info"):
        assert f"\n  {command} " in result.output


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"bbs, version {metadata.version('bbs-kernels')}\n"


def test_as_a_module():
    """What torchrun -m starts."""
    command = [sys.executable, "-m", "basket_softmax", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"bbs, version {metadata.version('bbs-kernels')}\n"


def test_a_reader_that_went_away_is_no_error():
    """As with `bbs train --print-config … | head -1`."""
    read, write = os.pipe()
    os.close(read)
    command = [
        sys.executable,
        "-m",
        "basket_softmax",
        "train",
        "--basket",
        "a=a",
        "--output",
        "o",
        "--print-config",
    ]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_unknown_command():
    result = run("trian")
    assert result.exit_code == 2
    assert "No such command 'trian'" in result.output


def test_info_is_the_module_s_text(capsys):
    from bbs_kernels.info import main as info_main

    info_main()
    assert run("info").output == capsys.readouterr().out


def test_demo_defaults(demo_calls):
    result = run("demo")
    assert result.exit_code == 0, result.output
    assert demo_calls == [
        {"quick": False, "seeds": None, "regime": "many", "output": Path("demo-output"), "norm": "batch"}
    ]


def test_demo_options(demo_calls, tmp_path):
    words = ("--quick", "--seeds", "3,1", "--regime", "style", "--output", str(tmp_path), "--norm", "group")
    result = run("demo", *words)
    assert result.exit_code == 0, result.output
    assert demo_calls == [
        {"quick": True, "seeds": [3, 1], "regime": "style", "output": tmp_path, "norm": "group"}
    ]


@pytest.mark.parametrize("seeds", ["a", "0,,1", "", "1,1", "-1", "0.5"])
def test_demo_bad_seeds(demo_calls, seeds):
    result = run("demo", "--seeds", seeds)
    assert result.exit_code == 2
    assert "--seeds" in result.output
    assert not demo_calls


@pytest.fixture
def without(monkeypatch):
    """Makes the named modules look as if they were not installed."""

    def hide(*names):
        found = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else found(name))

    return hide


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (("matplotlib",), 'Error: bbs demo needs matplotlib: pip install "bbs-kernels[demo]"'),
        (
            ("matplotlib", "rich"),
            'Error: bbs demo needs matplotlib and rich: pip install "bbs-kernels[demo]"',
        ),
    ],
)
def test_demo_without_its_extra(demo_calls, without, missing, line):
    without(*missing)
    result = run("demo")
    assert result.exit_code == 1
    assert result.output.strip() == line
    assert not demo_calls


def test_bench_without_its_extra(without):
    without("rich")
    result = run("bench", "--quick")
    assert result.exit_code == 1
    assert result.output.strip() == 'Error: bbs bench needs rich: pip install "bbs-kernels[bench]"'


def test_nothing_missing():
    need("bbs info", "demo", "torch")


def test_own_commands_win_over_entry_points(monkeypatch):
    """An entry point of another distribution cannot replace `bbs demo`."""
    point = metadata.EntryPoint("demo", "json:loads", "basket_softmax.commands")
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [point])
    group = Commands("bbs", commands=dict(main.commands))
    assert group.get_command(None, "demo") is main.commands["demo"]
