"""`bbs train`: what its options become, what it prints, and its exit codes."""

import csv
import shutil
import sys

import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from basket_softmax.cli import main
from training.glyph_folders import write_baskets

SMALL = [
    "image.size=16", "image.channels=1", "backbone.factory=basket_softmax.training.backbones:iresnet",
    "backbone.embedding_size=8", "backbone.args={layers: [1], width: 4}", "loss.mining.k=3", "workers=0",
    "log.tensorboard=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glyphs")
    write_baskets(folder)
    return folder


@pytest.fixture
def simple(folders, tmp_path):
    """The options of the simple case, without a file."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return [
        "--basket", f"one={folders}/basket0", "--basket", f"two={folders}/basket1", "--output", f"{tmp_path}/out",
        "--epochs", "1", "--batch-size", "8", *settings,
    ]  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_folders_and_an_output_are_enough(simple, tmp_path):
    done = run(*simple, "--lr", "0.05")
    assert done.exit_code == 0, done.output
    assert "one: 24 images of 6 identities" in done.output
    assert "1 epochs of 6 steps with 8 images" in done.output
    assert done.output.endswith(f"written to {tmp_path}/out\n")
    with open(tmp_path / "out" / "metrics.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["6"]
    again = run(*simple)
    assert again.exit_code == 1
    assert "holds checkpoints up to step 6: --resume goes on with it" in again.output
    assert run(*simple, "--lr", "0.05", "--resume").exit_code == 0


def test_print_config_is_a_config(simple, tmp_path):
    done = run(*simple, "--print-config", "--set", "loss.mining={name: below, guard: {name: ema, r: 1e-1}}")
    assert done.exit_code == 0, done.output
    found = yaml.safe_load(done.output)
    assert found["loss"]["mining"] == {"name": "below", "guard": {"name": "ema", "r": 0.1}}
    assert (found["epochs"], found["batch_size"], found["seed"]) == (1, 8, 0)
    file = tmp_path / "again.yaml"
    file.write_text(done.output)
    assert run(file, "--print-config").output == done.output
    assert not (tmp_path / "out").exists()


def test_check(simple, folders, tmp_path):
    done = run(*simple, "--check")
    assert done.exit_code == 0, done.output
    assert done.output.endswith("ready to train\n")
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "x.png").write_bytes(b"no image")
    bad = run(*simple, "--basket", f"bad={tmp_path}/bad", "--check")
    assert bad.exit_code == 1
    assert "x.png" in bad.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give a CONFIG, or --basket NAME=PATH and --output DIR"),
        (["--basket", "a"], 2, "expected NAME=PATH, such as glint=data/glint, got 'a'"),
        (["--basket", "a=x", "--basket", "a=y"], 2, "'a': expected one path, got two"),
        (["--basket", "a=x"], 1, "options: 1 problem\n  output: missing"),
        (
            ["--basket", "a=x", "--output", "o", "--set", "epochs"],
            2,
            "expected KEY=VALUE, such as loss.scale=32, got 'epochs'",
        ),
        (["--basket", "a=x", "--output", "o", "--set", "epochs=[1"], 1, "--set epochs: line 1: no YAML"),
        (
            ["--basket", "a=x", "--output", "o", "--set", "epoch=3"],
            1,
            "epoch: unknown key, expected one of baskets, ",
        ),
        (["--basket", "a=x", "--output", "o", "--set", "..=3"], 1, "Error: '..': expected the name of a key"),
        (["--basket", "a=/nowhere", "--output", "o"], 1, "baskets.a.path: expected a folder with "),
        (
            ["--basket", "a=x", "--output", "o", "--device", "cuda"],
            1,
            "device: expected cpu, since torch finds no GPU here, got cuda",
        ),
    ],
)
def test_what_is_wrong_is_one_message(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = run(*arguments)
    assert done.exit_code == code
    assert message in done.output
    assert "Traceback" not in done.output


def test_without_its_extra(monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in ("yaml", "PIL") else object()
    )
    done = run("--basket", "a=x", "--output", "o")
    assert done.exit_code == 1
    assert done.output == 'Error: bbs train needs pyyaml and pillow: pip install "bbs-kernels[train]"\n'


def test_an_image_that_a_worker_cannot_read_is_named_in_one_line(folders, simple, tmp_path):
    shutil.copytree(folders / "basket0", tmp_path / "cut")
    image = next(path for path in sorted((tmp_path / "cut").rglob("*")) if path.is_file())
    image.write_bytes(image.read_bytes()[:40])
    options = [f"one={tmp_path}/cut" if part == f"one={folders}/basket0" else part for part in simple]
    done = run(*options, "--set", "workers=1")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert f"\nError: {image}: the image cannot be read: " in done.output


@pytest.mark.parametrize("option", [(), ("--check",)])
def test_a_library_that_only_this_config_needs_is_one_line(simple, tmp_path, monkeypatch, option):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = run(*simple, "--set", "log.tensorboard=true", *option)
    assert done.exit_code == 1
    assert done.output == 'Error: log.tensorboard needs tensorboard: pip install "bbs-kernels[train]"\n'
    table = tmp_path / "faces.csv"
    table.write_text("path,identity\na.png,1\n")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run(*simple, "--basket", f"three={table}", *option)
    assert done.exit_code == 1
    assert done.output == f'Error: reading {table} needs pyarrow: pip install "bbs-kernels[train]"\n'
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "key"),
    [("--batch-size", 16, "batch_size"), ("--lr", 0.5, "optimizer.lr"), ("--epochs", 3, "epochs")],
)
def test_an_option_and_set_for_one_key_are_refused(tmp_path, option, value, key):
    """The value of --set won without a word."""
    done = run(
        "--basket", "a=x", "--output", tmp_path / "o", option, value, "--set", f"{key}=2", "--print-config"
    )
    assert done.exit_code == 2
    message = f"{key}: expected one value, got one by {option} and one by --set"
    assert message in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("option", "change"),
    [
        (("--lr", 0.5), "optimizer={name: adamw, lr: 0.1}"),
        (("--basket", "b=y"), "baskets.b=z"),
        (("--basket", "b=y"), "baskets.b.path=z"),
        (("--basket", "b=y"), "baskets.b={path: z, proportion: 2}"),
        (("--basket", "b=y"), "baskets={b: z}"),
    ],
)
def test_an_option_and_a_section_with_its_key_are_refused(tmp_path, option, change):
    done = run("--basket", "a=x", "--output", tmp_path / "o", *option, "--set", change, "--print-config")
    assert done.exit_code == 2
    message = f": expected one value, got one by {option[0]} and one by --set"
    assert message in " ".join(done.output.split())


@pytest.mark.parametrize("set_first", [True, False])
def test_set_reaches_the_keys_of_a_basket_that_an_option_names(tmp_path, monkeypatch, set_first):
    """They were dropped without a word, unknown ones too."""
    monkeypatch.chdir(tmp_path)
    basket, output = ["--basket", "a=x"], ["--output", "o", "--print-config"]
    changes = ["--set", "baskets.a.proportion=2", "--set", "baskets.a.identity_column=who"]
    done = run(*(changes + basket if set_first else basket + changes), *output)
    assert yaml.safe_load(done.output)["baskets"] == {
        "a": {
            "path": str(tmp_path / "x"), "image_column": "path", "identity_column": "who", "proportion": 2.0,
        }
    }  # fmt: skip
    unknown = run(*basket, "--set", "baskets.a.share=2", *output)
    assert unknown.exit_code == 1
    assert "baskets.a.share: unknown key, expected one of path, image_column, " in unknown.output


def test_an_option_replaces_only_the_path_of_a_configured_basket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    file = tmp_path / "sub" / "run.yaml"
    file.write_text(
        "baskets:\n  fp: {path: data/fp, identity_column: who, proportion: 2}\n  b: {path: b, proportion: 1}\n"
        "output: out\n"
    )
    for given, want in (("/x", "/x"), ("y", f"{tmp_path}/y")):
        found = yaml.safe_load(run(file, "--basket", f"fp={given}", "--print-config").output)["baskets"]
        assert found["fp"] == {
            "path": want, "image_column": "path", "identity_column": "who", "proportion": 2.0,
        }  # fmt: skip
        assert found["b"]["path"] == f"{tmp_path}/sub/b"
    both = run(file, "--basket", "fp=/x", "--set", "baskets.fp.proportion=3", "--print-config")
    assert yaml.safe_load(both.output)["baskets"]["fp"]["proportion"] == 3.0


def test_a_section_that_is_set_does_not_undo_an_option_in_it(tmp_path):
    options = ["--basket", "a=x", "--output", tmp_path / "o", "--print-config"]
    for order in (["--lr", "0.5", "--set", "optimizer=adamw"], ["--set", "optimizer=adamw", "--lr", "0.5"]):
        found = yaml.safe_load(run(*options, *order).output)["optimizer"]
        assert (found["name"], found["lr"]) == ("adamw", 0.5)
    changes = [
        part for change in ("scale=8", "scale=9", "subcenters=2") for part in ("--set", f"loss.{change}")
    ]
    found = yaml.safe_load(run(*options, *changes, "--set", "loss={}", *changes[:2]).output)["loss"]
    assert (found["scale"], found["subcenters"]) == (8, 1)  # of several --set each counts in its turn


def test_check_with_decode_finds_a_file_that_is_cut_off(folders, simple, tmp_path):
    shutil.copytree(folders / "basket0", tmp_path / "own")
    image = sorted((tmp_path / "own").rglob("*.png"))[5]
    image.write_bytes(image.read_bytes()[:-40])
    options = [part.replace(f"{folders}/basket0", f"{tmp_path}/own") for part in simple]
    done = run(*options, "--check", "--decode")
    assert done.exit_code == 1
    assert "images that cannot be read: 1\n" in done.output
    assert image.name in done.output
    assert run(*options, "--decode").exit_code == 2


def test_no_warning_of_pillow_is_printed_while_training(folders, simple, tmp_path, recwarn):
    shutil.copytree(folders / "basket0", tmp_path / "own")
    for image in (tmp_path / "own").rglob("*.png"):
        Image.open(image).convert("P").save(image, transparency=bytes(range(256)))
    done = run(*[part.replace(f"{folders}/basket0", f"{tmp_path}/own") for part in simple])
    assert done.exit_code == 0, done.output
    assert not [warning for warning in recwarn if "Palette" in str(warning.message)]
