"""Layouts of model directories, by benchmarks/layouts.py: merged as the reference, or refused with the expected sentence."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _script() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks/layouts.py"
    spec = importlib.util.spec_from_file_location("layouts", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


layouts = _script()
FAST = ("plain", "0_Transformer", "Dense", "empty tensors", "a vocabulary in a different order", "private files")
ROWS = [
    pytest.param(found, marks=[] if found.name in FAST else [pytest.mark.slow], id=found.name)
    for found in layouts.LAYOUTS
]


@pytest.mark.filterwarnings("ignore")  # of the libraries that write the layouts
@pytest.mark.parametrize("layout", ROWS)
def test_each_is_merged_rightly_or_refused(layout: "layouts.Layout", tmp_path: Path) -> None:
    layouts.quiet()
    row = layouts.check(layout, layout.families[0], tmp_path)
    assert row.fault is None, row
