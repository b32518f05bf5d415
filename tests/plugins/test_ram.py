import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import TensorGranularity
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference


def _sparse_family(count: int, share: float) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Sources of which each changed a share of the elements, some of them by less than a threshold of 0.02."""
    base, sources = toy.family(count)
    generator = torch.Generator().manual_seed(count)
    for source in sources:
        for name, shape in toy.SHAPES.items():
            mask = torch.rand(shape, generator=generator) < share
            source[name] = torch.where(mask, source[name], base[name])
    return base, sources


def _deltas(base: dict[str, Tensor], sources: Sequence[dict[str, Tensor]], names: Sequence[str]) -> list[list[Tensor]]:
    return [[source[name].double() - base[name].double() for name in names] for source in sources]


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
@pytest.mark.parametrize(("rescale", "max_ratio"), [(0.0, 1.0), (0.2, 1.0), (0.5, 0.1), (1.0, 10.0)])
def test_reference(count: int, share: float, rescale: float, max_ratio: float, tmp_path: Path) -> None:
    base, sources = _sparse_family(count, share)
    how = toy.strategy("ram", threshold=0.02, rescale=rescale, max_ratio=max_ratio)
    merged = toy.merge(tmp_path, how, sources, base)
    names = list(toy.SHAPES)
    expected = reference.ram(_deltas(base, sources, names), 0.02, rescale, max_ratio)
    for name, delta in zip(names, expected, strict=True):
        torch.testing.assert_close(
            merged[name].double().flatten(), base[name].double().flatten() + delta, rtol=0, atol=1e-6
        )


def test_counted_in_each_tensor(tmp_path: Path) -> None:
    base, sources = _sparse_family(3, 0.4)
    how = toy.strategy("ram", rescale=0.5, granularity=TensorGranularity.tensor)
    merged = toy.merge(tmp_path, how, sources, base)
    for name in toy.SHAPES:
        (delta,) = reference.ram(_deltas(base, sources, [name]), 1e-5, 0.5, 1.0)
        torch.testing.assert_close(
            merged[name].double().flatten(), base[name].double().flatten() + delta, rtol=0, atol=1e-6
        )


def test_values_a_human_can_check() -> None:
    deltas = [[1.0, 1.0, 1.0, 0.0, 0.0], [3.0, 0.0, 0.0, 2.0, 0.0]]
    assert block.merge(toy.strategy("ram", rescale=0.0), deltas).tolist() == [2, 1, 1, 2, 0]
    # one element is shared; the first has two of its own, the second one
    assert block.merge(toy.strategy("ram", rescale=0.5), deltas).tolist() == [2, 1.25, 1.25, 3, 0]
    assert block.merge(toy.strategy("ram", rescale=0.5, max_ratio=0.5), deltas).tolist() == [2, 1.25, 1.25, 2.5, 0]


def test_changes_up_to_the_threshold_are_none() -> None:
    how = toy.strategy("ram", threshold=0.25, rescale=0.0)
    assert block.merge(how, [[0.25, -0.25, 0.5], [1.0, -0.5, -1.0]]).tolist() == [1.0, -0.5, -0.25]


def test_dense_changes_give_the_soup(tmp_path: Path) -> None:
    base, sources = toy.family(3)
    merged = toy.merge(tmp_path / "ram", toy.strategy("ram"), sources, base)
    toy.close(merged, toy.merge(tmp_path / "soup", toy.strategy("soup"), sources, base), 1e-6)


def test_plan(tmp_path: Path) -> None:
    base = {"w": torch.zeros(4)}
    sources = [{"w": torch.tensor([1.0, 1, 1, 0])}, {"w": torch.tensor([1.0, 1, 0, 0])}]
    toy.merge(tmp_path / "plus", toy.strategy("ram"), sources, base)
    plan = json.loads((tmp_path / "plus/merged/merge.json").read_text())["plan"]
    assert plan == {"factors": {"*": [1.2, 1.0]}}  # nothing of the second is its own
    toy.merge(tmp_path / "ram", toy.strategy("ram", rescale=0.0), sources, base)
    assert json.loads((tmp_path / "ram/merged/merge.json").read_text())["plan"] == {"factors": {"*": [1.0, 1.0]}}


@pytest.mark.parametrize("option", ["threshold", "rescale", "max_ratio"])
@pytest.mark.parametrize("value", [-0.1, -1e-3])
def test_refused_numbers(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"merge=ram: {option}={value} must be at least 0"):
        toy.strategy("ram", **{option: value})


def test_no_base() -> None:
    with pytest.raises(ConfigError, match=r"merge=ram needs the base and got none"):
        toy.strategy("ram").validate_inputs([None, None], False, False)
