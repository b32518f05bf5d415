from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import ALL, TensorGranularity
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe
from tests.reference import data_merges as reference


def _layers(tensors: toy.Tensors, granularity: str) -> dict[str, list[int]]:
    """Layer -> its elements of `toy.vector`."""
    found: dict[str, list[int]] = {}
    place = 0
    for name in sorted(n for n, t in tensors.items() if t.is_floating_point()):
        layer = ".".join(name.split(".")[:3]) if name.startswith("encoder") else "embeddings"
        key = {"model": ALL, "layer": layer, "tensor": name}[granularity]
        found.setdefault(key, []).extend(range(place, place + tensors[name].numel()))
        place += tensors[name].numel()
    return found


@pytest.mark.parametrize("granularity", list(TensorGranularity))
@pytest.mark.parametrize("count", [2, 3])
def test_search_equals_a_search_through_the_weights(granularity: TensorGranularity, count: int) -> None:
    base, sources = toy.family(count)
    probe = QuadraticProbe.around(base)
    how = toy.strategy("adamerging", granularity=granularity, steps=30, learning_rate=0.02, scale=0.4)
    models = [toy.InMemory(source) for source in sources]
    plan = how.prepare(models, toy.InMemory(base), probe, toy.Curves())

    def loss(model: Tensor, step: int) -> Tensor:
        target = probe.targets[step % 2]
        return (model - toy.vector({**base, **target})).square().sum() / sum(t.numel() for t in target.values())

    layers = _layers(base, granularity)
    deltas = [toy.vector(source) - toy.vector(base) for source in sources]
    expected = reference.adamerging(toy.vector(base), deltas, list(layers.values()), loss, 30, 0.02, 0.4)
    assert plan["c"].keys() == layers.keys()
    for layer, row in zip(layers, expected.tolist(), strict=True):
        assert plan["c"][layer] == pytest.approx(row, abs=1e-4)


def test_starts_at_task_arithmetic(tmp_path: Path) -> None:
    base, sources = toy.family(3)
    how: Any = toy.strategy("adamerging", steps=1, learning_rate=1e-12)
    merged = toy.merge(tmp_path / "ours", how, sources, base, probe=QuadraticProbe.around(base))
    toy.close(merged, toy.merge(tmp_path / "start", toy.strategy("task_arithmetic", scale=0.3), sources, base), 1e-6)


def test_the_merged_model_is_better_than_the_start(tmp_path: Path) -> None:
    base, sources = toy.family(3)
    probe = QuadraticProbe([{name: sources[1][name] for name in toy.SHAPES}])
    merged = toy.merge(tmp_path, toy.strategy("adamerging", steps=100, learning_rate=0.02), sources, base, probe=probe)
    start = {n: base[n] + 0.3 * sum((s[n] - base[n] for s in sources), torch.zeros(())) for n in toy.SHAPES}
    assert probe.loss(merged, 0) < 0.05 * probe.loss(start, 0)


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_refusal(scale: float) -> None:
    with pytest.raises(ConfigError, match=r"merge=adamerging: scale=.* must be a finite number"):
        toy.strategy("adamerging", scale=scale)
