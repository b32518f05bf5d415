from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.errors import ConfigError
from lightning_embed.merge import Batches, Weighting
from lightning_embed.merge.blocks import stream
from tests.merge import toy
from tests.merge.toy_probe import QuadraticProbe, RegressionProbe
from tests.reference import data_merges as reference


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [1.0, 1.0, 1.0]),
        ({"weighting": Weighting.given, "weights": [1.0, 0.0, 3.0], "num_batches": 2}, [1.0, 0.0, 3.0]),
    ],
)
def test_reference(
    options: dict[str, Any], weights: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK_ELEMENTS", 13)
    base, sources = toy.family(3)
    probe = QuadraticProbe.around(base, num_tasks=4)
    merged = toy.merge(tmp_path, toy.strategy("fisher", **options), sources, base, probe=probe)

    def gradients(source: toy.Tensors) -> list[Tensor]:
        count = options.get("num_batches", 4)
        return [toy.vector(base | _zeros(base) | probe.loss_and_gradient(source, b)[1]) for b in range(count)]

    expected = reference.fisher([toy.vector(s) for s in sources], [gradients(s) for s in sources], weights)
    assert (toy.vector(merged) - expected).abs().max() < 1e-5


def _zeros(tensors: toy.Tensors) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items() if tensor.is_floating_point()}


def test_finds_the_joint_optimum_of_regressions_along_the_axes(tmp_path: Path) -> None:
    """With as many errors above as below each source's fit, F is four times its curvature, and the fit its optimum."""
    optima = {"one": torch.tensor([[1.0, -2.0, 0.5]]), "two": torch.tensor([[3.0, 1.0, -1.0]])}
    scales = {"one": [1.0, 2.0, 0.5], "two": [3.0, 1.0, 1.0]}
    data: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for task, optimum in optima.items():
        rows = torch.diag(torch.tensor(scales[task]))
        data[task] = [(x[None], x[None] @ optimum.T + error) for x in rows for error in (1, -1)]
    x, y = (torch.cat([torch.cat([batch[part] for batch in found]) for found in data.values()]) for part in (0, 1))
    best = torch.linalg.lstsq(x, y).solution.T
    merged = toy.merge(
        tmp_path,
        toy.strategy("fisher", batches=Batches.own),
        [{"head.weight": optima["one"]}, {"head.weight": optima["two"]}],
        probe=RegressionProbe(data),
        names=list(optima),
    )
    torch.testing.assert_close(merged["head.weight"], best)


def test_without_a_gradient_it_is_the_weighted_average(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    name = "encoder.layer.0.dense.bias"
    probe = QuadraticProbe([{n: base[n] for n in toy.SHAPES if n != name}])
    how = toy.strategy("fisher", weighting=Weighting.given, weights=[1.0, 3.0])
    merged = toy.merge(tmp_path, how, sources, base, probe=probe)
    torch.testing.assert_close(merged[name], (sources[0][name] + 3 * sources[1][name]) / 4)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"merge=fisher: num_batches=0 must be at least 1"):
        toy.strategy("fisher", num_batches=0)
    with pytest.raises(ConfigError, match=r"merge=fisher: weights=\[2.0, -1.0\] has a negative number"):
        toy.strategy("fisher", weighting=Weighting.given, weights=[2.0, -1.0])
    with pytest.raises(ConfigError, match=r"merge=fisher needs data, and the run has none"):
        toy.strategy("fisher").validate_inputs([None] * 2, True, False)
    base, sources = toy.family(2)
    models = [toy.InMemory(source, f"s{number}") for number, source in enumerate(sources)]
    with pytest.raises(ConfigError, match=r"'s0' is none of the probe's tasks: task 0, task 1. Use batches=all"):
        toy.strategy("fisher", batches=Batches.own).prepare(models, None, QuadraticProbe.around(base), toy.Curves())
