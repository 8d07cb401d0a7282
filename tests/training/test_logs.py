"""metrics.csv after a kill: whole rows up to the checkpoint, nothing twice; what TensorBoard shows."""

import pytest

from basket_softmax.training.logs import CsvLog, TensorBoardLog
from basket_softmax.training.state import ResumeError

ROWS = [{"step": step, "loss": step / 3, "note": "a,b"} for step in (2, 4, 6, 8)]
TEXT = 'step,loss,note\n2,0.666666667,"a,b"\n4,1.33333333,"a,b"\n6,2,"a,b"\n8,2.66666667,"a,b"\n'


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    for row in ROWS:
        log.write(row)
    return path


def test_rows(path):
    assert path.read_text() == TEXT


@pytest.mark.parametrize("tail", ["", "1", "10,3.", '10,3,"a', "10,3.33,x\n12,4,y\n14,"])
def test_later_rows_and_a_cut_line_are_removed(path, tail):
    with open(path, "a") as file:
        file.write(tail)
    log = CsvLog(path, step=5)
    assert path.read_text() == "".join(TEXT.splitlines(keepends=True)[:3])
    log.write(ROWS[2])
    log.write(ROWS[3])
    assert path.read_text() == TEXT


def test_a_new_run_starts_empty(path):
    CsvLog(path).write(ROWS[0])
    assert path.read_text() == TEXT[: TEXT.index("4,")]


@pytest.mark.parametrize("text", ["", "step,lo", "step,loss,note\n", "step,loss,note\n8,1,x\n"])
def test_nothing_is_left(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    log = CsvLog(path, step=3)
    assert not path.exists()
    log.write(ROWS[0])
    assert path.read_text().startswith("step,loss,note\n2,")


def test_a_log_that_is_not_utf8_is_named(path):
    path.write_bytes(path.read_bytes() + b"\xff\xfe,1,x\n")
    with pytest.raises(ResumeError, match=r"metrics\.csv is not the log that the run wrote"):
        CsvLog(path, step=5)


def test_other_columns(path):
    with pytest.raises(ValueError, match=r"has the columns \['step', 'loss', 'note'\], the row \['step'\]"):
        CsvLog(path, step=8).write({"step": 9})


def test_tensorboard_shows_every_step_once(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for start, steps in ((0, (1, 2, 3, 4)), (2, (3, 4, 5))):  # killed after step 4, resumed from step 2
        log = TensorBoardLog(tmp_path, start)
        for step in steps:
            log.write({"step": step, "epoch": 1, "loss": float(start + step)}, "train")
        log.close()
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [
        (1, 1),
        (2, 2),
        (3, 5),
        (4, 6),
        (5, 7),
    ]


@pytest.mark.parametrize(
    "text", ["mine,1\n", "mine", 'mine,"1\n', "step,loss\nx,1\n", "\n", "loss,step\n1\n"]
)
def test_a_log_that_is_not_the_runs_is_named_and_kept(path, text):
    path.write_text(text)
    with pytest.raises(ResumeError, match=r"metrics\.csv is not the log that the run wrote"):
        CsvLog(path, step=5)
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\nb", "a\rb", 'a"b', "a\x0cb"])
def test_a_column_of_any_name_survives_a_resume(tmp_path, name):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    for step in (1, 2, 3):
        log.write({"step": step, f"share/{name}": 0.5})
    whole = path.read_bytes()
    with open(path, "ab") as file:
        file.write(b"4,0.")
    log = CsvLog(path, step=2)
    log.write({"step": 3, f"share/{name}": 0.5})
    assert path.read_bytes() == whole
    assert log.last() == {"step": 3, f"share/{name}": 0.5}


def test_the_last_row(path, tmp_path):
    assert CsvLog(path, step=6).last() == {"step": 6, "loss": 2, "note": "a,b"}
    assert CsvLog(tmp_path / "none.csv").last() == {}
