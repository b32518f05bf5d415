import math

import pytest
import torch

from lightning_embed.errors import ConfigError
from tests.merge import toy
from tests.reference import sphere as reference


def _merged(vectors: list[list[float]], weights: list[float], **options: float) -> list[float]:
    found = toy.coefficients(toy.strategy("karcher", **options), vectors, weights)
    return [sum(c * v for c, v in zip(found, column, strict=True)) for column in zip(*vectors, strict=True)]


def test_values_a_human_can_check() -> None:
    third = math.radians(30)
    assert _merged([[1, 0], [0, 1]], [2, 1]) == pytest.approx([math.cos(third), math.sin(third)])
    assert _merged([[1, 0], [0, 3]], [2, 1]) == pytest.approx([5 / 3 * math.cos(third), 5 / 3 * math.sin(third)])
    angles = [math.radians(degrees) for degrees in (0, 10, 80)]  # on an arc it is the mean angle
    assert _merged([[math.cos(a), math.sin(a)] for a in angles], [1, 1, 1]) == pytest.approx(
        [math.cos(math.radians(30)), math.sin(math.radians(30))]
    )


def test_the_mean_logarithm_vanishes_there() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(4, 6, dtype=torch.float64) + 1
    weights = [0.1, 0.2, 0.3, 0.4]
    merged = torch.tensor(_merged(vectors.tolist(), weights), dtype=torch.float64)
    units = [vector / vector.norm() for vector in vectors]
    assert reference.mean_logarithm(merged / merged.norm(), units, weights).norm() < 1e-7
    assert float(merged.norm()) == pytest.approx(
        sum(w * float(v.norm()) for w, v in zip(weights, vectors, strict=True))
    )


def test_one_iteration_is_the_formula_that_boom_prints() -> None:
    """Exp and log once, at the normalised mean."""
    torch.manual_seed(0)
    vectors = list(torch.randn(3, 6, dtype=torch.float64) + 0.5)
    expected = reference.karcher(vectors, [1, 2, 4], iterations=1)
    found = _merged([vector.tolist() for vector in vectors], [1, 2, 4], max_iterations=1)
    assert found == pytest.approx(expected.tolist())
    assert found != pytest.approx(reference.multislerp(vectors, [1, 2, 4]).tolist(), abs=1e-3)


def test_a_loose_tolerance_stops_early() -> None:
    vectors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.6, 0.0, 0.8]]
    flat = [torch.tensor(vector, dtype=torch.float64) for vector in vectors]
    assert _merged(vectors, [1, 1, 1], tolerance=1.0) == pytest.approx(reference.multislerp(flat, [1, 1, 1]).tolist())


def test_nearly_parallel_vectors() -> None:
    vectors = [[1.0, 0.0], [1.0, 1e-6], [1.0, -3e-6]]
    assert _merged(vectors, [1, 1, 1]) == pytest.approx([1, -2e-6 / 3], rel=1e-6)


def test_a_zero_vector_has_no_direction_but_a_length() -> None:
    assert _merged([[0, 0], [0, 4]], [1, 1]) == pytest.approx([0, 2])


@pytest.mark.parametrize("vectors", [[[1, 0], [-3, 0]], [[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]])
def test_vectors_that_cancel_are_averaged(vectors: list[list[float]]) -> None:
    average = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
    assert _merged(vectors, [1] * len(vectors)) == pytest.approx(average, abs=1e-9)


def test_an_opposite_vector_does_not_pull() -> None:
    assert _merged([[1, 0], [1, 0], [-1, 0]], [1, 1, 1]) == pytest.approx([1, 0])


@pytest.mark.parametrize("options", [{"max_iterations": 0}, {"tolerance": 0.0}, {"tolerance": math.nan}])
def test_refusals(options: dict[str, float]) -> None:
    with pytest.raises(
        ConfigError,
        match=r"merge=karcher(: tolerance=nan must be a finite| needs max_iterations of 1 or more and a tolerance above 0, got)",
    ):
        toy.strategy("karcher", **options)
