"""Layouts of model directories, by benchmarks/layouts.py: merged as the reference, or refused with the expected sentence."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import layouts
from layout_list import LAYOUTS, Layout

FAST = ("plain", "0_Transformer", "Dense", "empty tensors", "a vocabulary in a different order", "private files")


@pytest.mark.filterwarnings("ignore")  # of the libraries that write the layouts
@pytest.mark.parametrize(
    "layout",
    [pytest.param(each, marks=[pytest.mark.slow] * (each.name not in FAST), id=each.name) for each in LAYOUTS],
)
def test_each_is_merged_rightly_or_refused(layout: Layout, tmp_path: Path) -> None:
    row = layouts.check(layout, layout.families[0], tmp_path)
    assert row.fault is None, row
