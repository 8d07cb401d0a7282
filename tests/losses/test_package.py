"""What `import basket_softmax` offers, and that it stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import basket_softmax as bs


def test_every_public_name_is_there_and_documented() -> None:
    for name in bs.__all__:
        assert getattr(bs, name).__doc__, name
    assert set(bs.__all__) <= set(dir(bs))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bs.nothing


def test_import_loads_no_submodule_it_does_not_need() -> None:
    code = (
        "import sys, basket_softmax as bs\n"
        "lazy = ['compat', 'data', 'demo', 'evaluation', 'cli']\n"
        "assert not [m for m in lazy if f'basket_softmax.{m}' in sys.modules]\n"
        "assert not [m for m in ('matplotlib', 'rich', 'pytorch_metric_learning', 'sklearn') if m in sys.modules]\n"
        "assert bs.evaluation is sys.modules['basket_softmax.evaluation']\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_check_has_nothing_pending_on_the_cpu() -> None:
    assert bs.check() is None
