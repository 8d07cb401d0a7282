"""Several processes save to one folder: one after the other, and a reader finds a valid checkpoint at any moment."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import basket_softmax as bs
from basket_softmax import file_lock
from basket_softmax.checkpoint import folder as folder_module
from checkpoint.training import Run

SAVER = """
import sys
import basket_softmax as bs
seed, rounds = int(sys.argv[2]), int(sys.argv[3])
head = bs.ArcFaceLoss(500, 16)
head.weight.data.fill_(seed)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(rounds):
    bs.checkpoint.save(sys.argv[1], head, extra={"seed": seed})
print("done", flush=True)
"""


def saver(folder: Path, seed: int, rounds: int) -> subprocess.Popen:
    """A process that saves centres of `seed` once it is told to begin."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(folder), str(seed), str(rounds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def loaded(folder: Path) -> int:
    """The seed of the checkpoint, all of whose parts are of one writer."""
    head = bs.ArcFaceLoss(500, 16)
    seed = bs.checkpoint.load(folder, head)["seed"]
    assert (head.weight == seed).all()
    return seed


@pytest.mark.slow
def test_two_processes_and_a_reader(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    bs.checkpoint.save(folder, bs.ArcFaceLoss(500, 16), extra={"seed": 0})
    processes = [saver(folder, seed, 12) for seed in (1, 2)]
    head = bs.ArcFaceLoss(500, 16)
    seen = set()
    for process in processes:
        begin(process)
    while any(process.poll() is None for process in processes):
        extra = bs.checkpoint.load(folder, head)
        if extra["seed"]:
            assert (head.weight == extra["seed"]).all()
        assert bs.checkpoint.inspect(folder).num_classes == 500
        seen.add(extra["seed"])
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
        assert printed == "done\n"
    assert loaded(folder) in (1, 2)
    assert seen & {1, 2}
    bs.checkpoint.save(folder, head)
    assert len(list(folder.glob("data-*"))) == 1
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("data-")) == [
        ".checkpoint.lock", "checkpoint.json"
    ]  # fmt: skip


@pytest.mark.slow
def test_one_that_hangs_is_named_and_one_that_was_killed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it holds the lock."""
    process = saver(tmp_path, 1, 100_000)
    begin(process)
    # Not in the moment between taking the lock and writing the name.
    while str(process.pid) not in (file_lock.lock_holder(tmp_path / ".checkpoint.lock") or ""):
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(folder_module, "WAIT", 0.2)
    head = bs.ArcFaceLoss(500, 16)
    with pytest.raises(
        bs.checkpoint.CheckpointError,
        match=rf"is being written by process {process.pid} on .*, for more than 0\.2 s: end that process",
    ):
        bs.checkpoint.save(tmp_path, head)
    process.kill()
    process.wait()
    bs.checkpoint.save(tmp_path, head, extra={"seed": 5})
    assert bs.checkpoint.load(tmp_path, head) == {"seed": 5}
    assert len(list(tmp_path.glob("data-*"))) == 1, "what the killed one left is gone"


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def save(seed: int) -> None:
        try:
            head = bs.ArcFaceLoss(500, 16)
            head.weight.data.fill_(seed)
            for _ in range(5):
                bs.checkpoint.save(tmp_path, head, extra={"seed": seed})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert loaded(tmp_path) in (1, 2, 3)


def test_data_that_is_read_stays_until_it_was_read(saved: Path) -> None:
    run = Run()
    run.step(3)
    with folder_module.reading(saved) as manifest:
        run.save(saved)
        folder_module.verify(saved, manifest)
        assert bs.checkpoint.inspect(saved).data != manifest.data
    run.save(saved)
    assert not (saved / manifest.data).exists()
    assert len(list(saved.glob("data-*"))) == 1


def test_a_reader_that_was_overtaken_reads_the_new_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is replaced, and its data removed, between a look at the manifest and at the data."""
    run, read = Run(), folder_module.read_manifest
    old = read(saved)
    run.step(4)

    def late(folder: Path):
        manifest = read(folder)
        if manifest.data == old.data:
            with monkeypatch.context() as patch:
                patch.setattr(folder_module, "read_manifest", read)
                run.save(saved)
        return manifest

    monkeypatch.setattr(folder_module, "read_manifest", late)
    resumed = Run(seed=1)
    resumed.load(saved)
    assert resumed.done == 4
    assert not (saved / old.data).exists()


def test_without_locks_a_writer_removes_what_it_replaces_and_no_more(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other data may be what another process is about to complete."""

    def refuse(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    old = bs.checkpoint.inspect(saved).data
    shutil.copytree(saved / old, saved / "data-000000000000")
    run = Run()
    run.step(2)
    with monkeypatch.context() as patch:
        patch.setattr(file_lock.fcntl, "flock", refuse)
        with pytest.warns(UserWarning, match="has no locks"):
            run.save(saved)
        resumed = Run()
        resumed.load(saved)
    assert resumed.done == 2
    assert not (saved / old).exists()
    assert (saved / "data-000000000000").exists()
    run.save(saved)
    assert not (saved / "data-000000000000").exists()


def test_manifests_that_crashed_attempts_left_are_removed(saved: Path) -> None:
    (saved / "checkpoint.json.0123abcd.new").write_text("{")
    run = Run()
    run.save(saved)
    assert not list(saved.glob("*.new"))
    assert torch.equal(run.head.weight, Run().head.weight)
