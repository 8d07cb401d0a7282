"""Ctrl-C in the middle of the demo: what was finished is written, and no worker is left behind."""

from __future__ import annotations

import json
import multiprocessing

import pytest

from basket_softmax.demo import run, run_demo


@pytest.mark.slow
def test_finished_trainings_are_written_before_it_ends(tmp_path, monkeypatch, capsys):
    real_wait, finished = run.wait, []

    def wait_then_interrupt(*arguments, **options):
        if finished:  # the demo has taken these in; the next wait is where Ctrl-C arrives
            raise KeyboardInterrupt
        done, pending = real_wait(*arguments, **options)
        finished.extend(done)
        return done, pending

    monkeypatch.setattr(run, "wait", wait_then_interrupt)
    with pytest.raises(SystemExit) as ended:
        run_demo(seeds=[0, 1], output=tmp_path, steps=2)
    assert ended.value.code == 130
    rows = json.loads((tmp_path / "results.json").read_text())
    assert len(rows) == len(finished) < 14
    assert f"interrupted: {len(rows)} of 14 trainings finished" in capsys.readouterr().out
    for child in multiprocessing.active_children():  # told to end; on a busy machine that takes a moment
        child.join(30)
    assert not multiprocessing.active_children()
