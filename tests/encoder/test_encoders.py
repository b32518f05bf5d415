"""Embedding models of many kinds, by benchmarks/encoders.py: trained and saved, and read the same by other libraries."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import encoders
from encoder_list import CONFIGURATIONS
from encoder_models import POOLINGS, Configuration

HALF = {found.family: found for found in CONFIGURATIONS}
"""The last one of each family."""
QUICK = ("bert", "xlm-roberta", "mpnet", "modernbert", "t5", "gemma2", "gemma3_text", "qwen3")


def assert_without_fault(found: Configuration, folder: Path, cells: tuple[str, ...]) -> None:
    outcome = encoders.check(found, folder, cells)
    assert {name: cell.fault for name, cell in outcome.items() if cell.fault} == {}


@pytest.mark.filterwarnings("ignore")  # of the libraries that write the models
@pytest.mark.parametrize("family", QUICK)
def test_other_libraries_read_what_was_trained(family: str, tmp_path: Path) -> None:
    assert_without_fault(HALF[family], tmp_path, ("packed", "padded"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", HALF)
def test_every_family_in_every_way(family: str, tmp_path: Path) -> None:
    assert_without_fault(HALF[family], tmp_path, encoders.CELLS)


def test_names_are_unique_and_every_value_is_there_twice() -> None:
    assert len({found.name for found in CONFIGURATIONS}) == len(CONFIGURATIONS)
    assert {found.pooling for found in CONFIGURATIONS} == set(POOLINGS)
    for value in ("pooling", "head", "prompt", "tokens", "whole"):
        counts = Counter(getattr(found, value) for found in CONFIGURATIONS)
        assert min(counts.values()) > 1, counts
