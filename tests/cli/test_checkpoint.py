"""bbs checkpoint: what goes through merge and split comes out the same, and errors are one line."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import basket_softmax as bs
from basket_softmax.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["checkpoint", *map(str, arguments)])


def head(baskets: object = None, **options: object) -> bs.BasketSoftmaxLoss:
    options.setdefault("mining", bs.TopK(3, guard=bs.Ema(0.5)))
    return bs.BasketSoftmaxLoss({"a": 31, "b": 17, "c": 1} if baskets is None else baskets, 6, **options)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, bs.BasketSoftmaxLoss]:
    loss = head()
    loss.ema.uniform_()
    bs.checkpoint.save(tmp_path / "run", loss, extra={"epoch": 3})
    return tmp_path / "run", loss


def test_help_names_the_commands() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in ("inspect", "merge", "split"):
        assert f"\n  {command} " in result.output


def test_inspect(saved: tuple) -> None:
    result = run("inspect", saved[0])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert result.output.startswith("49 classes, width 6, written by 1 rank (shard 'basket')")
    assert ["a", "31", "0", "30"] in lines
    assert ["b", "17", "31", "47"] in lines
    assert ["c", "1", "48", "48"] in lines
    assert ["weight", "float32", "6"] in lines
    assert "optimiser: none; extra: yes" in result.output
    assert bs.checkpoint.inspect(saved[0]).fingerprint in result.output
    assert "files are those that were written" in result.output


def test_a_bar_on_a_terminal(saved: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    main(["checkpoint", "inspect", str(saved[0])], standalone_mode=False)  # CliRunner has a stderr of its own
    assert "checking" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_merge_is_a_state_dict(saved: tuple, tmp_path: Path) -> None:
    folder, loss = saved
    result = run("merge", folder, tmp_path / "head.pt")
    assert result.exit_code == 0, result.output
    state = torch.load(tmp_path / "head.pt", weights_only=True)
    other = head()
    other.load_state_dict(state, strict=True)
    assert torch.equal(other.weight, loss.weight)
    assert torch.equal(other.ema, loss.ema)
    with pytest.raises(RuntimeError, match="those of the baskets"):
        head({"b": 17, "a": 31, "c": 1}).load_state_dict(state)
    again = run("merge", folder, tmp_path / "head.pt")
    assert again.exit_code == 1
    assert "head.pt exists: choose another name or give --force" in again.output
    assert run("merge", folder, tmp_path / "head.pt", "--force").exit_code == 0


def test_there_and_back(saved: tuple, tmp_path: Path) -> None:
    folder, loss = saved
    run("merge", folder, tmp_path / "head.pt")
    result = run("split", tmp_path / "head.pt", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert result.output == f"{tmp_path / 'again'}: 49 classes in 3 baskets\n"
    other = head()
    bs.checkpoint.load(tmp_path / "again", other)
    assert torch.equal(other.weight, loss.weight)
    assert torch.equal(other.ema, loss.ema)


def test_subcentres_did_not_come_back_from_one_file(tmp_path: Path) -> None:
    loss = head(subcenters=3)
    bs.checkpoint.save(tmp_path / "run", loss)
    assert run("merge", tmp_path / "run", tmp_path / "head.pt").exit_code == 0
    torch.save(loss.state_dict(), tmp_path / "state.pt")
    torch.save(loss.weight.detach(), tmp_path / "bare.pt")
    baskets = ["--basket", "a=31", "--basket", "b=17", "--basket", "c=1"]
    for name, options in (("head", []), ("state", []), ("bare", [*baskets, "--subcenters", "3"])):
        result = run("split", tmp_path / f"{name}.pt", tmp_path / name, *options)
        assert result.exit_code == 0, result.output
        assert result.output.endswith("49 classes in 3 baskets, 3 centres each\n")
        other = head(subcenters=3, mining=bs.Own() if name == "bare" else loss.mining)
        bs.checkpoint.load(tmp_path / name, other)
        assert torch.equal(other.weight, loss.weight)


def test_insightface_files_have_no_subcentres(tmp_path: Path) -> None:
    torch.save({"weight": torch.randn(6, 4)}, tmp_path / "softmax_fc_gpu_0.pt")
    result = run("split", tmp_path, tmp_path / "out", "--basket", "a=3", "--subcenters", "2")
    assert result.exit_code == 1
    assert "subcenters: expected 1, since insightface's files hold one centre per class" in result.output


def test_a_run_folder_was_refused(tmp_path: Path) -> None:
    """bbs overlaps takes one: its last checkpoint counts, and one that a crash left half-written does not."""
    for step in (90, 100):
        loss = head()
        bs.checkpoint.save(tmp_path / "run" / "checkpoints" / f"step-{step:08d}", loss)
    (tmp_path / "run" / "checkpoints" / "step-00000110" / "data-1").mkdir(parents=True)
    result = run("inspect", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert f"the last checkpoint of {tmp_path / 'run'}: checkpoints/step-00000100\n" in result.output
    assert run("merge", tmp_path / "run", tmp_path / "head.pt").exit_code == 0
    assert torch.equal(torch.load(tmp_path / "head.pt", weights_only=True)["weight"], loss.weight)


def test_merge_into_no_folder_was_an_errno_after_reading_all(saved: tuple, tmp_path: Path) -> None:
    result = run("merge", saved[0], tmp_path / "none" / "head.pt")
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path / 'none'} is no folder: make it, or choose another OUTPUT\n"


@pytest.mark.parametrize("as_dict", [True, False])
def test_split_a_tensor(tmp_path: Path, as_dict: bool) -> None:
    weight = torch.randn(49, 6)
    torch.save({"weight": weight} if as_dict else weight, tmp_path / "w.pt")
    baskets = ["--basket", "a=31", "--basket", "b=17", "--basket", "c=1"]
    assert run("split", tmp_path / "w.pt", tmp_path / "out", *baskets).exit_code == 0
    loss = head(mining=bs.Own())
    bs.checkpoint.load(tmp_path / "out", loss)
    assert torch.equal(loss.weight, weight)


def test_split_insightface_files(tmp_path: Path) -> None:
    parts = [torch.randn(n, 6) for n in (25, 24)]
    files = [tmp_path / f"softmax_fc_gpu_{rank}.pt" for rank in range(2)]
    for path, part in zip(files, parts, strict=True):
        torch.save({"weight": part}, path)
    for number, sources in enumerate(([tmp_path], files, files[::-1])):
        out = tmp_path / f"out{number}"
        assert run("split", *sources, out, "--basket", "x=40", "--basket", "y=9").exit_code == 0
        loss = head({"x": 40, "y": 9}, mining=bs.Own())
        bs.checkpoint.load(out, loss)
        assert torch.equal(loss.weight, torch.cat(parts))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--basket", "a"], "'a' is not NAME=SIZE, such as webface=10572"),
        (["--basket", "a=-1"], "'a=-1' is not NAME=SIZE"),
        (["--basket", "a=1", "--basket", "a=2"], "'a' is given twice"),
        ([], "the source does not know its baskets"),
        (["--basket", "a=7"], "have 7 classes; if a class has 7 centres, say so with --subcenters"),
        (["--basket", "a=7", "--subcenters", "3"], "have 7 classes with 3 centres each"),
        (["--basket", "a=1", "--subcenters", "49"], "subcenters: expected 1 to 16, got 49"),
        (["--basket", "a=48"], "the source holds 49 rows, Baskets({'a': 48}) have 48 classes"),
    ],
)
def test_split_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    torch.save(torch.randn(49, 6), tmp_path / "w.pt")
    result = run("split", tmp_path / "w.pt", tmp_path / "out", *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out" / "checkpoint.json").exists()


def test_split_keeps_what_is_there(saved: tuple, tmp_path: Path) -> None:
    run("merge", saved[0], tmp_path / "head.pt")
    result = run("split", tmp_path / "head.pt", saved[0])
    assert result.exit_code == 1
    assert "holds a checkpoint already" in result.output
    other = run("split", tmp_path / "head.pt", tmp_path / "x", "--basket", "a=49")
    assert (
        "the source holds Baskets({'a': 31, 'b': 17, 'c': 1}), given are Baskets({'a': 49})" in other.output
    )


@pytest.mark.parametrize("command", ["inspect", "merge"])
def test_damage_is_one_line(saved: tuple, tmp_path: Path, command: str) -> None:
    folder, _ = saved
    output = [tmp_path / "head.pt"] if command == "merge" else []
    (data,) = folder.glob("data-*/*.distcp")
    data.write_bytes(data.read_bytes()[:-1])
    result = run(command, folder, *output)
    assert result.exit_code == 1
    assert "was cut or extended" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "head.pt").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no checkpoint" in run(command, empty, *output).output
    assert run("inspect", folder, "--no-check").exit_code == 0


@pytest.mark.parametrize(
    "content", [{"kernel": torch.zeros(3, 3)}, torch.zeros(3), torch.zeros(3, 3).half(), b"junk"]
)
def test_split_foreign_files(tmp_path: Path, content: object) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    result = run("split", path, tmp_path / "out", "--basket", "a=3")
    assert result.exit_code == 1
    assert "w.pt" in result.output
    assert "Traceback" not in result.output
