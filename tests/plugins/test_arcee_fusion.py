import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge.blocks import stream
from tests.merge import toy
from tests.reference import task_vectors as reference

SHAPES = {"matrix": (12, 16), "convolution": (4, 3, 5), "vector": (40,), "column": (6, 1), "one": (1,), "scalar": ()}


def _pair(seed: int, distance: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    moved = {name: t + distance * torch.randn(t.shape, generator=generator) ** 3 for name, t in base.items()}
    return base, moved


def _expected(base: dict[str, Tensor], source: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: reference.arcee_fusion(base[name].double(), source[name].double()) for name in base}


@pytest.mark.parametrize("distance", [1e-5, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_reference(seed: int, distance: float, tmp_path: Path) -> None:
    base, source = _pair(seed, distance)
    merged = toy.merge(tmp_path, toy.strategy("arcee_fusion"), [source], base)
    for name, expected in _expected(base, source).items():
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("elements", [1, 16, 50])
def test_blocks_end_anywhere(elements: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, source = _pair(3, 0.1)
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", elements)
    merged = toy.merge(tmp_path, toy.strategy("arcee_fusion"), [source], base)
    for name, expected in _expected(base, source).items():
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-6, atol=1e-6)


def test_elements_are_the_source_s_or_the_base_s(tmp_path: Path) -> None:
    base, source = _pair(0, 0.1)
    merged = toy.merge(tmp_path, toy.strategy("arcee_fusion"), [source], base)
    taken = (merged["matrix"] - base["matrix"]).abs() > 1e-5
    torch.testing.assert_close(merged["matrix"], torch.where(taken, source["matrix"], base["matrix"]))
    assert 0 < int(taken.sum()) < taken.numel() / 4  # 1.5 interquartile ranges above the median


def test_a_row_that_only_shifts_has_no_importance(tmp_path: Path) -> None:
    """Softmax does not see a constant: the divergence of that row is 0, however far it went."""
    base, source = _pair(0, 0.01)
    source["matrix"][0] = base["matrix"][0] + 5
    merged = toy.merge(tmp_path, toy.strategy("arcee_fusion"), [source], base)
    torch.testing.assert_close(merged["matrix"][0], base["matrix"][0])


def test_plan_is_a_threshold_per_parameter(tmp_path: Path) -> None:
    base, source = _pair(0, 0.1)
    toy.merge(tmp_path, toy.strategy("arcee_fusion"), [source], base)
    plan = json.loads((tmp_path / "merged/merge.json").read_text())["plan"]
    assert plan["thresholds"].keys() == SHAPES.keys()
    assert plan["thresholds"]["scalar"] == plan["thresholds"]["one"] == 0  # a row of one: all of it is kept


def test_one_source() -> None:
    with pytest.raises(ConfigError, match=r"merge=arcee_fusion takes 1 sources, got 3"):
        toy.strategy("arcee_fusion").validate_inputs([None] * 3, True, False)
    with pytest.raises(ConfigError, match=r"merge=arcee_fusion needs the base"):
        toy.strategy("arcee_fusion").validate_inputs([None], False, False)
