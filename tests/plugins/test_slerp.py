import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_embed.merge import Of, RowGranularity, Weighting
from tests.merge import toy
from tests.reference import sphere as reference


def _given(*weights: float, **options: Any) -> Any:
    return toy.strategy("slerp", weighting=Weighting.given, weights=[float(w) for w in weights], **options)


def _coefficients(vectors: list[list[float]], weights: list[float]) -> list[float]:
    return toy.coefficients(toy.strategy("slerp"), vectors, weights)


@pytest.mark.parametrize("of", list(Of))
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 5.0), (1.0, 1.0, 1.0), (0.2, 3.0, 1.5)])
def test_reference_one_angle(of: Any, weights: tuple[float, ...], tmp_path: Path) -> None:
    base, sources = toy.family(len(weights))
    merged = toy.merge(tmp_path, _given(*weights, of=of), sources, base)
    origin = toy.vector(base) if of == "delta" else 0
    expected = reference.slerp([toy.vector(source) - origin for source in sources], weights) + origin
    assert (toy.vector(merged) - expected).abs().max() < 2e-6


def test_values_a_human_can_check() -> None:
    half = 1 / math.sqrt(2)
    assert _coefficients([[1, 0], [0, 1]], [1, 1]) == pytest.approx([half, half])
    assert _coefficients([[1, 0], [0, 1]], [1, 2]) == pytest.approx([0.5, math.sqrt(3) / 2])  # 60 of 90 degrees
    assert _coefficients([[2, 0], [0, 3]], [1, 1]) == pytest.approx([half, half])  # not normalised first


def test_a_larger_weight_is_nearer(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    deltas = [toy.vector(source) - toy.vector(base) for source in sources]

    def nearness(folder: str, *weights: float) -> Tensor:
        merged = toy.merge(tmp_path / folder, _given(*weights), sources, base)
        return torch.cosine_similarity(toy.vector(merged) - toy.vector(base), deltas[1], dim=0)

    assert nearness("little", 3, 1) < nearness("even", 1, 1) < nearness("much", 1, 3)


def test_norm_is_kept_between_equal_norms() -> None:
    vectors = [[1.0, 0.0, 0.0], [math.cos(2), math.sin(2), 0.0], [0.0, math.cos(1), math.sin(1)]]
    merged = torch.tensor(_coefficients(vectors, [1, 2, 3])) @ torch.tensor(vectors)
    assert float(merged.norm()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("right", [[2.0, 0.0], [1.0, 1e-9], [-1.0, 0.0], [0.0, 0.0]])
def test_where_no_arc_is_defined_the_line_is(right: list[float]) -> None:
    assert _coefficients([[1.0, 0.0], right], [1, 3]) == pytest.approx([0.25, 0.75], abs=1e-6)


def test_small_angle_is_the_weighted_average() -> None:
    vectors = [[1.0, 0.0], [1.0, 1e-4], [1.0, -1e-4]]
    assert _coefficients(vectors, [1, 2, 5]) == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=1e-7)


@pytest.mark.parametrize("weights", [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
def test_weight_zero_leaves_a_source_out(weights: list[float]) -> None:
    assert _coefficients([[1, 0, 0], [0, 1, 0], [1, 1, 1]], weights) == pytest.approx(weights)


def test_zero_tensors_survive(tmp_path: Path) -> None:
    base, sources = toy.family(2)
    sources[0]["encoder.layer.0.dense.bias"] = base["encoder.layer.0.dense.bias"]  # the delta of one source is zero
    how = toy.strategy("slerp", granularity=RowGranularity.tensor)
    merged = toy.merge(tmp_path, how, sources, base)
    name = "encoder.layer.0.dense.bias"
    torch.testing.assert_close(merged[name], (sources[0][name] + sources[1][name]) / 2)
    assert torch.equal(merged[toy.ZERO], base[toy.ZERO])
