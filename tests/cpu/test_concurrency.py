"""Several Python threads at once, autograd's own threads, and worker processes that were forked."""

from __future__ import annotations

import sys
import threading

import pytest
import torch

from .problem import make
from .test_determinism import digest, everything


def test_python_threads() -> None:
    problems = [make(rows=40, depth=24, sizes=(300, 97 + i), seed=i) for i in range(4)]
    want = [digest(everything(problem)) for problem in problems]
    wrong: list[object] = []
    start = threading.Barrier(4)

    def work(i: int) -> None:
        try:
            start.wait()
            for _ in range(5):
                if digest(everything(problems[i])) != want[i]:
                    wrong.append(i)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not wrong


class Rows(torch.utils.data.Dataset):
    """Runs the ops where an item is made."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> str:
        return digest(everything(make(rows=20, sizes=(250, 60), seed=i)))


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_forked_data_loader_worker() -> None:
    want = [Rows()[i] for i in range(4)]  # the parent's thread pool exists before the fork
    loader = torch.utils.data.DataLoader(
        Rows(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    assert list(loader) == want


def test_error_in_one_call_leaves_the_next_alone() -> None:
    problem = make()
    want = digest(everything(problem))
    for _ in range(3):
        with pytest.raises(RuntimeError):
            problem.replace(labels=problem.labels + 10_000).kernel()
        assert digest(everything(problem)) == want
