"""Options of `bbs bench`: what they choose on either device, and one line for what belongs to the other."""

import pytest
import torch
from click.testing import CliRunner

from basket_softmax.cli import main
from bbs_bench.choice import chosen_settings
from bbs_bench.settings import CpuSetting, CudaSetting

NONE = {"dtypes": (), "threads": (), "allocators": ()}


def run(*arguments):
    return CliRunner().invoke(main, ["bench", *arguments])


def test_defaults():
    assert chosen_settings("cpu", quick=True, **NONE) == [CpuSetting("default", 1)]
    assert chosen_settings("cpu", quick=False, **NONE) == [
        CpuSetting(allocator, threads) for allocator in ("default", "tuned") for threads in (1, 2)
    ]
    assert chosen_settings("cuda", quick=True, **NONE) == [CudaSetting("float32")]
    assert [s.dtype for s in chosen_settings("cuda", quick=False, **NONE)] == [
        "float32",
        "bfloat16",
        "float16",
    ]


def test_given_values():
    chosen = chosen_settings("cuda", quick=False, **NONE | {"dtypes": ("float16", "bfloat16")})
    assert chosen == [CudaSetting("float16"), CudaSetting("bfloat16")]
    chosen = chosen_settings("cpu", quick=False, dtypes=("float32",), threads=(3,), allocators=("tuned",))
    assert chosen == [CpuSetting("tuned", 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--device", "cuda", "--threads", "2"],
            "--threads: expected it with --device cpu only, got 2 with --device cuda",
        ),
        (
            ["--device", "cuda", "--allocator", "tuned"],
            "--allocator: expected it with --device cpu only, got tuned with --device cuda",
        ),
        (["--dtype", "bfloat16"], "--dtype: expected float32 with --device cpu, got bfloat16"),
        (["--device", "cuda", "--dtype", "float64"], "'float64' is not one of"),
    ],
)
def test_options_of_the_other_device_are_refused(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_no_gpu_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = run("--device", "cuda", "--output", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert "--device cuda: no GPU; torch" in result.output
    assert not (tmp_path / "out").exists()
