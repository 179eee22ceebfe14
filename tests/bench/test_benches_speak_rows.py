"""Each benchmark has `run` and `rows`; the quick ones really give rows that can be told apart."""

import importlib

import pytest

from . import scale
from .__main__ import OTHERS, SPEED
from .compare import compare
from .rows import Row


@pytest.mark.parametrize("name", SPEED + OTHERS)
def test_a_benchmark_measures_and_speaks_in_rows(name: str) -> None:
    module = importlib.import_module(f".{name}", __package__)
    assert callable(module.run) and callable(module.rows)


def test_a_small_scale_gives_rows_that_agree_with_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    rows = scale.rows(scale.run(shards=200))
    assert all(isinstance(row, Row) and row.value >= 0 for row in rows)
    assert all(change.gain == 1 for change in compare(rows, rows).changes)
    units = {row.name: row.unit for row in rows}
    assert units["scale: manifest, MB"] == "MB" and units["scale: a position, us"] == "us"
