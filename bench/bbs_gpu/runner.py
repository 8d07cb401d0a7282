"""Runs the processes of a report one after another within a budget, and writes the report after each result.

A process and its children are a group of their own, which is ended as a whole. What it has measured is read from its
sheet while it runs, so that the report on disk is valid and complete whenever it is looked at: an item that is at work
reads "cut off", one that has not begun "not reached".
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import document as doc
from .items import Item, Process

POLL = 0.25  # seconds
GRACE = 3.0  # seconds between a request to end and the end; kept free at the end of the budget
TAIL = 60  # lines
PR_SET_PDEATHSIG = 1  # sys/prctl.h
USED_UP = "the budget was used up"

Command = Callable[[Process, Path], Sequence[str]]  # of the process that writes a sheet to the path


class Stopped(BaseException):
    """A signal asked for the end."""


def stop_on(*signals: signal.Signals) -> None:
    """Raise `Stopped` in the main thread when one of them arrives."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(signal.Signals(number).name)

    for number in signals:
        signal.signal(number, stop)


class Runner:
    """One run of a report."""

    def __init__(
        self,
        document: dict[str, Any],
        folder: Path,
        budget: float,
        command: Command,
        *,
        cwd: Path,
        env: Mapping[str, str],
    ) -> None:
        self.document, self.folder, self.budget = document, folder, budget
        self._command, self._cwd, self._env = command, cwd, dict(env)
        self._began = time.monotonic()

    def run(self, processes: Sequence[Process]) -> int:
        """Run them in order; returns the exit status: 1 if an item failed or stopped the rest, 143 after a signal."""
        self.document.update(outcome="cut off", budget=self.budget)
        self.document["began"] = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._save()
        (self.folder / "log.txt").write_text("", encoding="utf-8")
        outcome, share = "complete", 0.0
        try:
            for process in processes:
                share += process.share
                ends = self._ends(process, share)
                if ends <= self._elapsed():
                    outcome = USED_UP
                    self._not_reached(process, outcome)
                    continue
                self._run(process, ends)
                if any(self._found(item)["status"] == doc.CUT_OFF for item in process.items):
                    outcome = USED_UP
                if process.needed and not self._may_go_on(process):
                    outcome = f"stopped: {process.items[0].title.lower()} did not succeed"
                    self._not_reached_after(process, processes, outcome)
                    break
        except Stopped as stopped:
            outcome = f"stopped by {stopped}"
        self.document["outcome"] = outcome
        self._save()
        if outcome.startswith("stopped by"):
            return 128 + signal.SIGTERM
        if outcome.startswith("stopped"):  # cut off, perhaps, but nothing was shown
            return 1
        return int(any(item["status"] == doc.FAILED for item in self.document["items"].values()))

    def _found(self, item: Item) -> dict[str, Any]:
        """The record of an item in the report."""
        found: dict[str, Any] = self.document["items"][item.key]
        return found

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _ends(self, process: Process, share: float) -> float:
        """Seconds after the start by which the process ends, at the latest."""
        return min(max(share, process.until), 1.0) * (self.budget - GRACE)

    def _run(self, process: Process, ends: float) -> None:
        ends_by_limit = self._elapsed() + process.limit
        late = f"took longer than its limit of {process.limit:.0f} s"
        with tempfile.TemporaryDirectory() as folder:
            sheet, output = Path(folder) / "sheet.json", Path(folder) / "output"
            print(
                f"gpu-report: {process.name} (at most {min(ends, ends_by_limit) - self._elapsed():.0f} s)",
                flush=True,
            )
            with output.open("wb") as file:
                child = subprocess.Popen(
                    list(self._command(process, sheet)), cwd=self._cwd, env=self._env, stdout=file,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                    preexec_fn=_end_with_parent,
                )  # fmt: skip
            try:
                self._watch(child, process, sheet, min(ends, ends_by_limit))
                if child.returncode is not None:
                    self._note(
                        process,
                        sheet,
                        f"ended with exit status {child.returncode} before it was done",
                        doc.FAILED,
                    )
                elif ends_by_limit < ends:
                    self._note(process, sheet, late, doc.FAILED)
                else:
                    self._note(process, sheet, USED_UP, doc.CUT_OFF)
            except Stopped as stopped:
                self._note(process, sheet, f"stopped by {stopped}", doc.CUT_OFF)
                raise
            finally:
                _end(child)
                self._keep_output(process, output)

    def _watch(self, child: subprocess.Popen[bytes], process: Process, sheet: Path, ends: float) -> None:
        """Wait until it ends or is late; each new state of its sheet goes into the report."""
        seen = 0
        while self._elapsed() < ends:
            try:
                child.wait(POLL)
                return
            except subprocess.TimeoutExpired:
                changed = sheet.stat().st_mtime_ns if sheet.exists() else 0
                if changed != seen:
                    seen = changed
                    self._note(process, sheet, "cut off while it ran", doc.CUT_OFF, begun_only=True)

    def _note(
        self, process: Process, path: Path, reason: str, status: str, *, begun_only: bool = False
    ) -> None:
        """Merge the sheet into the report; `reason` and `status` are those of the item that is not done."""
        entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        broken = False
        for item in process.items:
            entry, found = entries.get(item.key), self._found(item)
            if entry is None:
                if not begun_only and not broken:  # it ended before this item began
                    found.update(status=status, reason=reason)
                    broken = True
                continue
            found.update({name: entry[name] for name in ("seconds", "data", "failures")})
            if not entry["done"]:
                found.update(status=status, reason=reason)
                broken = True
            elif entry["failures"]:
                found.update(status=doc.FAILED, reason=None, go_on=entry["go_on"])
            elif entry["skipped"]:
                found.update(status=doc.SKIPPED, reason=entry["skipped"])
            else:
                found.update(status=doc.OK, reason=None)
        self._save()

    def _keep_output(self, process: Process, output: Path) -> None:
        """All of it in log.txt, its end in the report where something went wrong, and on the terminal then."""
        text = output.read_text(encoding="utf-8", errors="replace")
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"=== {process.name}\n{text}\n")
        for item in process.items:
            found = self._found(item)
            print(f"gpu-report: {item.key}: {found['status']} {found['reason'] or ''}".rstrip(), flush=True)
            if found["status"] in (doc.FAILED, doc.CUT_OFF):
                found["output"] = text.splitlines()[-TAIL:]
                print("\n".join(found["failures"][:5] or found["output"][-15:]), flush=True)
        self._save()

    def _may_go_on(self, process: Process) -> bool:
        found = [self._found(item) for item in process.items]
        return all(item["status"] in (doc.OK, doc.SKIPPED) or item.get("go_on", False) for item in found)

    def _not_reached(self, process: Process, reason: str) -> None:
        for item in process.items:
            self._found(item).update(status=doc.NOT_REACHED, reason=reason)

    def _not_reached_after(self, last: Process, processes: Sequence[Process], reason: str) -> None:
        for process in processes[processes.index(last) + 1 :]:
            self._not_reached(process, reason)

    def _save(self) -> None:
        self.document["seconds"] = round(self._elapsed(), 1)
        doc.write(self.document, self.folder)


def _end_with_parent() -> None:
    """In the child: be killed when this process is, which cannot end its group then."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the whole group: politely, then not. Children may outlive the process that started them."""
    for number, wait in ((signal.SIGTERM, GRACE / 2), (signal.SIGKILL, None)):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        try:
            child.wait(wait)
        except subprocess.TimeoutExpired:
            continue
    child.wait()
