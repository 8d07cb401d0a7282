"""Truncated, changed and half-written checkpoints: refused before anything is loaded; the old one stays."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import basket_softmax as bs
from basket_softmax.checkpoint import folder as folder_module
from basket_softmax.checkpoint import store
from checkpoint.training import Run, same_bits

Error = bs.checkpoint.CheckpointError


def refused(folder: Path, message: str) -> None:
    run = Run(seed=1)
    run.step()
    before = run.tensors()
    with pytest.raises(Error, match=message):
        run.load(folder)
    assert same_bits(run.tensors(), before)
    with pytest.raises(Error, match=message):
        bs.checkpoint.inspect(folder)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "extended", "removed", "one bit", "zeroed"])
def test_data_files(saved: Path, name: str, damage: str) -> None:
    (path,) = saved.glob(f"data-*/{name}")
    data = path.read_bytes()
    half = len(data) // 2
    if damage == "removed":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut": data[:half],
                "emptied": b"",
                "extended": data + b"\0",
                "one bit": data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :],
                "zeroed": bytes(len(data)),
            }[damage]
        )
    what = {"removed": "is missing", "one bit": "SHA-256 differs", "zeroed": "SHA-256 differs"}
    refused(
        saved, f"{name} .*{what.get(damage, 'was cut or extended')}".replace(" .*is missing", " is missing")
    )


def test_every_cut_of_the_manifest(saved: Path) -> None:
    path = saved / "checkpoint.json"
    text = path.read_text()
    for length in range(0, len(text) - 2, 97):
        path.write_text(text[:length])
        with pytest.raises(Error, match="is damaged or was cut short"):
            bs.checkpoint.inspect(saved, check_files=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["baskets"].reverse(),
        lambda m: m["baskets"][0].__setitem__(1, 32),
        lambda m: m.update(num_classes=98),
        lambda m: m.update(embedding_size=13),
        lambda m: m.update(optimizer=None),
        lambda m: m["files"].popitem(),
        lambda m: m.update(fingerprint="0" * 64),
        lambda m: m.pop("fingerprint"),
    ],
)
def test_an_edited_manifest(saved: Path, change) -> None:
    path = saved / "checkpoint.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    refused(saved, "was changed after it was written: its fingerprint does not fit")


def test_other_formats_and_versions(saved: Path) -> None:
    path = saved / "checkpoint.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "version": 2}))
    refused(saved, "has format version 2, this library reads 1")
    path.write_text(json.dumps({"weight": [1.0]}))
    refused(saved, "is not the manifest of a checkpoint of this library")
    path.write_bytes(b"\xff\xfe\x00")
    refused(saved, "is damaged: it is not text")


@pytest.mark.parametrize(
    "change", [{"data": "../elsewhere"}, {"files": {"../x": {"bytes": 1, "sha256": ""}}}]
)
def test_files_elsewhere_are_refused(saved: Path, change: dict) -> None:
    """Even with a fingerprint that fits."""
    path = saved / "checkpoint.json"
    body = {**json.loads(path.read_text()), **change}
    del body["fingerprint"]
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    path.write_text(json.dumps({**body, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}))
    refused(saved, "names a file outside its folder")


def fail(*_args: object, **_options: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (store.dcp, "save"),
        (store, "describe"),
        (folder_module.os, "replace"),
        (folder_module, "_sync_folder"),
    ],
)
def test_a_failed_save_leaves_the_previous_one(
    saved: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    run = Run()
    run.step(5)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, fail)
        with pytest.raises(OSError, match="disk full"):
            run.save(saved)
    resumed = Run()
    resumed.load(saved)
    assert resumed.done == 1
    assert len(list(saved.glob("data-*"))) == 2
    run.save(saved)
    resumed.load(saved)
    assert resumed.done == 5
    assert len(list(saved.glob("data-*"))) == 1, "what the failed attempt left is gone"


SAVER = """
import sys
from checkpoint.training import Run
run = Run()
while True:
    run.step()
    run.save(sys.argv[1])
    print(run.done, flush=True)
"""


@pytest.mark.slow
def test_killed_while_saving(tmp_path: Path) -> None:
    """SIGKILL at whatever moment: what is found afterwards loads, and is the last complete save or the one before."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    for attempt in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.023 * attempt)
        process.send_signal(signal.SIGKILL)
        printed = [int(line) for line in process.stdout.read().split()]
        process.wait()
        resumed = Run()
        resumed.load(tmp_path)
        last = max(printed, default=1)
        assert last <= resumed.done <= last + 1
        undisturbed = Run()
        undisturbed.step(resumed.done)
        assert same_bits(resumed.tensors(), undisturbed.tensors())


def test_nothing_but_tensors_is_unpickled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: seen.append(k.get("weights_only")) or real(*a, **k))
    Run().load(saved)
    assert seen
    assert all(flag is True for flag in seen)
