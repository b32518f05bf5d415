import math

import pytest

from lightning_embed.merge import Of, RowGranularity
from tests.merge import toy


def _merged(vectors: list[list[float]], weights: list[float]) -> list[float]:
    found = toy.coefficients(toy.strategy("multislerp"), vectors, weights)
    return [sum(c * v for c, v in zip(found, column, strict=True)) for column in zip(*vectors, strict=True)]


def test_values_a_human_can_check() -> None:
    half = math.sqrt(0.5)
    assert _merged([[2, 0], [0, 4]], [1, 1]) == pytest.approx([3 * half, 3 * half])  # the mean length at 45 degrees
    assert _merged([[1, 0], [0, 1]], [3, 4]) == pytest.approx([0.6, 0.8])  # the weighted mean, on the circle
    assert _merged([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [1, 1, 1]) == pytest.approx([math.sqrt(1 / 3)] * 3)


def test_parallel_vectors_are_averaged() -> None:
    assert _merged([[1, 1], [3, 3]], [1, 3]) == pytest.approx([2.5, 2.5])


def test_a_zero_vector_has_no_direction_but_a_length() -> None:
    assert _merged([[0, 0], [0, 4]], [1, 1]) == pytest.approx([0, 2])


@pytest.mark.parametrize("vectors", [[[1, 0], [-3, 0]], [[1, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]])
def test_vectors_that_cancel_are_averaged(vectors: list[list[float]]) -> None:
    average = [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]
    assert _merged(vectors, [1] * len(vectors)) == pytest.approx(average, abs=1e-9)


def test_defaults_are_those_of_the_paper() -> None:
    how = toy.strategy("multislerp")
    assert (how.of, how.granularity, how.needs_base) == (Of.weights, RowGranularity.tensor, False)
